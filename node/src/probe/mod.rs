//! The mesh prober: workloads with leaves of their agents that connect to each other all the time, so that a rotation can be seen not to
//! break them. Each follows its leaf and its agent's bundle; every handshake is a full one of mutual TLS, inside of this process.

mod follow;
mod target;
#[cfg(test)]
mod tests;
mod view;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use carrack_authority::spiffe::{SpiffeId, SpiffePath};
use carrack_raft::ports::WallClock;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use self::follow::Followed;
pub use self::{
    target::{Target, WORKLOADS_MAX},
    view::{Look, View},
};
use crate::{
    cli::client::Client,
    server::task::chain_of,
    tls::{
        HANDSHAKE_TIMEOUT,
        workload::{Verified, shake_hands},
    },
};

/// Between two handshakes: at most 200 a second, which costs a machine little.
const PAUSE: Duration = Duration::from_millis(5);
/// The same while nobody looks: at most 10 a second.
const QUIET_PAUSE: Duration = Duration::from_millis(100);
/// The last reasons of failures that are kept: they are for people, who read a few.
const FAILURES_MAX: usize = 8;

/// What a prober has seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// How many handshakes have succeeded.
    pub shaken: u64,
    /// How many have failed.
    pub failed: u64,
    /// Why the last of these have, with who called whom; the newest at the end.
    pub failures: VecDeque<String>,
    /// Which workloads hear nothing from their agents, and why.
    pub troubles: Vec<String>,
}

/// Workloads that connect to each other until it is dropped. It holds their keys in memory alone.
pub struct Prober {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    workloads: Vec<Arc<Followed>>,
    wall_clock: Arc<dyn WallClock>,
    shaken: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<VecDeque<String>>,
    is_quiet: AtomicBool,
    /// How many times every pair has had its turn.
    rounds: watch::Sender<u64>,
}

impl Prober {
    /// Lets these workloads, each by a client of its agent, connect to each other.
    pub fn start(workloads: Vec<(Target, Client)>, wall_clock: Arc<dyn WallClock>) -> Self {
        let mut tasks = JoinSet::new();
        let followed = workloads.into_iter().map(|(target, client)| Followed::start(target, client, &mut tasks));
        let shared = Arc::new(Shared {
            workloads: followed.collect(),
            wall_clock,
            shaken: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            failures: Mutex::default(),
            is_quiet: AtomicBool::new(false),
            rounds: watch::Sender::new(0),
        });
        let probing = shared.clone();
        tasks.spawn(async move { probing.probe().await });
        Self { shared, tasks }
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        let troubles = self.shared.workloads.iter().filter_map(|workload| workload.trouble());
        Seen {
            shaken: self.shared.shaken.load(Ordering::Relaxed),
            failed: self.shared.failed.load(Ordering::Relaxed),
            failures: self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            troubles: troubles.collect(),
        }
    }

    /// Whether it makes few handshakes only, because nobody looks.
    pub fn set_quiet(&self, is_quiet: bool) {
        self.shared.is_quiet.store(is_quiet, Ordering::Relaxed);
    }

    /// Waits until every pair has had its turn, for so long at most: of workloads that their agents do not answer no handshake comes.
    pub async fn wait_for_round(&self, within: Duration) {
        let mut rounds = self.shared.rounds.subscribe();
        // Time that is over is no failure: what was not heard is in the troubles.
        let _ = timeout(within, rounds.wait_for(|rounds| *rounds > 0)).await;
    }

    /// Ends it.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Shared {
    /// Every ordered pair in turn, one handshake at a time.
    async fn probe(&self) {
        loop {
            let mut is_whole = true;
            for (position, calling) in self.workloads.iter().enumerate() {
                for (_, called) in self.workloads.iter().enumerate().filter(|(other, _)| *other != position) {
                    is_whole &= self.connect(calling, called).await;
                    sleep(if self.is_quiet.load(Ordering::Relaxed) { QUIET_PAUSE } else { PAUSE }).await;
                }
            }
            if is_whole {
                self.rounds.send_modify(|rounds| *rounds += 1);
            } else {
                sleep(PAUSE).await;
            }
        }
    }

    /// Whether the two have had their turn: they had leaves, or it is known why one has none.
    async fn connect(&self, calling: &Followed, called: &Followed) -> bool {
        let (Some(client), Some(server)) = (calling.workload(), called.workload()) else {
            let is_told = |it: &Followed| it.workload().is_some() || it.trouble().is_some();
            return is_told(calling) && is_told(called);
        };
        let now = self.wall_clock.now();
        let failure = match timeout(HANDSHAKE_TIMEOUT, shake_hands(&server, &client, now)).await {
            Ok(Ok((seen_by_server, seen_by_client))) => {
                unexpected(&seen_by_client, called.target()).or_else(|| unexpected(&seen_by_server, calling.target()))
            }
            Ok(Err(error)) => Some(chain_of(&error)),
            Err(_) => Some(format!("it was not done within {} s", HANDSHAKE_TIMEOUT.as_secs())),
        };
        match failure {
            None => drop(self.shaken.fetch_add(1, Ordering::Relaxed)),
            Some(why) => self.fail(format!("{} calls {}: {why}", calling.target(), called.target())),
        }
        true
    }

    fn fail(&self, text: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() == FAILURES_MAX {
            failures.pop_front();
        }
        failures.push_back(text);
    }
}

/// Why the peer is not who it should be. That it is of the same trust domain was verified.
fn unexpected(seen: &Verified, expected: &Target) -> Option<String> {
    let is_it =
        |id: &SpiffeId| matches!(&id.path, SpiffePath::Service { service, .. } if service == expected.service());
    (!is_it(&seen.id))
        .then(|| format!("the service {} was expected, and the leaf is that of {}", expected.service(), seen.id))
}
