//! The next step of a rotation, from evidence: who has said that it has the root, not how much time has passed. And when a retired root
//! leaves the bundle: when nothing anywhere depends on it.

use std::{collections::BTreeSet, fmt, time::Duration};

use crate::{
    State,
    id::{KeyId, NodeId, Revision},
    key::KeyKind,
    planted::{self, Bug},
    root::{Ca, Root, RootPhase},
    rotation::{
        ACK_TIMEOUT, EXPIRY_PERCENT, HeardStanding, Rotation, RotationCause, RotationRequest, UNHEARD_AFTER, WantedRoot,
    },
    spiffe::Name,
    state::Depends,
    time::Timestamp,
    x509::supplied::{can_bridge, is_below_another},
};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotate {
    /// Have the provider make the new root, and publish it.
    MakeRoot {
        /// The rotation.
        rotation: Revision,
        /// The rotation, as it was observed.
        expected: Revision,
        /// The CA provider.
        provider: String,
        /// The kind of its key.
        key_kind: KeyKind,
    },
    /// Have the active root sign the bridge to the new one.
    Bridge {
        /// The new root.
        root: KeyId,
        /// Its record, as it was observed.
        expected: Revision,
        /// The active root.
        signed_by: KeyId,
    },
    /// Issue under the new root.
    Activate {
        /// The new root.
        root: KeyId,
        /// Its record, as it was observed.
        expected: Revision,
        /// The active root, as it was observed.
        expected_active: Option<KeyId>,
    },
    /// Every datacenter that can be reached issues under the new root.
    Finish {
        /// The rotation.
        rotation: Revision,
        /// The rotation, as it was observed.
        expected: Revision,
    },
}

/// What a rotation waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waits {
    /// An operator has it stand still.
    Paused,
    /// This datacenter is not so far.
    Here(LacksHere),
    /// Another datacenter is not so far.
    Datacenter {
        /// Which.
        name: Name,
        /// When it was heard last; `None`: never.
        heard_at: Option<Timestamp>,
        /// What it has not.
        lacks: Lacks,
    },
    /// Nobody has answered for `ack_timeout`: an operator decides.
    Decision,
}

/// What this datacenter has not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LacksHere {
    /// Agents do not have the new root.
    Agents {
        /// The servers that have not told that all of theirs have it.
        servers: Vec<Name>,
        /// How many agents lag, as far as the servers have told.
        lagging: u64,
        /// Some of them.
        named: Vec<Name>,
    },
    /// Servers have no issuer under the new root.
    Issuers {
        /// Which.
        servers: Vec<Name>,
    },
}

/// What a datacenter has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacks {
    /// It has not told that it has the new root in its bundle.
    Root,
    /// Agents there do not have it.
    Agents,
    /// Servers there have no issuer under it.
    Issuers,
    /// It does not issue under it.
    Activation,
}

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "does not have the new root",
            Self::Agents => "has agents that do not have the new root",
            Self::Issuers => "has servers without an issuer under the new root",
            Self::Activation => "does not issue under the new root",
        })
    }
}

/// What is to be done about a rotation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// The next step, if it can be taken now.
    pub step: Option<Rotate>,
    /// What it waits for otherwise.
    pub waits: Vec<Waits>,
}

/// The next step of the rotation under way. `absent`: the servers of this datacenter that have not answered their leader for a while.
pub fn rotate(state: &State, now: Timestamp, absent: &BTreeSet<NodeId>) -> Next {
    let Some(rotation) = state.rotation() else { return Next::default() };
    if let Some((provider, key_kind)) = &rotation.to_make {
        let (provider, key_kind) = (provider.clone(), *key_kind);
        return step(Rotate::MakeRoot { rotation: rotation.id, expected: rotation.modified, provider, key_kind });
    }
    let Some(root) = rotation.root.and_then(|id| state.roots(Ca::Mesh).find(&id)) else { return Next::default() };
    if root.phase == RootPhase::Active {
        return flip(state, now, rotation, root);
    }
    let active = state.roots(Ca::Mesh).active().map(|active| active.made.id);
    if let Some(signed_by) = active.filter(|_| rotation.is_bridged && root.bridge.is_none()) {
        return step(Rotate::Bridge { root: root.made.id, expected: root.modified, signed_by });
    }
    let waits = before_activation(state, now, rotation, root, absent);
    if waits.is_empty() {
        return step(Rotate::Activate { root: root.made.id, expected: root.modified, expected_active: active });
    }
    Next { step: None, waits }
}

