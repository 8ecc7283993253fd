//! One agent's stream: each thing that it follows is told as a whole, at once and after each change. A deleted token's rights end with
//! the change that deletes it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_stream::stream;
use carrack_authority::{
    State, WatchKey,
    acl::{AccessorId, token::secret_digest},
    agent::Agent,
    id::{Digest, Revision},
    spiffe::Name,
};
use carrack_proto::{
    agent::{FollowRequest, FollowResponse, Nothing, Subscribe, follow_request, follow_response, subscribe},
    convert::agent::{RightsTold, intentions_to_wire, revoked_to_wire, rights_to_wire},
};
use futures::{
    FutureExt, Stream, StreamExt,
    future::{BoxFuture, select_all},
    stream::FuturesUnordered,
};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep_until},
};
use tonic::{Status, Streaming};
use uuid::Uuid;

use super::NOT_AN_AGENT;
use crate::{
    api::grpc::certificates::LOOK_UP_WITHIN,
    server::{agents::ToldToAll, context::Context},
};

/// How often an agent hears that its server is there.
pub(in crate::api) const ALIVE_EVERY: Duration = Duration::from_secs(3);
/// The most tokens and destinations that one agent follows: as many as it keeps, and some more.
const ITEMS_MAX: usize = 8_192;
/// How long one change is waited for at once.
const WAIT: Duration = Duration::from_secs(600);

type Told = follow_response::Told;

/// An agent's stream, before it runs.
pub(super) struct Follower {
    context: Arc<Context>,
    look_ups: Arc<Semaphore>,
    agent: Arc<Agent>,
}

/// What is followed, beside the bundle.
#[derive(Clone)]
enum What {
    /// The token of this secret.
    Token(Digest),
    /// The intentions of this destination.
    Destination(Name),
    /// The revoked leaves.
    Revoked,
}

/// Something that is followed.
struct Item {
    what: What,
    /// What was told last.
    told: Told,
}

