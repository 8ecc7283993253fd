//! Tells the datacenter what this server's agents have in use, once for each bundle.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    Command, State, WatchKey,
    id::Revision,
    plan::acknowledge::{Acknowledge, Seen, SeenAgent, acknowledge},
    root::Ca,
};
use futures::future::{FutureExt, select_all};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    PROPOSE_WITHIN,
    agents::LIVE_AFTER,
    context::Context,
    task::{StepError, chain_of},
};

/// Agents take a new bundle over together: they are looked at once for all that do so within this time.
const GATHER: Duration = Duration::from_millis(20);
/// The pause after a word that did not get through.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Without any change it is looked again this soon.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// What the plan looks at.
const WATCHED: [WatchKey; 5] = [
    WatchKey::Roots(Ca::Mesh),
    WatchKey::Roots(Ca::Server),
    WatchKey::RevokedIssuers,
    WatchKey::Acknowledgements,
    WatchKey::Agents,
];

/// What one process knows of its time.
struct Memory {
    /// The newest bundle, and since when.
    newest: (Revision, Instant),
    /// When lagging agents were told of.
    reported: Option<Instant>,
    /// Until when agents may be live that spoke to the process before this one.
    unknown_until: Instant,
}

/// Tells it until the server stops. `is_first`: no process of this server ran before.
pub(super) async fn acknowledge_bundles(context: Arc<Context>, is_first: bool) {
    let mut stopped = context.stopped.clone();
    let now = Instant::now();
    let unknown_until = if is_first { now } else { now + LIVE_AFTER };
    let mut memory = Memory { newest: (Revision::default(), now), reported: None, unknown_until };
    let work = async {
        loop {
            if let Err(error) = look(&context, &mut memory).await {
                tracing::debug!(error = %chain_of(&*error), "what the agents have is told again");
                sleep(TRY_AGAIN).await;
            }
        }
    };
    tokio::select! {
        () = work => {}
        // An error means that the server itself is gone: that is an end too.
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}

/// Looks once, tells what there is to tell, or waits.
async fn look(context: &Context, memory: &mut Memory) -> Result<(), StepError> {
    let (replica, node) = (&context.replica, context.identity.node);
    let state = replica.state().state.clone();
    let newest = state.bundle_revision();
    if memory.newest.0 != newest {
        memory.newest = (newest, Instant::now());
    }
    let (agents, left) = context.agents.live(|key| state.agent_of_key(key).is_some());
    let agents = agents.into_iter().map(|agent| {
        let (has, known_for) = (agent.has_bundle, agent.since.elapsed());
        SeenAgent { node: agent.node, has, known_for }
    });
    let mut agents: Vec<SeenAgent> = agents.collect();
    agents.sort_by(|one, other| one.node.cmp(&other.node));
    let seen = Seen {
        agents,
        newest_for: memory.newest.1.elapsed(),
        reported: memory.reported.map(|at| at.elapsed()),
        unknown_for: memory.unknown_until.saturating_duration_since(Instant::now()),
    };
    match acknowledge(&state, node, &seen) {
        Acknowledge::Wait(next) => {
            let wait = next.into_iter().chain(left).fold(LOOK_AGAIN, Duration::min);
            wait_for_change(context, &state, wait).await;
            Ok(())
        }
        Acknowledge::Tell { bundle, lagging } => {
            if lagging.count > 0 {
                memory.reported = Some(Instant::now());
                tracing::warn!(
                    count = lagging.count,
                    bundle = newest.0,
                    "agents have not taken the newest bundle over"
                );
            }
            let command = Command::AcknowledgeBundle { node, bundle, lagging };
            let proposed = replica.propose(command, Instant::now() + PROPOSE_WITHIN).await?;
            proposed.outcome.accepted()?;
            // The next look must see it, or it would be told again.
            replica.wait_index(proposed.index, Instant::now() + PROPOSE_WITHIN).await;
            Ok(())
        }
    }
}

async fn wait_for_change(context: &Context, state: &State, wait: Duration) {
    let deadline = Instant::now() + wait;
    let changes = WATCHED.iter().map(|key| {
        let after = state.modified(key);
        async move {
            if context.replica.wait_for(*key, after, deadline).await.is_err() {
                // Too many wait already: it is looked again in time.
                sleep_until(deadline).await;
            }
        }
        .boxed()
    });
    let agents = async {
        context.agents.changed().await;
        sleep(GATHER).await;
    };
    select_all(changes.chain([agents.boxed(), sleep_until(deadline).boxed()])).await;
}
