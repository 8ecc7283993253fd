//! The task that starts the clock when this server begins to lead, keeps it near the others' clocks, and keeps the log's time
//! going when nothing else is written.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use carrack_authority::{
    command::Entry,
    id::NodeId,
    planted::{self, Bug},
    time::Timestamp,
};
use carrack_proto::stored::{self, Kind, Schema};
use futures::{StreamExt, stream::FuturesUnordered};
use openraft::raft::ClientWriteResult;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::{
    AGREEMENT, LeaderClock, Ticking,
    median::{Readings, distance_of},
};
use crate::{
    applied::Published,
    network::Links,
    ports::WallClock,
    replica::Raft,
    status::{Leadership, Role},
    type_config::{Commands, Completion, LeaderId, TypeConfig},
};

/// The log's time moves at least this often.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How long a new leader waits for the rest once a majority's clocks have answered: of two answers the earlier counts, of three the
/// middle one, so a third that is only a little slower is worth it.
const REST_WAIT: Duration = Duration::from_millis(300);
/// How long a new leader waits before it asks again after a majority did not answer.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What the task works with.
pub(crate) struct ClockTask {
    pub(crate) me: NodeId,
    pub(crate) clock: Arc<LeaderClock>,
    pub(crate) raft: Raft,
    pub(crate) links: Arc<Links>,
    pub(crate) wall_clock: Arc<dyn WallClock>,
    pub(crate) published: Arc<Published>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    /// How often the other clocks are asked.
    pub(crate) ask_every: Duration,
    /// How long a leader leads at least.
    pub(crate) lead_at_least: Duration,
}

/// How a term of leading went on.
enum Next {
    /// Another one leads, or another term has begun.
    Lost,
    /// The clock begins anew.
    Restart,
}

impl ClockTask {
    /// Runs as long as the replica does.
    pub(crate) async fn run(mut self) {
        loop {
            let leading = |leadership: &Leadership| leadership.role == Role::Leader;
            let Ok(term) = self.leadership.wait_for(leading).await.map(|leadership| leadership.term) else { return };
            let mut ended = self.leadership.clone();
            tokio::select! {
                biased;
                gone = ended.wait_for(|now| now.role != Role::Leader || now.term != term) => {
                    let is_end = gone.is_err();
                    self.clock.stop();
                    if is_end {
                        return;
                    }
                }
                () = self.lead(term) => self.clock.stop(),
            }
        }
    }

    /// Leads one term; ends only when openraft refuses to write.
    async fn lead(&self, term: u64) {
        let leader = LeaderId { term, node_id: self.me.0 };
        loop {
            let Some(first) = self.first_stamp().await else { return };
            let since = Instant::now();
            if !self.write(leader, first).await {
                // The term is over, or not yet begun in openraft's eyes: the next look decides.
                sleep(ASK_AGAIN).await;
                continue;
            }
            self.clock.start(Ticking::begin(leader, self.goes_on_from(first, since), Instant::now()));
            match self.keep(leader).await {
                Next::Lost => return,
                Next::Restart => self.clock.stop(),
            }
        }
    }

    /// The time now, when the clock showed `first` at `since`: at least that of the whole log. A server may have been elected, and may
    /// have taken its first stamp, before it had applied the end of its log; now it has.
    fn goes_on_from(&self, first: Timestamp, since: Instant) -> Timestamp {
        if planted::is(Bug::ClockBehindLog) {
            return first;
        }
        first.plus(since.elapsed()).max(self.published.current().state.now())
    }

