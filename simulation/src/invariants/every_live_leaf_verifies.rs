//! Each leaf that lives verifies, with the chain that it was served with, against the bundle of every live server (X509-SVID section
//! 5): by webpki with the product's own checks, and by a validator of our own. One leaf at a time, in turn; at the end a
//! number of those that live.

use std::collections::BTreeSet;

use carrack_authority::{
    id::{Revision, Serial},
    root::Ca,
    time::Timestamp,
    x509::{
        CertificateFacts,
        chain::{Usage, verify_path},
    },
};

use super::{Invariant, Scene, path, view::View};
use crate::workloads::Leaf;

/// The invariant's name.
pub const NAME: &str = "every_live_leaf_verifies";
/// How much simulated time passes between two leaves.
const EVERY_MICROS: u64 = 2_000_000;
/// The leaves that are looked at when the run ends.
const LAST_MAX: usize = 50;

/// See the module.
#[derive(Default)]
pub(super) struct EveryLiveLeafVerifies {
    next_at: u64,
    last: Option<Serial>,
}

impl Invariant for EveryLiveLeafVerifies {
    fn stepped(&mut self, scene: &Scene<'_>) {
        let now = scene.shared.clock.micros();
        if now < self.next_at {
            return;
        }
        self.next_at = now + EVERY_MICROS;
        let leaf = {
            let book = scene.shared.book();
            let after = self.last.map(|last| book.leaves.range(last..).nth(1));
            let next = after.flatten().or_else(|| book.leaves.iter().next());
            next.map(|(serial, leaf)| (*serial, leaf.clone()))
        };
        let Some((serial, leaf)) = leaf else { return };
        self.last = Some(serial);
        check(scene, &leaf);
    }

    fn finished(&mut self, scene: &Scene<'_>) {
        let now = scene.shared.clock.now();
        let live = |leaf: &&Leaf| leaf.not_after >= now;
        let leaves: Vec<Leaf> = scene.shared.book().leaves.values().filter(live).take(LAST_MAX).cloned().collect();
        leaves.iter().for_each(|leaf| check(scene, leaf));
    }
}

fn check(scene: &Scene<'_>, leaf: &Leaf) {
    let now = scene.shared.clock.now();
    let begins = CertificateFacts::read(leaf.certificate.as_bytes()).map(|facts| facts.not_before);
    // A leaf that was signed by a clock that is ahead begins later.
    if leaf.not_after < now || begins.is_ok_and(|begins| begins > now) {
        return;
    }
    let issuer = leaf.chain.first().and_then(|der| CertificateFacts::read(der.as_bytes()).ok());
    let root = issuer.and_then(|issuer| issuer.authority_key_id);
    // A server that is cut off does not have a root that came without a bridge, and agents leave it.
    let has_heard = |host: &str, view: &View| {
        let (at, revision) = (scene.shared.servers[host].datacenter, Revision(view.applied));
        !root.is_some_and(|root| scene.shared.book().generations.is_unknown(at, revision, &root))
    };
    let views = scene.views.iter().filter(|(host, view)| has_heard(host, view));
    let bundles: Vec<_> = views.map(|(host, view)| (host, view.state.roots(Ca::Mesh).bundle())).collect();
    let chain: Vec<&[u8]> = leaf.chain.iter().map(|der| der.as_bytes()).collect();
    let mut verified: BTreeSet<Vec<&[u8]>> = BTreeSet::new();
    for (host, bundle) in &bundles {
        let anchors: Vec<&[u8]> = bundle.iter().map(|root| root.made.certificate.as_bytes()).collect();
        // A server that has just joined may still have an empty state; what two servers have in common is verified once.
        if anchors.is_empty() || !verified.insert(anchors.clone()) {
            continue;
        }
        if let Err(error) = verify_twice(leaf.certificate.as_bytes(), &chain, &anchors, now) {
            scene.shared.violate(NAME, format!("a leaf of {} on {host}: {error}", leaf.identity));
        }
    }
}

/// Verifies a chain with both validators, by the product's as a client's; the other one wants it to be good for a server, too.
pub fn verify_twice(leaf: &[u8], intermediates: &[&[u8]], anchors: &[&[u8]], now: Timestamp) -> Result<(), String> {
    verify_path(leaf, intermediates, anchors, now, Usage::Client).map_err(|error| error.to_string())?;
    let chain: Vec<&[u8]> = std::iter::once(leaf).chain(intermediates.iter().copied()).collect();
    let seconds = i64::try_from(now.seconds()).map_err(|_| "the time is past the end of X.509's")?;
    path::validate(&chain, anchors, seconds).map_err(|error| format!("the second validator: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::{seen::Told, testing::received};

    #[test]
    fn a_leaf_without_a_path_to_an_anchor_does_not_verify() {
        let Told::LeafReceived { certificate, .. } = received(0) else { panic!("it is a leaf") };
        verify_twice(certificate.as_bytes(), &[], &[certificate.as_bytes()], Timestamp(0)).unwrap_err();
    }
}
