//! The task that takes waiting commands to where they are decided.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use carrack_authority::{
    command::Command,
    id::{FeatureLevel, NodeId},
    time::Timestamp,
};
use carrack_proto::{
    raft::ForwardRequest,
    stored::{self, Kind, Schema},
};
use openraft::{errors::ClientWriteError, raft::ClientWriteResult};
use serde::Serialize;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    InFlight, Pending, ProposeError, QUEUE_MAX,
    batch::Waiting,
    flight::{Ended, Flight, Way},
    scout::Scout,
};
use crate::{
    applied::Published,
    leader_clock::LeaderClock,
    network::{Forwarded, Links, encode_commands, was_turned_away},
    replica::Raft,
    status::{Leadership, Role},
    type_config::{Commands, Completion, LeaderId, TypeConfig},
};

/// How long commands wait after a leader turned them away, unless leadership changes: openraft tells it everybody at its own pace.
const PAUSE: Duration = Duration::from_millis(20);

/// The task's state.
pub(crate) struct Dispatcher {
    pub(crate) queue: mpsc::Receiver<Pending>,
    pub(crate) raft: Raft,
    pub(crate) links: Arc<Links>,
    pub(crate) clock: Arc<LeaderClock>,
    pub(crate) published: Arc<Published>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) limits: InFlight,
}

/// What runs beside the queue.
struct Running {
    dispatcher: Dispatcher,
    waiting: Waiting,
    ended: mpsc::Sender<Ended>,
    entries: usize,
    forwards: usize,
    paused_until: Option<Instant>,
    scout: Scout,
}

impl Dispatcher {
    /// Runs until the queue is closed.
    pub(crate) async fn run(self) {
        let places = self.limits.entries + self.limits.forwards;
        let (ended, mut ends) = mpsc::channel(places);
        let mut running = Running {
            dispatcher: self,
            waiting: Waiting::default(),
            ended,
            entries: 0,
            forwards: 0,
            paused_until: None,
            scout: Scout::default(),
        };
        let mut arrived = Vec::new();
        loop {
            let room = QUEUE_MAX.saturating_sub(running.waiting.len());
            let wake_at = running.wake_at();
            tokio::select! {
                biased;
                Some(end) = ends.recv() => running.land(end),
                changed = running.dispatcher.leadership.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    running.paused_until = None;
                }
                count = running.dispatcher.queue.recv_many(&mut arrived, room), if room > 0 => {
                    if count == 0 {
                        return;
                    }
                    running.waiting.extend(arrived.drain(..));
                }
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {}
            }
            running.dispatch().await;
        }
    }
}

impl Running {
    /// When something has to happen although nothing arrives.
    fn wake_at(&self) -> Option<Instant> {
        let has_place = self.forwards < self.dispatcher.limits.forwards;
        let scout_at = self.scout.wake_at().filter(|_| has_place);
        let resume_at = self.paused_until.or(scout_at).filter(|_| !self.waiting.is_empty());
        self.waiting.next_deadline().into_iter().chain(resume_at).min()
    }

    fn land(&mut self, end: Ended) {
        match end.way {
            Way::Entry => self.entries -= 1,
            Way::Forward => self.forwards -= 1,
        }
        let now = Instant::now();
        if end.again.is_empty() {
            self.scout.unstuck();
            return;
        }
        self.waiting.put_back(end.again);
        self.paused_until = Some(now + PAUSE);
        if end.way == Way::Forward {
            self.scout.stuck(self.dispatcher.leadership.borrow().leader, now);
        }
    }

    async fn dispatch(&mut self) {
        let now = Instant::now();
        self.waiting.expire(now);
        if self.paused_until.is_some_and(|until| until > now) {
            return;
        }
        self.paused_until = None;
        let leadership = self.dispatcher.leadership.borrow().clone();
        if leadership.role == Role::Leader {
            self.scout.unstuck();
            self.write_entries().await;
            return;
        }
        self.scout(&leadership, now);
        if let Some((node, address)) = leadership.leader_and_address() {
            self.waiting.take_if(|pending| pending.is_forwarded, ProposeError::NotLeader);
            self.waiting.take_if(|pending| !pending.command.is_forwardable(), ProposeError::NotLeader);
            self.forward(node, &address);
        }
    }

    /// Sends one command to a server that may lead, if commands have got nowhere for long.
    fn scout(&mut self, leadership: &Leadership, now: Instant) {
        if leadership.leader.is_none() && !self.waiting.is_empty() {
            self.scout.stuck(None, now);
        }
        if self.forwards >= self.dispatcher.limits.forwards {
            return;
        }
        let Some((node, address)) = self.scout.next(leadership, now) else { return };
        if let Some(pending) = self.waiting.take_scout() {
            tracing::debug!(node, "a command is sent to a server that may lead");
            self.send(node, &address, vec![pending]);
        }
    }