fn step(step: Rotate) -> Next {
    Next { step: Some(step), waits: Vec::new() }
}

fn before_activation(
    state: &State,
    now: Timestamp,
    rotation: &Rotation,
    root: &Root,
    absent: &BTreeSet<NodeId>,
) -> Vec<Waits> {
    let is_waived = rotation.is_forced || planted::is(Bug::ActivatedUnacknowledged);
    let mut here = lacks_here(state, root, absent);
    if is_waived {
        here.retain(|lacks| !matches!(lacks, LacksHere::Agents { .. }));
    }
    let mut waits: Vec<Waits> = here.into_iter().map(Waits::Here).collect();
    if !is_waived {
        let others = state.datacenters().map(|other| (&other.name, state.standing_of(&other.name)));
        waits.extend(others.filter_map(|(name, heard)| {
            let lacks = lacks_before(heard, &root.made.id)?;
            Some(Waits::Datacenter { name: name.clone(), heard_at: heard.map(|heard| heard.heard_at), lacks })
        }));
        // Without issuers of its own servers it could not issue, whatever an operator decides.
        let is_decidable = waits.iter().any(|waits| !matches!(waits, Waits::Here(LacksHere::Issuers { .. })));
        if is_decidable && rotation.began_at.plus(rotation.ack_timeout) <= now {
            waits.push(Waits::Decision);
        }
    }
    if rotation.is_paused {
        waits.push(Waits::Paused);
    }
    waits
}

/// What this datacenter has not, and must have before it issues under a root.
fn lacks_here(state: &State, root: &Root, absent: &BTreeSet<NodeId>) -> Vec<LacksHere> {
    let mut lacks = Vec::new();
    let there = || state.members().filter(|member| !absent.contains(&member.node));
    let unheard: Vec<_> = there().filter(|member| !state.has_acknowledged(member.node, root)).collect();
    if !unheard.is_empty() {
        let told = || unheard.iter().filter_map(|member| state.acknowledgement(member.node));
        lacks.push(LacksHere::Agents {
            servers: unheard.iter().map(|member| member.name.clone()).collect(),
            lagging: told().map(|told| told.lagging.count).sum(),
            named: told().flat_map(|told| told.lagging.named.iter().cloned()).take(NAMED_MAX).collect(),
        });
    }
    let without = there().filter(|member| !state.has_issuer(member.node, &root.made.id));
    let servers: Vec<Name> = without.map(|member| member.name.clone()).collect();
    if !servers.is_empty() {
        lacks.push(LacksHere::Issuers { servers });
    }
    lacks
}

/// What a datacenter must have before a root is activated.
fn lacks_before(heard: Option<&HeardStanding>, root: &KeyId) -> Option<Lacks> {
    match heard.and_then(|heard| heard.standing.of_root(root)) {
        None => Some(Lacks::Root),
        Some(standing) if !standing.is_acknowledged => Some(Lacks::Agents),
        Some(standing) if !standing.has_issuers => Some(Lacks::Issuers),
        Some(_) => None,
    }
}

/// After the activation: the other datacenters follow it, each when it can. One that is not heard, or takes longer than is waited for,
/// does so behind the rotation.
fn flip(state: &State, now: Timestamp, rotation: &Rotation, root: &Root) -> Next {
    let behind = state.datacenters().filter_map(|other| {
        let heard = state.standing_of(&other.name)?;
        let is_heard = heard.heard_at.plus(UNHEARD_AFTER) > now;
        let is_behind = heard.standing.activation < root.activation;
        let heard_at = Some(heard.heard_at);
        (is_heard && is_behind).then(|| Waits::Datacenter {
            name: other.name.clone(),
            heard_at,
            lacks: Lacks::Activation,
        })
    });
    let waits: Vec<Waits> = behind.collect();
    let has_waited = rotation.activated_at.is_some_and(|at| at.plus(rotation.ack_timeout) <= now);
    if waits.is_empty() || rotation.is_forced || has_waited {
        return step(Rotate::Finish { rotation: rotation.id, expected: rotation.modified });
    }
    Next { step: None, waits }
}

