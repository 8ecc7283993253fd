//! `GET /v1/carrack/ca`: the roots, what is left under each, the rotation under way and what it waits for, in words.

mod words;

use std::collections::BTreeSet;

use axum::response::Response;
use carrack_authority::{
    State,
    id::NodeId,
    plan::rotate::{follow_waits, rotate},
    root::{Ca, Root, RootPhase},
    rotation::{LastRotation, Rotation, Standing},
    spiffe::Name,
    time::Timestamp,
};
use serde::Serialize;

use super::{call::Call, cluster, error::HttpError, span};
use crate::server::desk::halt_unknown;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CaStatus {
    datacenter: String,
    /// Where roots are rotated.
    primary: String,
    halted: bool,
    /// Why nothing is issued here although nobody is known to have halted it.
    halt_unknown: Option<String>,
    /// The number of the activation under which this datacenter issues.
    activation: u64,
    rotation: Option<RotationEntry>,
    /// In a secondary: the primary's activation that this datacenter does not follow yet.
    following: Option<FollowingEntry>,
    /// On another server than the leader: who leads, and alone knows which servers do not answer.
    leader: Option<String>,
    last_rotation: Option<RotationEntry>,
    rotation_period: Option<String>,
    roots: Vec<RootEntry>,
    datacenters: Vec<DatacenterEntry>,
    log_time: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct FollowingEntry {
    activation: u64,
    #[serde(rename = "RootID")]
    root: String,
    /// What it waits for.
    waits: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RotationEntry {
    #[serde(rename = "ID")]
    id: u64,
    cause: &'static str,
    /// `making`, `bridging`, `waiting`, `activating`, `flipping`, or how it ended.
    phase: String,
    #[serde(rename = "FormerRootID")]
    former_root: String,
    #[serde(rename = "RootID")]
    root: Option<String>,
    bridged: bool,
    paused: bool,
    forced: bool,
    began_at: String,
    activated_at: Option<String>,
    ended_at: Option<String>,
    /// What it waits for.
    waits: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootEntry {
    #[serde(rename = "ID")]
    id: String,
    phase: &'static str,
    since: String,
    activation: u64,
    key_type: String,
    provider: String,
    not_before: String,
    not_after: String,
    bridge: Option<BridgeEntry>,
    tainted: Option<String>,
    leaves: Vec<LeavesEntry>,
    /// Of a retired one: why it is still in the bundle.
    waits: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct BridgeEntry {
    #[serde(rename = "SignedByRootID")]
    signed_by: String,
    not_after: String,
}

/// What is left under a root in one datacenter.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LeavesEntry {
    datacenter: String,
    current: u64,
    unexpired: u64,
    last_not_after: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DatacenterEntry {
    name: String,
    activation: u64,
    halted: bool,
    absent_servers: u64,
    lagging_agents: u64,
    /// When it was heard last; of this datacenter: now.
    heard_at: Option<String>,
}

/// The handler.
pub(super) async fn read(call: Call) -> Result<Response, HttpError> {
    let view = call.view().await?;
    let absent = call.edge.context.presence.absent(&call.edge.context.replica);
    let mut status = status(view.state(), call.now(), &absent)?;
    status.leader = cluster::leader_elsewhere(&call, view.state());
    status.halt_unknown = halt_unknown(view.state(), call.now(), call.edge.context.halt_staleness_max);
    Ok(call.json(&status)?.with_index(view.state().index()).with_freshness(view.freshness).into_response())
}

fn status(state: &State, now: Timestamp, absent: &BTreeSet<NodeId>) -> Result<CaStatus, HttpError> {
    let cluster = state.cluster().ok_or_else(|| HttpError::Unavailable("this datacenter has not begun".into()))?;
    let own = (cluster.datacenter.clone(), state.own_standing(|node| absent.contains(&node)));
    let others = state.datacenters().filter_map(|other| {
        let heard = state.standing_of(&other.name)?;
        Some((other.name.clone(), heard.standing.clone()))
    });
    let standings: Vec<(Name, Standing)> = std::iter::once(own).chain(others).collect();
    Ok(CaStatus {
        datacenter: cluster.datacenter.to_string(),
        primary: state.primary().unwrap_or(&cluster.datacenter).to_string(),
        halted: state.is_halted(),
        halt_unknown: None,
        activation: state.roots(Ca::Mesh).activation(),
        rotation: state.rotation().map(|rotation| under_way(state, rotation, now, absent)),
        following: following(state, absent),
        leader: None,
        last_rotation: state.last_rotation().map(|last| ended(last)),
        rotation_period: state.rotation_period().map(span::format),
        roots: state.roots(Ca::Mesh).bundle().iter().map(|root| root_entry(state, root, now, &standings)).collect(),
        datacenters: datacenters(state, &standings, now),
        log_time: now.to_string(),
    })
}

fn under_way(state: &State, rotation: &Rotation, now: Timestamp, absent: &BTreeSet<NodeId>) -> RotationEntry {
    let next = rotate(state, now, absent);
    let phase = words::phase(state, rotation, &next);
    let waits = next.waits.iter().map(|waits| words::waits(waits, rotation, now)).collect();
    RotationEntry { waits, ..entry(rotation, phase.into()) }
}

fn following(state: &State, absent: &BTreeSet<NodeId>) -> Option<FollowingEntry> {
    let heard = state.heard_activation()?;
    let waits = follow_waits(state, absent).iter().map(words::lacks_here).collect();
    Some(FollowingEntry { activation: heard.activation, root: heard.root.to_string(), waits })
}

fn ended(last: &LastRotation) -> RotationEntry {
    let entry = entry(&last.rotation, last.end.to_string());
    RotationEntry { ended_at: Some(last.ended_at.to_string()), ..entry }
}

fn entry(rotation: &Rotation, phase: String) -> RotationEntry {
    RotationEntry {
        id: rotation.id.0,
        cause: rotation.cause.as_str(),
        phase,
        former_root: rotation.former.to_string(),
        root: rotation.root.map(|root| root.to_string()),
        bridged: rotation.is_bridged,
        paused: rotation.is_paused,
        forced: rotation.is_forced,
        began_at: rotation.began_at.to_string(),
        activated_at: rotation.activated_at.map(|at| at.to_string()),
        ended_at: None,
        waits: Vec::new(),
    }
}

fn root_entry(state: &State, root: &Root, now: Timestamp, standings: &[(Name, Standing)]) -> RootEntry {
    let id = root.made.id;
    let leaves = standings.iter().filter_map(|(name, standing)| {
        let left = standing.of_root(&id)?;
        let last = Some(left.last_not_after).filter(|last| *last > Timestamp::EPOCH);
        Some(LeavesEntry {
            datacenter: name.to_string(),
            current: left.current,
            unexpired: left.unexpired,
            last_not_after: last.map(|last| last.to_string()),
        })
    });
    // What a retired root waits for the primary knows, and it alone.
    let is_asked = root.phase == RootPhase::Retired && state.primary().is_none();
    let depends = if is_asked { state.depends_on(root, now) } else { Vec::new() };
    RootEntry {
        id: id.to_string(),
        phase: root.phase.as_str(),
        since: root.phase_since.to_string(),
        activation: root.activation,
        key_type: root.made.key_kind.to_string(),
        provider: root.made.provider.clone(),
        not_before: root.made.not_before.to_string(),
        not_after: root.made.not_after.to_string(),
        bridge: root.bridge.as_ref().map(|bridge| BridgeEntry {
            signed_by: bridge.signed_by.to_string(),
            not_after: bridge.not_after.to_string(),
        }),
        tainted: state.tainted(&id).map(|tainted| tainted.reason.clone()),
        leaves: leaves.collect(),
        waits: depends.iter().map(words::depends).collect(),
    }
}

fn datacenters(state: &State, standings: &[(Name, Standing)], now: Timestamp) -> Vec<DatacenterEntry> {
    let told = standings.iter().map(|(name, standing)| {
        let heard = state.standing_of(name).map_or(now, |heard| heard.heard_at);
        DatacenterEntry {
            name: name.to_string(),
            activation: standing.activation,
            halted: standing.is_halted,
            absent_servers: standing.absent,
            lagging_agents: standing.lagging,
            heard_at: Some(heard.to_string()),
        }
    });
    let is_silent = |name: &Name| state.primary().is_none() && standings.iter().all(|(told, _)| told != name);
    let silent = state.datacenters().filter(|other| is_silent(&other.name)).map(|other| DatacenterEntry {
        name: other.name.to_string(),
        activation: 0,
        halted: false,
        absent_servers: 0,
        lagging_agents: 0,
        heard_at: None,
    });
    told.chain(silent).collect()
}