    async fn write_entries(&mut self) {
        while self.entries < self.dispatcher.limits.entries && !self.waiting.is_empty() {
            // Not ready: nothing is admitted before the clock's first entry.
            let Some((leader, stamp)) = self.dispatcher.clock.stamp() else { return };
            let flight = Flight::new(Way::Entry, self.waiting.take(), self.ended.clone());
            self.entries += 1;
            let level = self.dispatcher.published.current().state.feature_level();
            match encode_entry(stamp, flight.pending(), level) {
                Ok(bytes) => write(&self.dispatcher.raft, leader, bytes, flight).await,
                Err(error) => {
                    // Each command was measured when it came; a batch of them is far below an envelope's bound.
                    tracing::error!(%error, "an entry cannot be encoded");
                    drop(flight);
                }
            }
        }
    }

    fn forward(&mut self, node: u64, address: &str) {
        while self.forwards < self.dispatcher.limits.forwards && !self.waiting.is_empty() {
            let batch = self.waiting.take();
            self.send(node, address, batch);
        }
    }

    fn send(&mut self, node: u64, address: &str, batch: Vec<Pending>) {
        let flight = Flight::new(Way::Forward, batch, self.ended.clone());
        self.forwards += 1;
        let links = self.dispatcher.links.clone();
        let address = address.to_owned();
        let longest = self.dispatcher.limits.forward_timeout;
        tokio::spawn(async move { forward(&links, node, &address, longest, flight).await });
    }
}

/// [`carrack_authority::command::Entry`] without a copy of its commands; the bytes are the same.
#[derive(Serialize)]
struct BorrowedEntry<'a> {
    stamp: Timestamp,
    proposals: Vec<BorrowedProposal<'a>>,
}

#[derive(Serialize)]
struct BorrowedProposal<'a> {
    proposer: NodeId,
    command: &'a Command,
}

pub(super) fn encode_entry(
    stamp: Timestamp,
    pending: &[Pending],
    level: FeatureLevel,
) -> Result<Bytes, stored::EncodeError> {
    let proposals =
        pending.iter().map(|pending| BorrowedProposal { proposer: pending.proposer, command: &pending.command });
    let entry = BorrowedEntry { stamp, proposals: proposals.collect() };
    stored::encode(Kind::Commands, Schema::of(level), &entry).map(Bytes::from)
}

/// Hands an entry to openraft; the flight lands when it is applied.
async fn write(raft: &Raft, leader: LeaderId, bytes: Bytes, flight: Flight) {
    let completion = Completion::new(move |result: ClientWriteResult<TypeConfig>| match result {
        Ok(response) => flight.decided(response.log_id.index, response.data.outcomes),
        Err(ClientWriteError::ForwardToLeader(_) | ClientWriteError::PreconditionFailed(_)) => flight.turned_away(),
        Err(ClientWriteError::LogEntryDiscarded(_) | ClientWriteError::ChangeMembershipError(_)) => drop(flight),
    });
    let written = raft.write(Commands(bytes)).with_leader(leader).responder(completion).await;
    if let Err(error) = written {
        tracing::warn!(%error, "openraft has stopped");
    }
}

/// Sends a batch to the leader and waits for its answers.
async fn forward(links: &Arc<Links>, node: u64, address: &str, longest: Duration, flight: Flight) {
    let commands: Vec<&Command> = flight.pending().iter().map(|pending| &pending.command).collect();
    let commands = match encode_commands(&commands) {
        Ok(commands) => commands,
        Err(error) => {
            tracing::error!(%error, "commands cannot be forwarded");
            return;
        }
    };
    let now = Instant::now();
    let wait = flight.pending().iter().map(|pending| pending.deadline.duration_since(now)).max().unwrap_or_default();
    let wait = wait.min(longest);
    let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
    let mut client = links.control(node, address);
    // The leader answers at its deadline; a little later nobody does.
    match timeout(wait + PAUSE, client.forward(ForwardRequest { commands, wait_ms })).await {
        Ok(Ok(response)) => match stored::decode::<Vec<Forwarded>>(Kind::Outcomes, &response.get_ref().outcomes) {
            Ok(answers) => flight.answered(answers),
            Err(error) => tracing::error!(%error, leader = node, "the leader's answer cannot be read"),
        },
        Ok(Err(status)) if was_turned_away(&status) => {
            tracing::debug!(%status, leader = node, "the leader turned commands away");
            flight.turned_away();
        }
        Ok(Err(status)) => tracing::debug!(%status, leader = node, "the leader was lost with commands"),
        Err(_) => tracing::debug!(leader = node, "the leader did not answer commands in time"),
    }
}
