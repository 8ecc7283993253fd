//! The mesh prober: live leaves shake hands, each end with the bundle that its host has fetched some time ago. Between two leaves
//! that have not expired no handshake may fail (`no_failed_handshake`), but where a bundle has missed two rotations.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    id::Revision,
    key::Der,
    time::Timestamp,
    x509::{CertificateFacts, pem},
};
use rand::{RngExt, seq::SliceRandom};
use tokio::time::sleep;

use super::{
    ANSWER_WITHIN, LOOK, Leaf, Worker,
    book::Book,
    handshake::{End, shake},
};
use crate::{
    client::Call,
    trace::{Detail, Kind},
    world::shared::Stage,
};

/// How often every pair of a long run is tried.
const ROUND: Duration = Duration::from_secs(60);
/// The rounds of a run that is too short for so many minutes.
const ROUNDS_LEAST: u32 = 6;
/// The handshakes of one host in one round: each takes some milliseconds of the real processor.
const HANDSHAKES_MAX: usize = 8;
/// How old a bundle may be that a workload uses: whoever was cut off for longer must fetch it first.
const BUNDLE_AGE_MAX: Duration = Duration::from_secs(3600);

/// The roots that a client's host trusts.
#[derive(Clone, Debug)]
pub(crate) struct Bundle {
    /// The roots.
    pub(crate) roots: Arc<[Der]>,
    /// When they were fetched.
    pub(crate) fetched_at: Timestamp,
    /// In which datacenter.
    pub(crate) datacenter: usize,
    /// The revision there that changed them last.
    pub(crate) revision: Revision,
}

pub(super) async fn run(mut worker: Worker) {
    worker.client.set_token(None);
    fetch(&mut worker).await;
    while waits(&mut worker).await {
        // A bundle is fetched in half of the rounds, so that its age varies.
        if !has_bundle(&worker) || worker.random.random_ratio(1, 2) {
            fetch(&mut worker).await;
        }
        probe(&mut worker);
    }
    probe(&mut worker);
}

/// Waits for the next round; false: the world comes to rest.
async fn waits(worker: &mut Worker) -> bool {
    let round = ROUND.min(worker.shared.scenario.chaos / ROUNDS_LEAST).mul_f64(worker.random.random_range(0.7..1.3));
    let looks = round.as_millis() / LOOK.as_millis();
    for _ in 0..looks {
        if worker.shared.stage() != Stage::Living {
            return false;
        }
        sleep(LOOK).await;
    }
    true
}

fn has_bundle(worker: &Worker) -> bool {
    let now = worker.shared.clock.now();
    worker.shared.book().bundles.get(&worker.host).is_some_and(|bundle| is_fresh(bundle, now))
}

fn is_fresh(bundle: &Bundle, now: Timestamp) -> bool {
    bundle.fetched_at.plus(BUNDLE_AGE_MAX) > now
}

async fn fetch(worker: &mut Worker) {
    let host = worker.any_server();
    let asked_at = worker.shared.clock.now();
    let path = "/v1/connect/ca/roots?pem=true&stale";
    let answer = worker.client.call(&host, Call { method: "GET", path, body: None, within: ANSWER_WITHIN }).await;
    let is_success = answer.as_ref().is_ok_and(|answer| answer.is_success());
    worker.shared.count_operation("fetch bundle", is_success);
    let Some(answer) = answer.ok().filter(|answer| answer.is_success()) else { return };
    match pem::decode_certificates(&String::from_utf8_lossy(&answer.body)) {
        Ok(roots) if !roots.is_empty() => {
            let revision = Revision(answer.index.unwrap_or(u64::MAX));
            let bundle = Bundle { roots: roots.into(), fetched_at: asked_at, datacenter: worker.datacenter, revision };
            worker.shared.book().bundles.insert(worker.host.clone(), bundle);
        }
        _ => {
            let text = format!("the bundle of {host} cannot be read: {}", answer.text());
            worker.shared.violate("no_failed_handshake", text);
        }
    }
}

/// Lets the leaves of this host open connections to others, up to a number of them.
fn probe(worker: &mut Worker) {
    let now = worker.shared.clock.now();
    let live = live_leaves(worker, now);
    let mut pairs: Vec<(&Holding, &Holding)> = Vec::new();
    for opening in live.iter().filter(|holding| holding.leaf.holder == worker.host) {
        pairs.extend(live.iter().map(|accepting| (opening, accepting)));
    }
    let (chosen, _) = pairs.partial_shuffle(&mut worker.random, HANDSHAKES_MAX);
    let Some(trust_domain) = worker.shared.book().trust_domain.clone() else { return };
    for (opening, accepting) in chosen {
        let book = worker.shared.book();
        if opening.is_too_old_for(accepting, &book) || accepting.is_too_old_for(opening, &book) {
            continue;
        }
        drop(book);
        let shaken = shake(&opening.end(), &accepting.end(), &trust_domain, now);
        let what = format!(
            "{} of {} to {} of {}",
            opening.name(),
            opening.leaf.holder,
            accepting.name(),
            accepting.leaf.holder
        );
        worker.shared.counts().handshakes += 1;
        match shaken {
            Ok(()) => worker.shared.note(&worker.host, Kind::Handshake, format!("{what}: ok")),
            Err(failed) => {
                let text = format!("{what}: {failed}");
                worker.shared.note_detail(&worker.host, Kind::Handshake, Detail::Failed, text);
                let text = format!(
                    "{what} at {now}: {failed}; leaves until {} and {}, bundles of {} and {}",
                    opening.leaf.not_after,
                    accepting.leaf.not_after,
                    opening.bundle.fetched_at,
                    accepting.bundle.fetched_at
                );
                worker.shared.violate("no_failed_handshake", text);
            }
        }
    }
}

/// A leaf that can be used, with its host's bundle.
struct Holding {
    leaf: Leaf,
    bundle: Bundle,
}

impl Holding {
    fn end(&self) -> End<'_> {
        let chain = std::iter::once(&self.leaf.certificate).chain(self.leaf.chain.iter()).collect();
        End { key: &self.leaf.key, chain, bundle: self.bundle.roots.clone() }
    }

    /// Whether the other's leaf is two rotations newer than the bundle here.
    fn is_too_old_for(&self, other: &Self, book: &Book) -> bool {
        let signer = |place: usize| {
            let facts = other.leaf.chain.get(place).and_then(|der| CertificateFacts::read(der.as_bytes()).ok());
            facts.and_then(|facts| facts.authority_key_id)
        };
        // Above the issuer comes the bridge, if there is one.
        let (root, bridged_from) = (signer(0), signer(1));
        let (datacenter, revision) = (self.bundle.datacenter, self.bundle.revision);
        root.is_some_and(|root| book.generations.is_too_old(datacenter, revision, &root, bridged_from.as_ref()))
    }

    /// The service, without what is the same in every identity.
    fn name(&self) -> &str {
        self.leaf.identity.rsplit('/').next().unwrap_or(&self.leaf.identity)
    }
}

/// The newest leaf of each identity and host, of those that have not expired and whose host has a bundle of our days.
fn live_leaves(worker: &Worker, now: Timestamp) -> Vec<Holding> {
    let book = worker.shared.book();
    let live = book.newest.values().filter_map(|serial| {
        let leaf = book.leaves.get(serial)?;
        let bundle = book.bundles.get(&leaf.holder).filter(|bundle| is_fresh(bundle, now))?;
        (leaf.not_after > now).then(|| Holding { leaf: leaf.clone(), bundle: bundle.clone() })
    });
    live.collect()
}
