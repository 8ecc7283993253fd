//! Tokens that this server does not know are looked for at the leader beside an agent's stream: while nobody leads, what else the agent
//! follows goes on.

use std::{collections::BTreeMap, future::pending, sync::Arc};

use carrack_authority::id::Digest;
use carrack_raft::{ReadError, Replica};
use futures::{
    StreamExt,
    future::{BoxFuture, FutureExt},
    stream::FuturesUnordered,
};
use tokio::{sync::Semaphore, time::Instant};

use crate::api::grpc::certificates::LOOK_UP_WITHIN;

/// What one stream looks for.
pub(super) struct LookUps {
    /// Shared by all streams of this server.
    places: Arc<Semaphore>,
    wanted: BTreeMap<u32, Digest>,
    running: FuturesUnordered<BoxFuture<'static, LookedUp>>,
}

/// A look-up that has ended: what was committed before it began is applied here, or nobody can tell.
pub(super) struct LookedUp {
    pub(super) number: u32,
    /// The digest of the token's secret.
    pub(super) secret: Digest,
    pub(super) outcome: Result<(), ReadError>,
}

impl LookUps {
    pub(super) fn new(places: Arc<Semaphore>) -> Self {
        Self { places, wanted: BTreeMap::new(), running: FuturesUnordered::new() }
    }

    /// Begins to look for the token that is asked for under this number; false: too many are looked for.
    pub(super) fn begin(&mut self, replica: Replica, number: u32, secret: Digest) -> bool {
        let Ok(place) = self.places.clone().try_acquire_owned() else { return false };
        self.wanted.insert(number, secret);
        let look_up = async move {
            let read = replica.read_linearizable(Instant::now() + LOOK_UP_WITHIN).await;
            drop(place);
            LookedUp { number, secret, outcome: read.map(drop) }
        };
        self.running.push(look_up.boxed());
        true
    }

    /// Whether a token is looked for under this number.
    pub(super) fn is_in_use(&self, number: u32) -> bool {
        self.wanted.contains_key(&number)
    }

    /// Nobody waits for it any more.
    pub(super) fn leave(&mut self, number: u32) {
        self.wanted.remove(&number);
    }

    /// The next that has ended and is waited for. May be dropped at any time.
    pub(super) async fn next(&mut self) -> LookedUp {
        loop {
            match self.running.next().await {
                // Its number may be another token's by now.
                Some(ended) if self.wanted.get(&ended.number) == Some(&ended.secret) => {
                    self.wanted.remove(&ended.number);
                    return ended;
                }
                Some(_) => {}
                None => pending().await,
            }
        }
    }
}
