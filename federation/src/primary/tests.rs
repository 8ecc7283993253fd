//! Tests of the primary's side of a stream, over a log in memory: what is said, in which order, and how often when there is nothing to say.

mod issuers;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use carrack_authority::{
    Entry, Proposal, WatchKey,
    acl::{AccessorId, PolicyId, Token},
    id::{Digest, FeatureLevel, NodeId},
    member::Addresses,
    time::Timestamp,
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::BoxStream};
use tokio::{
    sync::Notify,
    time::{timeout, timeout_at},
};
use uuid::Uuid;

use super::*;
use crate::testing::{START, bootstrap};

/// A log of one server, in memory.
struct MemoryLog {
    state: Mutex<State>,
    changed: Notify,
    is_cut_off: Mutex<bool>,
}

impl MemoryLog {
    fn begun() -> Arc<Self> {
        let log = Self { state: Mutex::default(), changed: Notify::new(), is_cut_off: Mutex::new(false) };
        log.apply(Command::Bootstrap(Box::new(bootstrap("dc1", 7))));
        log.apply(Command::BootstrapAcl { token: token(1, false), reset: None });
        Arc::new(log)
    }

    fn apply(&self, command: Command) {
        assert_eq!(self.outcome(command), Outcome::Done);
    }

    fn outcome(&self, command: Command) -> Outcome {
        let mut state = self.state.lock().unwrap();
        let entry = Entry { stamp: START, proposals: vec![Proposal { proposer: NodeId(1), command }] };
        let index = state.index() + 1;
        let mut applied = state.apply(index, &entry);
        self.changed.notify_waiters();
        applied.outcomes.remove(0)
    }
}

fn token(number: u128, is_local: bool) -> Token {
    Token {
        accessor: AccessorId(Uuid::from_u128(1 << 64 | number)),
        secret: Digest([u8::try_from(number).unwrap(); 32]),
        description: String::new(),
        policies: vec![PolicyId::GLOBAL_MANAGEMENT],
        service_identities: Vec::new(),
        node_identities: Vec::new(),
        roles: Vec::new(),
        auth_method: None,
        is_local,
        expires_at: None,
        created_at: Timestamp::EPOCH,
        created: Revision(0),
        modified: Revision(0),
    }
}

fn put(number: u128, is_local: bool) -> Command {
    Command::PutToken { expected: Revision(0), token: token(number, is_local) }
}

impl Log for MemoryLog {
    fn state(&self) -> State {
        self.state.lock().unwrap().clone()
    }

    fn log_time(&self) -> Timestamp {
        START
    }

    fn confirmed(&self, _within: Duration) -> BoxFuture<'_, Result<State, LogError>> {
        async move {
            if *self.is_cut_off.lock().unwrap() { Err(LogError("no majority".into())) } else { Ok(self.state()) }
        }
        .boxed()
    }

    fn changed(&self, after: Vec<(WatchKey, Revision)>, deadline: Instant) -> BoxFuture<'_, ()> {
        async move {
            loop {
                let woken = self.changed.notified();
                let state = self.state();
                if after.iter().any(|(key, revision)| state.modified(key) > *revision)
                    || timeout_at(deadline, woken).await.is_err()
                {
                    return;
                }
            }
        }
        .boxed()
    }

    fn applied(&self, index: u64, deadline: Instant) -> BoxFuture<'_, bool> {
        async move {
            while self.state().index() < index {
                if timeout_at(deadline, self.changed.notified()).await.is_err() {
                    return false;
                }
            }
            true
        }
        .boxed()
    }

    fn absent(&self) -> BTreeSet<NodeId> {
        BTreeSet::new()
    }

    fn propose(&self, command: Command, _within: Duration) -> BoxFuture<'_, Result<Outcome, LogError>> {
        async move { Ok(self.outcome(command)) }.boxed()
    }
}

fn tokens(log: &Arc<MemoryLog>, from: Cursor) -> BoxStream<'static, Result<Heard, PrimaryError>> {
    follow(log.clone(), Table::Tokens, from).boxed()
}

