//! The runtime that openraft runs on: tokio with randomness from a seed, so that a simulation can replay every election.
//! The numbers come from one counter of the process: they can be drawn in any task, also in those of the network server.

use std::{
    future::Future,
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use openraft_rt::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::TokioRuntime;
use rand::{SeedableRng, rngs::StdRng};

/// Where the next generator's seed comes from.
static SEED: AtomicU64 = AtomicU64::new(0);

/// The golden ratio's bits, the step of SplitMix64 (Steele, Lea, Flood 2014): every seed of a run is another one.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes `seed` into the process's randomness of timers. Call it before a replica is opened, with entropy in production and with
/// the run's seed in a simulation (one run in a process).
pub fn seed(seed: u64) {
    SEED.fetch_xor(mix(seed), Ordering::Relaxed);
}

fn next_seed() -> u64 {
    mix(SEED.fetch_add(STEP, Ordering::Relaxed))
}

/// The output function of SplitMix64.
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(STEP);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Tokio, with seeded randomness.
#[derive(Debug)]
pub struct Runtime(TokioRuntime);

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = StdRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        StdRng::seed_from_u64(next_seed())
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }

    /// Not used by openraft; it refuses, because the simulator cannot schedule a thread.
    async fn spawn_blocking<F, T>(_work: F) -> Result<T, io::Error>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Err(io::Error::new(io::ErrorKind::Unsupported, "blocking work runs on the workers port"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openraft_s_own_runtime_suite_passes() {
        openraft_rt::testing::Suite::<Runtime>::test_all();
    }

    #[test]
    fn no_two_generators_start_alike() {
        let seeds: std::collections::BTreeSet<u64> = (0..1000).map(|_| next_seed()).collect();
        assert_eq!(seeds.len(), 1000);
    }
}