/// Something that a stream waits for has happened.
enum Woken {
    /// What is followed under this number has changed, perhaps.
    Item(u32),
    /// The agent has changed: it was removed or replaced.
    Agent,
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
            let mut following = Following::default();
            following.waits.push(self.agent_changes());
            let mut alive_at = Instant::now();
            loop {
                presence.follows(following.items.len());
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
                            following.leave(number);
                        }
                        Some(Ok(FollowRequest { ask: Some(follow_request::Ask::Subscribe(subscribe)) })) => {
                            match self.subscribe(&mut following, &mut to_all, subscribe).await {
                                Ok(Some(response)) => yield Ok(response),
                                Ok(None) => {}
                                Err(status) => {
                                    yield Err(status);
                                    return;
                                }
                            }
                        }
                    },
                    Some(woken) = following.waits.next() => match woken {
                        Woken::Agent => {
                            if self.state().agent_of_key(&self.agent.public_key).is_none() {
                                yield Err(Status::permission_denied(NOT_AN_AGENT));
                                return;
                            }
                            following.waits.push(self.agent_changes());
                        }
                        Woken::Item(number) => {
                            if let Some(told) = self.look_again(&mut following, number) {
                                yield Ok(self.response(number, told));
                            }
                        }
                    },
                    // An error means that the server itself is gone: that is an end too.
                    changed = to_all.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        let now = to_all.borrow_and_update().clone();
                        if let Some(response) = following.bundle(&now) {
                            yield Ok(response);
                        }
                        if now.policies != following.policies {
                            following.policies = now.policies;
                            for (number, told) in self.look_at_tokens(&mut following) {
                                yield Ok(self.response(number, told));
                            }
                        }
                    }
                    () = sleep_until(alive_at) => {
                        if self.context.replica.heard_leader().is_none() {
                            yield Err(Status::unavailable("this server has not heard its leader for some seconds: ask another one"));
                            return;
                        }
                        alive_at = Instant::now() + ALIVE_EVERY;
                        yield Ok(self.response(0, Told::Alive(Nothing {})));
                        // In a secondary, what is known of tokens grows old while the primary is not heard.
                        if self.context.token_staleness_max.is_some() {
                            for (number, told) in self.look_at_tokens(&mut following) {
                                yield Ok(self.response(number, told));
                            }
                        }
                    }
                    () = ended(&mut stopped) => {
                        yield Err(Status::unavailable("this server stops"));
                        return;
                    }
                }
            }
        }
    }

    fn state(&self) -> State {
        self.context.replica.state().state.clone()
    }

    fn response(&self, number: u32, told: Told) -> FollowResponse {
        FollowResponse { number, revision: self.context.replica.state().state.index(), told: Some(told) }
    }

    async fn subscribe(
        &self,
        following: &mut Following,
        to_all: &mut watch::Receiver<Arc<ToldToAll>>,
        Subscribe { number, what }: Subscribe,
    ) -> Result<Option<FollowResponse>, Status> {
        if number == 0 || following.is_in_use(number) {
            return Err(Status::invalid_argument(format!("the number {number} is zero or in use")));
        }
        match what {
            None => Err(Status::unimplemented(
                "this server does not know what is to be followed: it is older than its agent",
            )),
            Some(subscribe::What::Bundle(Nothing {})) => {
                following.bundle_number = Some(number);
                following.told_bundle = None;
                let now = to_all.borrow_and_update().clone();
                following.policies = now.policies;
                Ok(following.bundle(&now))
            }
            Some(subscribe::What::Token(secret)) => {
                let Ok(secret) = Uuid::from_slice(&secret) else {
                    return Err(Status::invalid_argument("the secret of a token has 16 bytes"));
                };
                let told = self.follow_token(following, number, secret_digest(&secret)).await;
                Ok(Some(self.response(number, told)))
            }
            Some(subscribe::What::Destination(name)) => {
                let name = Name::parse("destination", &name);
                let name = name.map_err(|error| Status::invalid_argument(error.to_string()))?;
                let told = self.follow(following, number, What::Destination(name), &self.state());
                Ok(Some(self.response(number, told)))
            }
            Some(subscribe::What::Revoked(Nothing {})) => {
                let told = self.follow(following, number, What::Revoked, &self.state());
                Ok(Some(self.response(number, told)))
            }
        }
    }

    async fn follow_token(&self, following: &mut Following, number: u32, secret: Digest) -> Told {
        let state = self.state();
        if !matches!(self.told(&state, &What::Token(secret)), Told::NoToken(_)) {
            return self.follow(following, number, What::Token(secret), &state);
        }
        // Whoever was given a token may use it at every agent at once: it may be committed, and not have come here yet.
        let Ok(_place) = self.look_ups.try_acquire() else {
            return Told::Refused("too many unknown tokens are looked for at the leader: ask again".into());
        };
        match self.context.replica.read_linearizable(Instant::now() + LOOK_UP_WITHIN).await {
            Ok(applied) => self.follow(following, number, What::Token(secret), &applied.state),
            Err(error) => Told::Refused(format!("nobody can tell whether this token exists: {error}")),
        }
    }

    /// Follows something from this state on, if there is something to follow.
    fn follow(&self, following: &mut Following, number: u32, what: What, state: &State) -> Told {
        // Of what was left, the waits are still there for a while.
        if following.items.len() >= ITEMS_MAX || following.waits.len() >= 2 * ITEMS_MAX {
            return Told::Refused(format!("an agent follows {ITEMS_MAX} tokens and destinations at most"));
        }
        let told = self.told(state, &what);
        if let Some(changes) = self.changes(state, number, &what, &told) {
            following.waits.push(changes);
            following.items.insert(number, Item { what, told: told.clone() });
        }
        told
    }

    /// What is to be told in this state.
    fn told(&self, state: &State, what: &What) -> Told {
        match what {
            What::Token(secret) => self.rights(state, secret),
            What::Destination(name) => {
                let intentions = state.intentions().matching_destination(name);
                Told::Intentions(intentions_to_wire(intentions.map(|intention| &**intention)))
            }
            What::Revoked => {
                Told::Revoked(revoked_to_wire(state.revocations().all().map(|revocation| &revocation.serial)))
            }
        }
    }

    /// What a token may do in this state.
    fn rights(&self, state: &State, secret: &Digest) -> Told {
        let now = self.context.replica.log_time();
        let Some(token) = state.acl().token_of_secret(secret, now) else { return Told::NoToken(Nothing {}) };
        if state.is_stale(token, now, self.context.token_staleness_max) {
            return Told::Refused(crate::server::desk::TOKEN_IS_STALE.into());
        }
        Told::Rights(rights_to_wire(&RightsTold {
            accessor: token.accessor,
            expires_at: token.expires_at,
            modified: token.modified,
            authorizer: state.authorizer(token),
        }))
    }

    /// What is to be told now of something that has changed, perhaps; a token that is nobody's any more is not followed further.
    fn look_again(&self, following: &mut Following, number: u32) -> Option<Told> {
        let state = self.state();
        let told = self.look(following, number, &state);
        if let Some(item) = following.items.get(&number)
            && let Some(changes) = self.changes(&state, number, &item.what, &item.told)
        {
            following.waits.push(changes);
        }
        told
    }

    fn look(&self, following: &mut Following, number: u32, state: &State) -> Option<Told> {
        let item = following.items.get_mut(&number)?;
        let told = self.told(state, &item.what);
        if told == item.told {
            return None;
        }
        item.told = told.clone();
        if matches!(told, Told::NoToken(_) | Told::Refused(_)) {
            following.items.remove(&number);
        }
        Some(told)
    }

    fn look_at_tokens(&self, following: &mut Following) -> Vec<(u32, Told)> {
        let state = self.state();
        let tokens = following.items.iter().filter(|(_, item)| matches!(item.what, What::Token(_)));
        let numbers: Vec<u32> = tokens.map(|(number, _)| *number).collect();
        numbers.into_iter().filter_map(|number| Some((number, self.look(following, number, &state)?))).collect()
    }

    /// Ends when what was told in this state has changed since; `None`: it is not followed.
    fn changes(&self, state: &State, number: u32, what: &What, told: &Told) -> Option<BoxFuture<'static, Woken>> {
        let keys = match (what, told) {
            (What::Token(_), told) => vec![WatchKey::Token(accessor_of(told)?)],
            (What::Destination(name), _) => WatchKey::intentions_matching(name).to_vec(),
            (What::Revoked, _) => vec![WatchKey::Revocations],
        };
        let keys: Vec<(WatchKey, Revision)> = keys.into_iter().map(|key| (key, state.modified(&key))).collect();
        let context = self.context.clone();
        Some(Box::pin(async move {
            let changes = keys.into_iter().map(|(key, after)| changed(&context, key, after).boxed());
            select_all(changes).await;
            Woken::Item(number)
        }))
    }

    fn agent_changes(&self) -> BoxFuture<'static, Woken> {
        let (context, key) = (self.context.clone(), WatchKey::Agent(self.agent.public_key));
        let after = self.state().modified(&key);
        Box::pin(async move {
            changed(&context, key, after).await;
            Woken::Agent
        })
    }
}

