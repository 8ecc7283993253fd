//! `CSRMaxPerSecond`: each server admits its share of the datacenter's rate, before a CSR is looked at.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long a server may save up its share: a short herd passes, a long one does not.
const BURST: Duration = Duration::from_secs(1);

/// The time at which the next request would be on the line of the set rate (a virtual-scheduling leaky bucket, ITU-T I.371).
#[derive(Debug, Default)]
pub(crate) struct Admission {
    next: Mutex<Option<Instant>>,
}

impl Admission {
    /// Admits a request under a rate that `servers` share, or says when to come back. A rate of 0 admits all.
    pub(crate) fn take(&self, per_second: u32, servers: u32, now: Instant) -> Result<(), Duration> {
        if per_second == 0 {
            return Ok(());
        }
        let interval = Duration::from_secs(1) * servers / per_second;
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let line = next.unwrap_or(now).max(now);
        let burst = BURST.max(interval);
        if line + interval > now + burst {
            return Err(line + interval - (now + burst));
        }
        *next = Some(line + interval);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_admits_its_share_of_the_rate_and_a_second_of_burst() {
        let admission = Admission::default();
        let begin = Instant::now();
        let mut admitted = 0;
        for millisecond in 0..10_000 {
            let now = begin + Duration::from_millis(millisecond);
            admitted += u32::from(admission.take(30, 3, now).is_ok());
        }
        assert!((100..=110).contains(&admitted), "{admitted}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_says_when_to_come_back_and_that_is_true() {
        let admission = Admission::default();
        let now = Instant::now();
        while admission.take(10, 1, now).is_ok() {}
        let pause = admission.take(10, 1, now).unwrap_err();
        assert!(admission.take(10, 1, now + pause / 2).is_err());
        assert_eq!(admission.take(10, 1, now + pause), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_of_less_than_one_each_second_admits_one_at_once() {
        let admission = Admission::default();
        let now = Instant::now();
        assert_eq!(admission.take(1, 5, now), Ok(()));
        assert_eq!(admission.take(1, 5, now), Err(Duration::from_secs(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn zero_admits_everything() {
        let admission = Admission::default();
        assert!((0..10_000).all(|_| admission.take(0, 3, Instant::now()).is_ok()));
    }
}
