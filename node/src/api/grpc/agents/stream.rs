//! One agent's stream: each thing that it follows is told as a whole, at once and after each change. A deleted token's rights end with
//! the change that deletes it.

use std::{sync::Arc, time::Duration};

use async_stream::stream;
use carrack_authority::{
    acl::token::secret_digest,
    agent::Agent,
    id::{Digest, Revision},
    spiffe::Name,
};
use carrack_proto::agent::{
    FollowRequest, FollowResponse, Nothing, Subscribe, follow_request, follow_response, subscribe,
};
use futures::{Stream, StreamExt};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep_until},
};
use tonic::{Status, Streaming};
use uuid::Uuid;

use super::{
    NOT_AN_AGENT,
    look_ups::{LookUps, LookedUp},
};
use crate::server::{
    agents::ToldToAll,
    context::Context,
    topics::{Following, Found, Topic},
};

/// How often an agent hears that its server is there.
pub(in crate::api) const ALIVE_EVERY: Duration = Duration::from_secs(3);
/// The number under which each stream follows whether its agent is one.
const AGENT: u32 = 0;

type Told = follow_response::Told;

/// An agent's stream, before it runs.
pub(super) struct Follower {
    context: Arc<Context>,
    look_ups: Arc<Semaphore>,
    agent: Arc<Agent>,
}

impl Follower {
    pub(super) fn new(context: Arc<Context>, look_ups: Arc<Semaphore>, agent: Arc<Agent>) -> Self {
        Self { context, look_ups, agent }
    }

