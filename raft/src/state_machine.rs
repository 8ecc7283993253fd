//! openraft's state machine: it decodes entries, lets the state decide, publishes one version for a whole group of entries, and
//! only then answers who waits for them: whoever has an answer finds its effect in the published state.

use std::{collections::BTreeSet, io, sync::Arc};

use carrack_authority::{
    command::Entry as Commands,
    outcome::{Outcome, WatchKey},
    state::State,
};
use carrack_proto::stored::{self, Kind};
use futures::{Stream, TryStreamExt};
use openraft::{
    EntryPayload, OptionalSend,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine},
};

use crate::{
    applied::Published,
    ports::Fatal,
    snapshot::{Builder, Snapshot, SnapshotData, Snapshots},
    type_config::{Answer, Entry, LogId, SnapshotMeta, StoredMembership, TypeConfig},
};

/// The state machine.
pub(crate) struct StateMachine {
    state: State,
    last: Option<LogId>,
    membership: StoredMembership,
    published: Arc<Published>,
    snapshots: Snapshots,
    fatal: Fatal,
}

impl StateMachine {
    /// The state machine at its snapshot, or at the beginning.
    pub(crate) fn new(loaded: Option<(SnapshotMeta, State)>, snapshots: Snapshots, fatal: Fatal) -> Self {
        let (meta, state) = loaded.unwrap_or_default();
        let (index, term) = place_of(meta.last_log_id);
        let published = Arc::new(Published::new(index, term, state.clone()));
        Self { state, last: meta.last_log_id, membership: meta.last_membership, published, snapshots, fatal }
    }

    /// Where versions of the state appear.
    pub(crate) fn published(&self) -> Arc<Published> {
        self.published.clone()
    }

    fn decide(&mut self, entry: Entry, touched: &mut BTreeSet<WatchKey>) -> Result<Vec<Outcome>, io::Error> {
        let log_id = entry.log_id;
        let outcomes = match entry.payload {
            EntryPayload::Blank => Vec::new(),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(log_id), membership);
                Vec::new()
            }
            EntryPayload::Normal(commands) => {
                let commands: Commands = stored::decode(Kind::Commands, &commands.0).map_err(|error| {
                    (self.fatal)(&format!("entry {} cannot be applied: {error}", log_id.index));
                    io::Error::new(io::ErrorKind::InvalidData, error)
                })?;
                let mut applied = self.state.apply(log_id.index, &commands);
                touched.append(&mut applied.touched);
                applied.outcomes
            }
        };
        self.last = Some(log_id);
        Ok(outcomes)
    }

    fn publish(&self, touched: Option<&BTreeSet<WatchKey>>) {
        let (index, term) = place_of(self.last);
        self.published.publish(index, term, self.state.clone(), touched);
    }
}

fn place_of(last: Option<LogId>) -> (u64, u64) {
    last.map_or((0, 0), |last| (last.index, last.leader_id.term))
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut touched = BTreeSet::new();
        let mut answers: Vec<(ApplyResponder<TypeConfig>, Answer)> = Vec::new();
        while let Some((entry, responder)) = entries.try_next().await? {
            let outcomes = self.decide(entry, &mut touched)?;
            if let Some(responder) = responder {
                answers.push((responder, Answer { outcomes }));
            }
            // A server that catches up must not keep heartbeats from this thread.
            tokio::task::consume_budget().await;
        }
        self.publish(Some(&touched));
        for (responder, answer) in answers {
            responder.send(answer);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let meta = SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone() };
        self.snapshots.builder(meta, self.state.clone())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> Result<(), io::Error> {
        let loaded = match snapshot {
            SnapshotData::Received(received) => self.snapshots.keep(*received).await,
            SnapshotData::Stored(stored) => self.snapshots.load(stored).await,
        };
        let (found, state) = loaded.map_err(io::Error::other)?;
        if found != *meta {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the snapshot is not the one to be installed"));
        }
        self.state = state;
        self.last = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.publish(None);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.snapshots.current())
    }
}