/// The rotation that is due by itself, where rotations are scheduled.
pub fn due(state: &State, now: Timestamp) -> Option<RotationRequest> {
    let (period, active) = (state.rotation_period()?, state.roots(Ca::Mesh).active()?);
    let is_free = state.rotation().is_none() && state.primary().is_none() && !state.is_halted();
    let is_free = is_free && state.check_room_to_retire().is_ok();
    // One below an operator's own root has a successor that the operator brings: a root that is made here would leave his. And without a
    // bridge verifiers fail: only an operator decides on that.
    let has_ended = active.made.not_after <= now;
    let is_free = is_free && !is_below_another(&active.made) && (has_ended || can_bridge(&active.made));
    let cause = due_cause(active, period, now).filter(|_| is_free)?;
    let wanted =
        WantedRoot::Made { provider: active.made.provider.clone(), key_kind: state.ca_config().config.key_kind };
    Some(RotationRequest {
        cause,
        expected_active: active.made.id,
        wanted,
        // Whoever knows a root that has ended follows nothing from it.
        is_bridged: !has_ended,
        pauses_before_activation: false,
        ack_timeout: ACK_TIMEOUT,
    })
}

fn due_cause(active: &Root, period: Duration, now: Timestamp) -> Option<RotationCause> {
    if active.phase_since.plus(period) <= now {
        return Some(RotationCause::Schedule);
    }
    (life_percent(active.made.not_before, active.made.not_after, now) >= EXPIRY_PERCENT)
        .then_some(RotationCause::Expiry)
}

/// How much of a certificate's life has passed, in percent.
pub fn life_percent(not_before: Timestamp, not_after: Timestamp, now: Timestamp) -> u32 {
    let (life, lived) = (not_after.since(not_before).as_millis(), now.since(not_before).as_millis());
    let percent = lived.saturating_mul(100).checked_div(life).unwrap_or(100);
    u32::try_from(percent.min(100)).unwrap_or(100)
}

/// In a secondary: the activation of the primary under which issuing may go on here.
pub fn follow(state: &State, absent: &BTreeSet<NodeId>) -> Option<u64> {
    let heard = state.heard_activation()?;
    let standing = state.own_standing(|node| absent.contains(&node));
    let standing = standing.of_root(&heard.root)?;
    (standing.is_acknowledged && standing.has_issuers).then_some(heard.activation)
}

/// In a secondary: what it waits for before it issues under the root that the primary has activated.
pub fn follow_waits(state: &State, absent: &BTreeSet<NodeId>) -> Vec<LacksHere> {
    let root = state.heard_activation().and_then(|heard| state.roots(Ca::Mesh).find(&heard.root));
    root.map(|root| lacks_here(state, root, absent)).unwrap_or_default()
}

/// A retired root that nothing depends on any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prune {
    /// The root.
    pub root: KeyId,
    /// Its record, as it was observed.
    pub expected: Revision,
}

/// The retired roots that leave the bundle now, and when it is to be looked at again although nothing is heard.
pub fn prune(state: &State, now: Timestamp) -> (Vec<Prune>, Option<Timestamp>) {
    let (mut prunes, mut look_again) = (Vec::new(), None::<Timestamp>);
    if state.primary().is_some() {
        return (prunes, look_again);
    }
    for root in state.roots(Ca::Mesh).bundle().iter().filter(|root| root.phase == RootPhase::Retired) {
        let depends = state.depends_on(root, now);
        let is_old = planted::is(Bug::PrunedByTimer) && root.phase_since.plus(Duration::from_secs(3600)) < now;
        if depends.is_empty() || is_old {
            prunes.push(Prune { root: root.made.id, expected: root.modified });
        }
        let ends = depends.iter().filter_map(|depends| match depends {
            Depends::Leaves { until, .. } | Depends::NoFence { until, .. } => Some(*until),
            Depends::NotRetired => None,
        });
        look_again = ends.chain(look_again).min();
    }
    (prunes, look_again)
}

/// The retired roots whose keys are in other hands and under which no leaf is in use any more: they leave the bundle although leaves that
/// were left have not ended. And whether there are some that wait for that.
pub fn compromised(state: &State) -> (Vec<KeyId>, bool) {
    if state.primary().is_some() {
        return (Vec::new(), false);
    }
    let bundle = state.roots(Ca::Mesh).bundle();
    let retired = bundle.iter().filter(|root| root.phase == RootPhase::Retired);
    let compromised = retired.filter(|root| state.tainted(&root.made.id).is_some_and(|it| it.is_compromised));
    let (drained, left): (Vec<_>, Vec<_>) = compromised.partition(|root| state.is_drained(root));
    (drained.iter().map(|root| root.made.id).collect(), !left.is_empty())
}

/// The most lagging agents that are named.
const NAMED_MAX: usize = 16;