    /// The answers to what the agent asks for.
    pub(super) fn run(
        self,
        mut asked: Streaming<FollowRequest>,
    ) -> impl Stream<Item = Result<FollowResponse, Status>> + Send + 'static {
        stream! {
            let presence = self.context.agents.enter(self.agent.public_key, &self.agent.node);
            let mut to_all = self.context.told.clone();
            let mut stopped = self.context.stopped.clone();
            let mut bundle = BundleFollowed::default();
            let mut following = self.context.topics.enter();
            let mut look_ups = LookUps::new(self.look_ups.clone());
            if let Err(status) = self.follow_agent(&mut following) {
                yield Err(status);
                return;
            }
            let mut alive_at = Instant::now();
            loop {
                // Beside whether its agent is one.
                presence.follows(following.count().saturating_sub(1));
                tokio::select! {
                    message = asked.next() => match message {
                        None => return,
                        Some(Err(status)) => {
                            tracing::debug!(agent = %self.agent.node, %status, "an agent's stream broke");
                            return;
                        }
                        Some(Ok(FollowRequest { ask: None })) => {}
                        Some(Ok(FollowRequest { ask: Some(follow_request::Ask::HasBundle(revision)) })) => {
                            presence.has_bundle(Revision(revision));
                        }
                        Some(Ok(FollowRequest { ask: Some(follow_request::Ask::Leave(number)) })) => {
                            bundle.leave(number);
                            look_ups.leave(number);
                            if number != AGENT {
                                following.leave(number);
                            }
                        }
                        Some(Ok(FollowRequest { ask: Some(follow_request::Ask::Subscribe(subscribe)) })) => {
                            match self.subscribe(&mut bundle, &mut following, &mut look_ups, &mut to_all, subscribe) {
                                Ok(Some(response)) => yield Ok(response),
                                Ok(None) => {}
                                Err(status) => {
                                    yield Err(status);
                                    return;
                                }
                            }
                        }
                    },
                    (number, found) = following.changed() => {
                        if number != AGENT {
                            yield Ok(response(number, &found));
                        } else if found.is_end() {
                            yield Err(Status::permission_denied(NOT_AN_AGENT));
                            return;
                        }
                    }
                    looked_up = look_ups.next() => yield Ok(self.looked_up(&mut following, looked_up)),
                    // An error means that the server itself is gone: that is an end too.
                    changed = to_all.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        let now = to_all.borrow_and_update().clone();
                        if let Some(response) = bundle.next(&now) {
                            yield Ok(response);
                        }
                    }
                    () = sleep_until(alive_at) => {
                        if self.context.replica.heard_leader().is_none() {
                            yield Err(Status::unavailable("this server has not heard its leader for some seconds: ask another one"));
                            return;
                        }
                        alive_at = Instant::now() + ALIVE_EVERY;
                        yield Ok(self.of_now(0, Told::Alive(Nothing {})));
                    }
                    () = ended(&mut stopped) => {
                        yield Err(Status::unavailable("this server stops"));
                        return;
                    }
                }
            }
        }
    }

    fn follow_agent(&self, following: &mut Following) -> Result<(), Status> {
        let found = following.follow(AGENT, Topic::Agent(self.agent.public_key));
        let found = found.map_err(|error| Status::resource_exhausted(error.to_string()))?;
        if found.is_end() { Err(Status::permission_denied(NOT_AN_AGENT)) } else { Ok(()) }
    }

    fn subscribe(
        &self,
        bundle: &mut BundleFollowed,
        following: &mut Following,
        look_ups: &mut LookUps,
        to_all: &mut watch::Receiver<Arc<ToldToAll>>,
        Subscribe { number, what }: Subscribe,
    ) -> Result<Option<FollowResponse>, Status> {
        let is_in_use = bundle.number == Some(number) || following.is_in_use(number) || look_ups.is_in_use(number);
        if number == 0 || is_in_use {
            return Err(Status::invalid_argument(format!("the number {number} is zero or in use")));
        }
        match what {
            None => Err(Status::unimplemented(
                "this server does not know what is to be followed: it is older than its agent",
            )),
            Some(subscribe::What::Bundle(Nothing {})) => {
                *bundle = BundleFollowed { number: Some(number), told: None };
                Ok(bundle.next(&to_all.borrow_and_update().clone()))
            }
            Some(subscribe::What::Token(secret)) => {
                let Ok(secret) = Uuid::from_slice(&secret) else {
                    return Err(Status::invalid_argument("the secret of a token has 16 bytes"));
                };
                Ok(self.follow_token(following, look_ups, number, secret_digest(&secret)))
            }
            Some(subscribe::What::Destination(name)) => {
                let name = Name::parse("destination", &name);
                let name = name.map_err(|error| Status::invalid_argument(error.to_string()))?;
                Ok(Some(self.follow(following, number, Topic::Destination(name))))
            }
            Some(subscribe::What::Revoked(Nothing {})) => Ok(Some(self.follow(following, number, Topic::Revoked))),
        }
    }

    /// Follows a token; `None`: it is looked for first.
    fn follow_token(
        &self,
        following: &mut Following,
        look_ups: &mut LookUps,
        number: u32,
        secret: Digest,
    ) -> Option<FollowResponse> {
        let known = self.follow(following, number, Topic::Token(secret));
        if !matches!(known.told, Some(Told::NoToken(_))) {
            return Some(known);
        }
        // Whoever was given a token may use it at every agent at once: it may be committed, and not have come here yet.
        if look_ups.begin(self.context.replica.clone(), number, secret) {
            return None;
        }
        Some(self.unavailable(number, "too many unknown tokens are looked for at the leader: ask again".into()))
    }

    fn looked_up(&self, following: &mut Following, ended: LookedUp) -> FollowResponse {
        let LookedUp { number, secret, outcome } = ended;
        match outcome {
            Ok(()) => self.follow(following, number, Topic::Token(secret)),
            Err(error) => self.unavailable(number, format!("nobody can tell whether this token exists: {error}")),
        }
    }

    /// Follows something; the first answer.
    fn follow(&self, following: &mut Following, number: u32, topic: Topic) -> FollowResponse {
        match following.follow(number, topic) {
            Ok(found) => response(number, &found),
            Err(error) => self.unavailable(number, error.to_string()),
        }
    }

    fn unavailable(&self, number: u32, reason: String) -> FollowResponse {
        self.of_now(number, Told::Unavailable(reason))
    }

    fn of_now(&self, number: u32, told: Told) -> FollowResponse {
        FollowResponse { number, revision: self.context.replica.state().state.index(), told: Some(told) }
    }
}

fn response(number: u32, found: &Found) -> FollowResponse {
    FollowResponse { number, revision: found.revision, told: Some(found.told.clone()) }
}

/// An error means that the server itself is gone: that is an end too.
async fn ended(stopped: &mut watch::Receiver<bool>) {
    drop(stopped.wait_for(|stopped| *stopped).await);
}

/// How a stream follows the bundle.
#[derive(Default)]
struct BundleFollowed {
    number: Option<u32>,
    told: Option<Revision>,
}

impl BundleFollowed {
    fn leave(&mut self, number: u32) {
        if self.number == Some(number) {
            self.number = None;
        }
    }

    /// The bundle, if it is followed and was not told yet.
    fn next(&mut self, now: &ToldToAll) -> Option<FollowResponse> {
        let number = self.number?;
        let (revision, bundle) = now.bundle.as_ref()?;
        if self.told == Some(*revision) {
            return None;
        }
        self.told = Some(*revision);
        let told = Some(Told::Bundle(carrack_proto::agent::Bundle::clone(bundle)));
        Some(FollowResponse { number, revision: revision.0, told })
    }
}
