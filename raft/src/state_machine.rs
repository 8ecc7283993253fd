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
    ports::{ApplyObserver, Fatal},
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
    observer: Option<Arc<dyn ApplyObserver>>,
    fatal: Fatal,
}

impl StateMachine {
    /// The state machine at its snapshot, or at the beginning.
    pub(crate) fn new(
        loaded: Option<(SnapshotMeta, State)>,
        snapshots: Snapshots,
        observer: Option<Arc<dyn ApplyObserver>>,
        fatal: Fatal,
    ) -> Self {
        let (meta, state) = loaded.unwrap_or_default();
        let (index, term) = place_of(meta.last_log_id);
        let published = Arc::new(Published::new(index, term, state.clone()));
        if let Some(observer) = &observer {
            observer.installed(index, &state);
        }
        Self { state, last: meta.last_log_id, membership: meta.last_membership, published, snapshots, observer, fatal }
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
                if let Some(observer) = &self.observer {
                    observer.applied(log_id.index, &commands, &applied.outcomes, &self.state);
                }
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
        if let Some(observer) = &self.observer {
            observer.installed(place_of(self.last).0, &self.state);
        }
        self.publish(None);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.snapshots.current())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use carrack_authority::time::Timestamp;
    use carrack_proto::stored::{HEADER_BYTES, Schema};

    use super::*;
    use crate::{
        directory::Directory,
        ports::NamedThreads,
        type_config::{Commands as Bytes, LeaderId},
    };

    async fn machine(place: &std::path::Path) -> (StateMachine, Arc<Mutex<Vec<String>>>) {
        let files = Arc::new(Directory::open(place).unwrap());
        let (snapshots, loaded) = Snapshots::open(files, Arc::new(NamedThreads)).await.unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let reasons = told.clone();
        let fatal: Fatal = Arc::new(move |reason| reasons.lock().unwrap().push(reason.to_owned()));
        (StateMachine::new(loaded, snapshots, None, fatal), told)
    }

    fn entry(index: u64, bytes: Vec<u8>) -> Result<EntryResponder<TypeConfig>, io::Error> {
        let log_id = LogId { leader_id: LeaderId { term: 3, node_id: 1 }, index };
        Ok((Entry { log_id, payload: EntryPayload::Normal(Bytes(bytes.into())) }, None))
    }

    fn stamp(stamp: u64) -> Vec<u8> {
        let commands = Commands { stamp: Timestamp(stamp), proposals: Vec::new() };
        stored::encode(Kind::Commands, Schema::FIRST, &commands).unwrap()
    }

    #[tokio::test]
    async fn a_group_of_entries_becomes_one_version() {
        let place = tempfile::tempdir().unwrap();
        let (mut machine, _) = machine(place.path()).await;
        let published = machine.published();
        let before = published.current();
        machine.apply(futures::stream::iter([entry(4, stamp(10)), entry(5, stamp(20))])).await.unwrap();
        let after = published.current();
        assert_eq!((before.index, before.state.now()), (0, Timestamp::EPOCH));
        assert_eq!((after.index, after.term, after.state.now()), (5, 3, Timestamp(20)));
    }

    #[tokio::test]
    async fn an_entry_of_a_newer_build_ends_the_process_before_it_is_applied() {
        let place = tempfile::tempdir().unwrap();
        let (mut machine, told) = machine(place.path()).await;
        let mut newer = stamp(30);
        newer[2] = 200;
        let (header, payload) = newer.split_at_mut(HEADER_BYTES);
        let sum = crc32c::crc32c_append(crc32c::crc32c(&header[..10]), payload);
        header[10..].copy_from_slice(&sum.to_le_bytes());
        machine.apply(futures::stream::iter([entry(7, newer)])).await.unwrap_err();
        let reasons = told.lock().unwrap();
        assert!(reasons[0].contains("entry 7") && reasons[0].contains("schema 200"), "{reasons:?}");
        assert_eq!(machine.published().current().index, 0);
    }
}