    /// The lower median of a majority's clocks, but not before what this server has applied.
    async fn first_stamp(&self) -> Option<Timestamp> {
        loop {
            if let Some(median) = self.ask().await.lower_median() {
                return Some(median.max(self.published.current().state.now()));
            }
            if self.leadership.has_changed().is_err() {
                return None;
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// Keeps the log's time going, and near the median.
    async fn keep(&self, leader: LeaderId) -> Next {
        let started = Instant::now();
        let mut ask_at = started + self.ask_every;
        loop {
            let idle_at = self.published.current().published_at + IDLE_MAX;
            sleep_until(idle_at.min(ask_at)).await;
            if self.published.current().published_at + IDLE_MAX <= Instant::now() && !self.write_stamp(leader).await {
                return Next::Lost;
            }
            if ask_at <= Instant::now() {
                let readings = self.ask().await;
                ask_at = Instant::now() + self.ask_every;
                if self.steer(&readings) && started.elapsed() >= self.lead_at_least {
                    return self.hand_over(&readings).await;
                }
            }
        }
    }

    async fn write_stamp(&self, leader: LeaderId) -> bool {
        match self.clock.stamp() {
            Some((_, stamp)) => self.write(leader, stamp).await,
            None => false,
        }
    }

    /// Slews towards the median; says whether somebody else must lead: no majority's clocks are near the stamps, and a new
    /// beginning would be nearer (it is not when the log itself is ahead of every clock).
    fn steer(&self, readings: &Readings) -> bool {
        let (Some(median), Some((_, stamp))) = (readings.lower_median(), self.clock.stamp()) else { return false };
        let has_majority = readings.has_majority_near(stamp, AGREEMENT);
        self.clock.steer(median, has_majority);
        if has_majority {
            return false;
        }
        tracing::warn!(%stamp, %median, "no majority of the servers' clocks is within 5 s of the log's time");
        let begun_anew = median.max(self.published.current().state.now());
        distance_of(begun_anew, stamp) > AGREEMENT
    }

    async fn hand_over(&self, readings: &Readings) -> Next {
        let Some(median) = readings.lower_median() else { return Next::Restart };
        let successor = readings.near(median, AGREEMENT).find(|node| *node != self.me.0);
        let Some(successor) = successor else { return Next::Restart };
        tracing::warn!(successor, "leadership is handed over: this leader's stamps are not those of a majority");
        match self.raft.trigger().transfer_leader(successor).await {
            Ok(()) => sleep(self.lead_at_least).await,
            Err(error) => tracing::warn!(%error, "openraft has stopped"),
        }
        // Still here: nobody took over.
        Next::Restart
    }

    /// Commits an entry that only carries a stamp.
    async fn write(&self, leader: LeaderId, stamp: Timestamp) -> bool {
        let level = self.published.current().state.feature_level();
        let entry = Entry { stamp, proposals: Vec::new() };
        let bytes = stored::encode(Kind::Commands, Schema::of(level), &entry).expect("an empty entry is small");
        let (done, written) = oneshot::channel();
        let completion = Completion::new(move |result: ClientWriteResult<TypeConfig>| {
            // The task may be gone.
            let _ = done.send(result.is_ok());
        });
        let sent = self.raft.write(Commands(bytes.into())).with_leader(leader).responder(completion).await;
        sent.is_ok() && written.await.unwrap_or(false)
    }

    /// Asks every voter for its clock.
    async fn ask(&self) -> Readings {
        let (voters, addresses) = {
            let leadership = self.leadership.borrow();
            (leadership.membership.voters.clone(), leadership.membership.addresses.clone())
        };
        let mut readings = Readings { voters: voters.len(), answers: Vec::new() };
        let mut asked = self.ask_others(&voters.iter().map(|node| node.0).collect::<Vec<_>>(), &addresses);
        let mut answers: Vec<(u64, Timestamp, Instant)> = Vec::new();
        if voters.contains(&self.me) {
            answers.push((self.me.0, self.wall_clock.now(), Instant::now()));
        }
        let mut until = None;
        loop {
            if until.is_none() && answers.len() * 2 > readings.voters {
                until = Some(Instant::now() + REST_WAIT);
            }
            let next = match until {
                Some(until) => timeout_at(until, asked.next()).await.unwrap_or(None),
                None => asked.next().await,
            };
            match next {
                Some(answer) => answers.extend(answer),
                None => break,
            }
        }
        let now = Instant::now();
        readings.answers =
            answers.into_iter().map(|(node, clock, at)| (node, clock.plus(now.duration_since(at)))).collect();
        readings
    }

    fn ask_others(
        &self,
        voters: &[u64],
        addresses: &BTreeMap<NodeId, String>,
    ) -> FuturesUnordered<impl Future<Output = Option<(u64, Timestamp, Instant)>> + use<>> {
        let others = voters.iter().copied().filter(|node| *node != self.me.0);
        let asked = others.filter_map(|node| {
            let address = addresses.get(&NodeId(node))?.clone();
            let links = self.links.clone();
            Some(async move {
                let sent = Instant::now();
                let clock = links.read_clock(node, &address).await;
                let clock = clock.inspect_err(|status| tracing::debug!(node, %status, "a clock does not answer"));
                // It was read somewhere in the round trip: half of it ago is the best guess.
                let read_at = sent + sent.elapsed() / 2;
                Some((node, Timestamp(clock.ok()?), read_at))
            })
        });
        asked.collect()
    }
}