async fn changed(context: &Context, key: WatchKey, after: Revision) {
    if let Err(error) = context.replica.wait_for(key, after, Instant::now() + WAIT).await {
        // Looked at again soon: nobody tells of its changes.
        tracing::warn!(%error, "an agent hears of changes late");
        tokio::time::sleep(ALIVE_EVERY).await;
    }
}

/// An error means that the server itself is gone: that is an end too.
async fn ended(stopped: &mut watch::Receiver<bool>) {
    drop(stopped.wait_for(|stopped| *stopped).await);
}

/// Whose rights were told.
fn accessor_of(told: &Told) -> Option<AccessorId> {
    match told {
        Told::Rights(rights) => Uuid::from_slice(&rights.accessor).ok().map(AccessorId),
        _ => None,
    }
}

/// What one stream follows.
#[derive(Default)]
struct Following {
    bundle_number: Option<u32>,
    told_bundle: Option<Revision>,
    policies: Revision,
    items: BTreeMap<u32, Item>,
    waits: FuturesUnordered<BoxFuture<'static, Woken>>,
}

impl Following {
    fn is_in_use(&self, number: u32) -> bool {
        self.bundle_number == Some(number) || self.items.contains_key(&number)
    }

    fn leave(&mut self, number: u32) {
        if self.bundle_number == Some(number) {
            self.bundle_number = None;
        }
        // Its wait ends by itself and finds nothing.
        self.items.remove(&number);
    }

    /// The bundle, if it is followed and was not told yet.
    fn bundle(&mut self, now: &ToldToAll) -> Option<FollowResponse> {
        let number = self.bundle_number?;
        let (revision, bundle) = now.bundle.as_ref()?;
        if self.told_bundle == Some(*revision) {
            return None;
        }
        self.told_bundle = Some(*revision);
        let told = Some(Told::Bundle(agent_bundle(bundle)));
        Some(FollowResponse { number, revision: revision.0, told })
    }
}

fn agent_bundle(bundle: &Arc<carrack_proto::agent::Bundle>) -> carrack_proto::agent::Bundle {
    carrack_proto::agent::Bundle::clone(bundle)
}
