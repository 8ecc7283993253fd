//! At its end every agent that is up has come back to its servers: it has the primary's bundle, answers with it, decides by the
//! intentions that there are, and has leaves with more than a third of their lives left.

use carrack_authority::{
    State,
    root::{Ca, RootPhase},
    time::Timestamp,
};
use tokio::time::sleep;

use super::{Beside, leaves};
use crate::{
    client::{Answer, Call},
    invariants::decision::Decisions,
    trace::Kind,
    workloads::{LOOK, issue::identity_of},
    world::{
        PRIMARY,
        agent::AgentHost,
        shared::{Shared, Stage},
    },
};

/// The services that are looked at: each is a leaf, and each pair a question.
const SERVICES_MAX: usize = 3;
/// The pause between two tries, in looks.
const PAUSE: u32 = 4;

pub(super) async fn run(mut beside: Beside) {
    while beside.shared.stage() < Stage::Resting {
        sleep(LOOK).await;
    }
    loop {
        match tries(&mut beside).await {
            Ok(()) => {
                let (host, start) = (beside.agent.host.clone(), beside.agent.starts());
                beside.shared.note(&host, Kind::State, "has come to rest");
                beside.shared.book().rested_agents.insert((host, start));
                return;
            }
            Err(reason) => {
                let (host, start) = (beside.agent.host.clone(), beside.agent.starts());
                beside.shared.book().restless_agents.insert((host, start), reason);
            }
        }
        sleep(LOOK * PAUSE).await;
    }
}

/// Whether an agent follows a server and has the bundle of the primary.
pub(crate) fn has_come_back(shared: &Shared, agent: &AgentHost) -> bool {
    let primary = state_of(shared, PRIMARY);
    let Some((knows, primary)) = agent.knows().zip(primary) else { return false };
    let bundle = knows.followed.bundle();
    let held = bundle.map(|bundle| bundle.roots().iter().map(|root| (root.made.id, root.phase)).collect::<Vec<_>>());
    let there: Vec<_> = primary.roots(Ca::Mesh).bundle().iter().map(|root| (root.made.id, root.phase)).collect();
    agent.connection().is_some() && held == Some(there)
}

fn state_of(shared: &Shared, datacenter: usize) -> Option<State> {
    let running = shared.servers_of(datacenter).filter(|server| server.is_core()).find_map(|server| server.context());
    running.map(|context| context.replica.state().state.clone())
}

async fn tries(beside: &mut Beside) -> Result<(), String> {
    let (shared, agent) = (beside.shared.clone(), beside.agent.clone());
    if !has_come_back(&shared, &agent) {
        let trouble = agent.knows().and_then(|knows| knows.followed.heard().trouble);
        return Err(format!("it has not the primary's bundle, or follows no server: {trouble:?}"));
    }
    let roots = beside.ask("/v1/agent/connect/ca/roots").await;
    let roots = expect(&roots)?.json();
    let state = state_of(&shared, PRIMARY).ok_or("nobody runs")?;
    let active = state.roots(Ca::Mesh).bundle().iter().filter(|root| root.phase == RootPhase::Active).count();
    let shown = roots["Roots"].as_array().map_or(0, |roots| roots.iter().filter(|root| root["Active"] == true).count());
    if shown != active {
        return Err(format!("it shows {shown} active roots"));
    }
    let services: Vec<(String, String)> = shared.book().service_tokens.clone().into_iter().take(SERVICES_MAX).collect();
    for (service, secret) in &services {
        beside.client.set_token(Some(secret.clone()));
        let asking = leaves::Asking::begin(&shared, &agent);
        let answer = beside.ask(&leaves::path(service)).await;
        let facts = asking.take(service, expect(&answer)?).ok_or("its leaf cannot be used")?;
        let now: Timestamp = shared.clock.now();
        if facts.not_after.since(now) <= facts.not_after.since(facts.not_before) / 3 {
            return Err(format!("its leaf of {service} ends {}, and it is {now}", facts.not_after));
        }
    }
    for (source, _) in &services {
        for (destination, secret) in &services {
            check_decision(beside, source, destination, secret).await?;
        }
    }
    Ok(())
}

async fn check_decision(beside: &mut Beside, source: &str, destination: &str, secret: &str) -> Result<(), String> {
    let (shared, agent) = (beside.shared.clone(), beside.agent.clone());
    let uri = identity_of(&shared, agent.datacenter, source).to_string();
    beside.client.set_token(Some(secret.to_owned()));
    let body = serde_json::json!({"Target": destination, "ClientCertURI": uri});
    let path = "/v1/agent/connect/authorize";
    let call = Call { method: "POST", path, body: Some(body), within: super::ANSWER_WITHIN };
    let answer = beside.client.call(&agent.host, call).await;
    let is_allowed = expect(&answer)?.json()["Authorized"] == true;
    let state = state_of(&shared, PRIMARY).ok_or("nobody runs")?;
    let expected = Decisions::of(&state).allows(source, destination, shared.scenario.mesh.allows_by_default);
    match is_allowed == expected {
        true => Ok(()),
        false => Err(format!("it says {is_allowed} of {source} to {destination}")),
    }
}

fn expect(answer: &Result<Answer, crate::client::Lost>) -> Result<&Answer, String> {
    match answer {
        Ok(answer) if answer.is_success() => Ok(answer),
        Ok(answer) => Err(format!("it answers {} {}", answer.status, answer.text())),
        Err(lost) => Err(lost.to_string()),
    }
}
