//! What a rotation and a retired root wait for, in words for operators.

use carrack_authority::{
    State,
    plan::rotate::{LacksHere, Next, Rotate, Waits},
    rotation::Rotation,
    spiffe::Name,
    state::Depends,
    time::Timestamp,
};

use crate::api::http::span;

/// Where a rotation is.
pub(super) fn phase(state: &State, rotation: &Rotation, next: &Next) -> &'static str {
    match (&next.step, rotation.activated_at) {
        (Some(Rotate::MakeRoot { .. }), _) => "making the root",
        (Some(Rotate::Bridge { .. }), _) => "making the bridge",
        (Some(Rotate::Activate { .. }), _) => "activating",
        (_, Some(_)) => "activated, other datacenters follow",
        _ if state.is_halted() => "halted",
        _ if rotation.is_paused => "paused",
        _ => "waiting",
    }
}

/// What a rotation waits for.
pub(super) fn waits(waits: &Waits, rotation: &Rotation, now: Timestamp) -> String {
    match waits {
        Waits::Paused => format!(
            "it is paused before it activates: `carrack ca resume` lets it go on, `carrack ca rollback` takes it back (rotation {})",
            rotation.id
        ),
        Waits::Here(lacks) => lacks_here(lacks),
        Waits::Datacenter { name, heard_at: Some(at), lacks } => {
            format!("datacenter {name} {lacks} (last heard {} s ago)", now.since(*at).as_secs())
        }
        Waits::Datacenter { name, heard_at: None, lacks } => {
            format!("datacenter {name} {lacks} (it was never heard: its servers may be older than rotations)")
        }
        Waits::Decision => {
            let waited = span::format(rotation.ack_timeout);
            format!(
                "it has waited for {waited}: `carrack ca rotate --force-activate` goes on without those who do not have the new root yet, \
                 and whoever of them does not follow its bridge fails"
            )
        }
    }
}

/// What servers and agents of this datacenter do not have yet.
pub(super) fn lacks_here(lacks: &LacksHere) -> String {
    match lacks {
        // None is known to lag: the server counts them still, or waits for those that spoke to the process before it.
        LacksHere::Agents { servers, lagging: 0, .. } => format!(
            "{} to say that all agents there have the new root: one that has just started waits a minute for agents of before",
            list(servers)
        ),
        LacksHere::Agents { servers, lagging, named } => {
            let which = if named.is_empty() { String::new() } else { format!(", {} among them", list(named)) };
            format!(
                "agents of {} do not have the new root yet: {lagging} lag{which}; one that does not recover is no longer waited for a minute \
                 after it was stopped, or when `carrack agent remove` has removed it",
                list(servers)
            )
        }
        LacksHere::Issuers { servers } => {
            format!("{} without an issuer under the new root; `carrack status` says why", list(servers))
        }
    }
}

/// Why a retired root is still in the bundle.
pub(super) fn depends(depends: &Depends) -> String {
    match depends {
        Depends::Leaves { datacenter, unexpired: 0, until } => {
            format!("the last leaf{} has ended; every clock has passed it at {until}", there(datacenter.as_ref()))
        }
        Depends::Leaves { datacenter, unexpired, until } => {
            let there = there(datacenter.as_ref());
            format!("{unexpired} leaves{there} have not ended; the last of them has on every clock at {until}")
        }
        Depends::NoFence { datacenter, until } => format!(
            "datacenter {datacenter} has not said that it issues nothing more under it; the last of its issuers ends at {until}, \
             or `carrack federation remove {datacenter}` gives it up"
        ),
        Depends::NotRetired => "leaves are, or will be, issued under it".into(),
    }
}

fn there(datacenter: Option<&Name>) -> String {
    datacenter.map_or_else(String::new, |name| format!(" in datacenter {name}"))
}

fn list(names: &[Name]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
