//! When a certificate is renewed, and what a server asks for so that it can go on signing and be recognised.

use std::time::Duration;

use crate::{
    State,
    id::{KeyId, NodeId},
    issuer::IssuerPhase,
    member::Addresses,
    planted::{self, Bug},
    root::{Ca, RootPhase},
    time::Timestamp,
};

/// When a certificate is renewed: at 45 to 55 % of its life, spread by its key, so that certificates made together part.
pub fn renew_at(not_before: Timestamp, not_after: Timestamp, spread: &[u8]) -> Timestamp {
    let life = not_after.since(not_before);
    let byte = spread.first().copied().unwrap_or(128);
    let share = 450 + u32::from(byte) * 100 / 255;
    not_before.plus(life / 1000 * share)
}

/// What a server needs for one root under which leaves are or will be issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnIssuer {
    /// It has a live issuer until then; the answer is when it asks for the next.
    Good {
        /// The issuer.
        issuer: KeyId,
        /// When it asks for the next.
        renew_at: Timestamp,
    },
    /// It asks for one: there is none, or its renewal is due, or its key is gone.
    Ask {
        /// The root that shall sign.
        root: KeyId,
    },
    /// Its request is in the log, and the leader has not answered.
    Wait {
        /// The key of the request.
        key: KeyId,
    },
}

/// What the server does about its issuers, for each root that signs, the active one first. `has_key`: whether the key of an issuer is here.
/// In a secondary that does not issue under the primary's active root yet, its own active one signs nothing more there.
pub fn own_issuers(state: &State, node: NodeId, now: Timestamp, has_key: impl Fn(&KeyId) -> bool) -> Vec<OwnIssuer> {
    let roots = state.roots(Ca::Mesh).bundle();
    let is_left = state.heard_activation().is_some();
    let signing = roots.iter().filter(|root| match root.phase {
        // One that has ended signs nothing: what is asked of it would stand before what is asked of the next one.
        _ if root.made.not_after <= now => false,
        RootPhase::Prepared => true,
        RootPhase::Active => !is_left,
        RootPhase::Retired => false,
    });
    signing.map(|root| own_issuer(state, node, now, &root.made.id, &has_key)).collect()
}

/// The root that the server asks for an issuer under now: one request of it is in the log at a time, the next one would take its place.
pub fn to_ask(own: &[OwnIssuer]) -> Option<KeyId> {
    let waits = own.iter().any(|own| matches!(own, OwnIssuer::Wait { .. }));
    let mut asks = own.iter().filter_map(|own| match own {
        OwnIssuer::Ask { root } => Some(*root),
        OwnIssuer::Good { .. } | OwnIssuer::Wait { .. } => None,
    });
    if waits { None } else { asks.next() }
}

fn own_issuer(
    state: &State,
    node: NodeId,
    now: Timestamp,
    root: &KeyId,
    has_key: impl Fn(&KeyId) -> bool,
) -> OwnIssuer {
    let request = state.issuer_requests().find(|request| request.node == node && request.root == *root);
    if let Some(request) = request.filter(|request| has_key(&request.key)) {
        return OwnIssuer::Wait { key: request.key };
    }
    let live = state.issuers().find(|issuer| {
        let compared = if planted::is(Bug::RootComparedWithIssuer) { &issuer.id } else { &issuer.root };
        issuer.node == node && compared == root && issuer.phase == IssuerPhase::Live && has_key(&issuer.id)
    });
    match live {
        Some(issuer) => {
            let renew_at = renew_at(issuer.not_before, issuer.not_after, &issuer.id.0);
            if planted::is(Bug::IssuerNeverRenewed) {
                OwnIssuer::Good { issuer: issuer.id, renew_at: Timestamp(u64::MAX) }
            } else if renew_at <= now {
                OwnIssuer::Ask { root: *root }
            } else {
                OwnIssuer::Good { issuer: issuer.id, renew_at }
            }
        }
        None => OwnIssuer::Ask { root: *root },
    }
}

/// What a server does about its own record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnRecord {
    /// Nothing before then.
    Good {
        /// When its server certificate is renewed.
        renew_at: Timestamp,
    },
    /// It says where it is and what it understands.
    Announce,
    /// It asks for a server certificate.
    RequestCertificate,
    /// Its request is in the log, and the leader has not answered.
    WaitForCertificate,
    /// It is recorded no more: it was removed.
    Removed,
}

/// What the server does about its own record, from where it is reached and what it understands.
pub fn own_record(state: &State, node: NodeId, now: Timestamp, addresses: &Addresses) -> OwnRecord {
    let Some(member) = state.member(node) else { return OwnRecord::Removed };
    if member.addresses != *addresses || member.supports != crate::id::FeatureLevel::SUPPORTED {
        return OwnRecord::Announce;
    }
    if member.request.is_some() {
        return OwnRecord::WaitForCertificate;
    }
    let active = state.roots(Ca::Server).active().map(|root| root.made.id);
    match &member.certificate {
        Some(certificate) if Some(certificate.root) == active => {
            let renew_at = renew_at(certificate.not_before, certificate.not_after, &certificate.public_key.0);
            if renew_at <= now { OwnRecord::RequestCertificate } else { OwnRecord::Good { renew_at } }
        }
        _ => OwnRecord::RequestCertificate,
    }
}

/// The longest a task sleeps before it looks again: clocks are slewed, and a restart must not depend on one long sleep.
pub const LOOK_AGAIN: Duration = Duration::from_secs(60);