async fn heard(stream: &mut BoxStream<'static, Result<Heard, PrimaryError>>) -> Heard {
    let next = timeout(ALIVE_EVERY + Duration::from_secs(1), stream.next()).await;
    next.expect("something is said in time").unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_follower_hears_the_whole_then_each_change_at_once() {
    let log = MemoryLog::begun();
    let mut stream = tokens(&log, Cursor::default());
    let whole = heard(&mut stream).await;
    assert!(whole.is_all && matches!(&whole.change, Change::Tokens { page: Some(_), put, .. } if put.len() == 1));
    log.apply(put(2, false));
    let began = Instant::now();
    let change = heard(&mut stream).await;
    assert!(matches!(&change.change, Change::Tokens { page: None, put, .. } if put.len() == 1), "{change:?}");
    assert!(began.elapsed() < Duration::from_millis(1), "it is said when it happens");
    let mut again = tokens(&log, change.to);
    let alive = heard(&mut again).await;
    assert_eq!((alive.change, alive.to, alive.is_all), (Change::Nothing, change.to, true), "nothing twice");
    assert!(began.elapsed() < Duration::from_millis(1), "who comes back is told at once that he has all");
}

/// Local tokens are in the same table of the state, and do not concern a follower.
#[tokio::test(start_paused = true)]
async fn what_does_not_concern_a_follower_does_not_silence_his_stream() {
    let log = MemoryLog::begun();
    let mut stream = tokens(&log, Cursor::default());
    heard(&mut stream).await;
    heard(&mut stream).await;
    let writer = tokio::spawn({
        let log = log.clone();
        async move {
            for number in 10..60 {
                sleep(Duration::from_secs(1)).await;
                log.apply(put(number, true));
            }
        }
    });
    for _ in 0..8 {
        assert_eq!(heard(&mut stream).await.change, Change::Nothing);
    }
    assert!(!writer.is_finished());
}

/// It is sent as a whole: to all, each time that one of them says something of itself.
#[tokio::test(start_paused = true)]
async fn the_list_of_datacenters_is_told_at_once_and_then_rests() {
    let log = MemoryLog::begun();
    let mut stream = follow(log.clone(), Table::Datacenters, Cursor::default()).boxed();
    let began = Instant::now();
    heard(&mut stream).await;
    assert!(began.elapsed() < Duration::from_millis(1), "the first word is due at once");
    let writer = tokio::spawn({
        let log = log.clone();
        async move {
            for number in 0..100 {
                let addresses =
                    Addresses { wan: Some(format!("x:{number}")), raft: "x:8300".into(), grpc: "x:8503".into() };
                log.apply(Command::AnnounceServer { node: NodeId(1), addresses, supports: FeatureLevel(1) });
                sleep(Duration::from_millis(100)).await;
            }
        }
    });
    let mut told = 0;
    loop {
        let Heard { change: Change::DatacentersAndServers(all), .. } = heard(&mut stream).await else { continue };
        told += 1;
        if all[0].datacenter.wan_addresses == ["x:99"] {
            break;
        }
    }
    assert!((5..=7).contains(&told), "told {told} times in 10 s");
    writer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_tell_what_is_committed_or_is_behind_its_follower_says_so() {
    let log = MemoryLog::begun();
    let mut stream = tokens(&log, Cursor::default());
    heard(&mut stream).await;
    *log.is_cut_off.lock().unwrap() = true;
    let ended = stream.next().await.unwrap();
    assert_eq!(ended, Err(PrimaryError::Unavailable("no majority".into())));
    assert!(stream.next().await.is_none());
    *log.is_cut_off.lock().unwrap() = false;
    let ahead = Cursor { revision: Revision(100), ..Cursor::default() };
    let refused = tokens(&log, ahead).next().await.unwrap().unwrap_err().to_string();
    assert!(refused.contains("has heard of 100 already"), "{refused}");
}
