//! The dates of certificates: backdated against skew, never outside of the issuer's.

use std::time::Duration;

pub use crate::issuance::BACKDATING;
use crate::{
    planted::{self, Bug},
    time::Timestamp,
};

/// The last second that X.509 can express (RFC 5280 section 4.1.2.5): 9999-12-31T23:59:59Z.
const END_OF_TIME: Timestamp = Timestamp::from_seconds(253_402_300_799);

/// The first and the last second of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: Timestamp,
    /// The last second.
    pub not_after: Timestamp,
}

/// No time is left within the issuer's dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a certificate signed at {now} would end at {ends_at}: its issuer or root ends then")]
pub struct NoTimeLeft {
    /// When it would be signed.
    pub now: Timestamp,
    /// When it would end.
    pub ends_at: Timestamp,
}

impl Validity {
    /// Every date: the bounds of a root.
    pub const UNBOUNDED: Self = Self { not_before: Timestamp::EPOCH, not_after: END_OF_TIME };

    /// The time that both have in common.
    pub fn within(self, other: Self) -> Self {
        Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after).min(END_OF_TIME),
        }
    }

    /// The dates of a certificate that is signed now: to the second, backdated, and within these bounds. The whole life is
    /// never longer than the whole seconds of `ttl` and the backdating.
    pub fn starting(self, now: Timestamp, ttl: Duration) -> Result<Self, NoTimeLeft> {
        let asked = Self {
            not_before: now.minus(BACKDATING).floor_to_second(),
            not_after: now.floor_to_second().plus(Duration::from_secs(ttl.as_secs())),
        };
        let is_unbounded = planted::is(Bug::LeafOutlivesIssuer);
        let dates = if is_unbounded { asked } else { asked.within(self) };
        if dates.not_after <= now || dates.not_after <= dates.not_before {
            return Err(NoTimeLeft { now, ends_at: dates.not_after });
        }
        Ok(dates)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn dates_never_leave_the_bounds(now in 0..1_u64 << 43, ttl in 0..1_u64 << 40, first in 0..1_u64 << 43, life in 0..1_u64 << 40) {
            let bounds = Validity { not_before: Timestamp(first), not_after: Timestamp(first).plus(Duration::from_millis(life)) };
            let now = Timestamp(now);
            let ttl = Duration::from_millis(ttl);
            if let Ok(dates) = bounds.starting(now, ttl) {
                prop_assert!(bounds.not_before <= dates.not_before && dates.not_after <= bounds.not_after);
                prop_assert!(dates.not_before < dates.not_after && now < dates.not_after);
                prop_assert!(dates.not_after <= now.plus(ttl));
                prop_assert!(dates.not_after.since(dates.not_before) <= ttl + BACKDATING);
            }
        }
    }

    #[test]
    fn a_certificate_begins_a_minute_ago_but_not_before_its_issuer() {
        let now = Timestamp(1_000_000_999);
        let dates = Validity::UNBOUNDED.starting(now, Duration::from_secs(3600)).unwrap();
        assert_eq!(dates, Validity { not_before: Timestamp(999_940_000), not_after: Timestamp(1_003_600_000) });
        let young = Validity { not_before: Timestamp(999_990_000), ..Validity::UNBOUNDED };
        assert_eq!(young.starting(now, Duration::from_secs(3600)).unwrap().not_before, Timestamp(999_990_000));
    }

    #[test]
    fn nothing_is_signed_under_an_expired_issuer() {
        let old = Validity { not_before: Timestamp::EPOCH, not_after: Timestamp(1_000_000_000) };
        let refusal = old.starting(Timestamp(1_000_000_000), Duration::from_secs(1)).unwrap_err();
        assert_eq!(refusal.ends_at, Timestamp(1_000_000_000));
        assert!(Validity::UNBOUNDED.starting(Timestamp(u64::MAX), Duration::from_secs(1)).is_err());
        let far = Validity::UNBOUNDED.starting(Timestamp(1_000_000_000), Duration::MAX).unwrap();
        assert_eq!(far.not_after, END_OF_TIME);
    }
}
