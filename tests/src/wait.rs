//! Waiting for a condition: asked again and again until it holds or its time is over. The pause between two looks is no measure of anything.

use std::time::{Duration, Instant};

/// How long a condition may take that a healthy cluster meets in about a second, on a machine that does other things too.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until `look` finds something.
///
/// # Panics
/// Panics after [`PATIENCE`], with what was waited for and why the last look found nothing.
#[track_caller]
pub fn until<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    until_within(what, PATIENCE, look)
}

/// Waits for at most `patience`.
///
/// # Panics
/// Panics after it, with what was waited for and why the last look found nothing.
#[track_caller]
pub fn until_within<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(reason) if start.elapsed() >= patience => {
                panic!("waited {patience:?} for {what}; at last: {reason}")
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// The monotonic time of this machine: tests of real processes have no other clock.
#[expect(clippy::disallowed_methods, reason = "real processes run in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// `Ok` if the condition holds, else the reason.
pub fn holds(condition: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(reason()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_looked_at_until_it_holds() {
        let mut looks = 0;
        let found = until("three looks", || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(format!("only {looks}")) }
        });
        assert_eq!(found, 3);
    }

    #[test]
    #[should_panic(expected = "for the impossible; at last: never")]
    fn a_condition_that_never_holds_is_told_with_its_last_reason() {
        until_within::<()>("the impossible", Duration::ZERO, || Err("never".into()));
    }
}
