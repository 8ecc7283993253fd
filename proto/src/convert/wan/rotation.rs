//! What datacenters say to each other of the roots.

use bytes::Bytes;
use carrack_authority::{
    root::ROOTS_MAX,
    rotation::{RootStanding, Standing, TaintedRoot},
    time::Timestamp,
};

use super::{BadMessage, bad, key_id_from_wire};
use crate::wan;

pub(super) fn tainted_to_wire(tainted: &TaintedRoot) -> wan::TaintedRoot {
    let root = Bytes::copy_from_slice(&tainted.root.0);
    let (reason, is_compromised) = (tainted.reason.clone(), tainted.is_compromised);
    wan::TaintedRoot { root, reason, tainted_at_ms: tainted.tainted_at.0, is_compromised }
}

pub(super) fn tainted_from_wire(tainted: &wan::TaintedRoot) -> Result<TaintedRoot, BadMessage> {
    let (root, tainted_at) = (key_id_from_wire("tainted root", &tainted.root)?, Timestamp(tainted.tainted_at_ms));
    Ok(TaintedRoot { root, reason: tainted.reason.clone(), tainted_at, is_compromised: tainted.is_compromised })
}

/// A datacenter's word on where it is, as it is sent.
pub fn standing_to_wire(standing: &Standing) -> wan::StandRequest {
    let roots = standing.roots.iter().map(|root| wan::RootStanding {
        root: Bytes::copy_from_slice(&root.root.0),
        is_acknowledged: root.is_acknowledged,
        has_issuers: root.has_issuers,
        current: root.current,
        unexpired: root.unexpired,
        last_not_after_ms: root.last_not_after.0,
    });
    wan::StandRequest {
        activation: standing.activation,
        is_halted: standing.is_halted,
        roots: roots.collect(),
        absent: standing.absent,
        lagging: standing.lagging,
    }
}

/// A datacenter's word on where it is.
pub fn standing_from_wire(request: wan::StandRequest) -> Result<Standing, BadMessage> {
    if request.roots.len() > ROOTS_MAX {
        return Err(bad("standing", format!("{} roots, at most {ROOTS_MAX} are in a bundle", request.roots.len())));
    }
    let roots = request.roots.into_iter().map(|root| {
        Ok(RootStanding {
            root: key_id_from_wire("root", &root.root)?,
            is_acknowledged: root.is_acknowledged,
            has_issuers: root.has_issuers,
            current: root.current,
            unexpired: root.unexpired,
            last_not_after: Timestamp(root.last_not_after_ms),
        })
    });
    Ok(Standing {
        activation: request.activation,
        is_halted: request.is_halted,
        roots: roots.collect::<Result<_, BadMessage>>()?,
        absent: request.absent,
        lagging: request.lagging,
    })
}
