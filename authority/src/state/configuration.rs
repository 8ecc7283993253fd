//! The CA configuration with the schedule of rotations: compared and set as a whole, together with the rotation that it means.

use std::time::Duration;

use super::{Change, State, check};
use crate::{
    ca_config::CaConfig,
    id::Revision,
    key::KeyKind,
    outcome::{Outcome, Rejection, WatchKey},
    rotation::{ROTATION_PERIOD_LEAVES_MIN, ROTATION_PERIOD_MAX, RotationRequest},
};

impl State {
    /// The time from one activation to the next rotation; `None`: an operator begins each.
    pub const fn rotation_period(&self) -> Option<Duration> {
        self.rotation_period
    }

    pub(super) fn set_rotation_period(
        &mut self,
        change: &mut Change,
        period: Option<Duration>,
    ) -> Result<Outcome, Rejection> {
        self.only_in_primary("the CA configuration")?;
        check_rotation_period(period, self.config.config.leaf_ttl)?;
        self.put_rotation_period(change, period);
        Ok(Outcome::Done)
    }

    pub(super) fn put_rotation_period(&mut self, change: &mut Change, period: Option<Duration>) {
        if self.rotation_period != period {
            self.rotation_period = period;
            change.touch(WatchKey::Rotation);
            // It is a key of the configuration, which is compared and set as a whole.
            self.touch_ca_config(change);
        }
    }

    fn touch_ca_config(&mut self, change: &mut Change) {
        self.config.modified = change.revision();
        change.touch(WatchKey::CaConfig);
    }

    pub(super) fn set_ca_config(
        &mut self,
        change: &mut Change,
        expected: Revision,
        config: &CaConfig,
        period: Option<Duration>,
        rotation: Option<&RotationRequest>,
    ) -> Result<Outcome, Rejection> {
        self.only_in_primary("the CA configuration")?;
        if self.config.config == *config && self.rotation_period == period && rotation.is_none() {
            return Ok(Outcome::Done);
        }
        check::unchanged("CA configuration", expected, self.config.modified)?;
        config.validate().map_err(Rejection::BadCaConfig)?;
        check_rotation_period(period, config.leaf_ttl)?;
        let kind = rotation.map_or(self.config.config.key_kind, |request| request.wanted.key_kind());
        if config.key_kind != kind {
            let reason = format!("it has no rotation to a root of that kind: the root's is {kind}");
            return Err(check::invalid(format!("the kind of key {}", config.key_kind), reason));
        }
        if let Some(request) = rotation {
            self.start_rotation(change, request)?;
        }
        self.put_ca_config(change, *config);
        self.put_rotation_period(change, period);
        Ok(Outcome::Done)
    }

    fn put_ca_config(&mut self, change: &mut Change, config: CaConfig) {
        if self.config.config != config {
            self.config.config = config;
            self.touch_ca_config(change);
        }
    }

    /// `PrivateKeyType` is the kind of the root that is active, or that is rotated to.
    pub(super) fn put_key_kind(&mut self, change: &mut Change, key_kind: KeyKind) {
        self.put_ca_config(change, CaConfig { key_kind, ..self.config.config });
    }
}

fn check_rotation_period(period: Option<Duration>, leaf_ttl: Duration) -> Result<(), Rejection> {
    let Some(period) = period else { return Ok(()) };
    let least = leaf_ttl.saturating_mul(ROTATION_PERIOD_LEAVES_MIN);
    if (least..=ROTATION_PERIOD_MAX).contains(&period) {
        return Ok(());
    }
    let (least, most) = (least.as_secs(), ROTATION_PERIOD_MAX.as_secs());
    let reason = format!(
        "it must be {least} s ({ROTATION_PERIOD_LEAVES_MIN} * LeafCertTTL) to {most} s; give another one, or none with `carrack ca schedule off`"
    );
    Err(check::invalid(format!("a RotationPeriod of {} s", period.as_secs()), reason))
}
