//! How fast leaves are issued anew when what is above them leaves: each at a moment of its own, within the time that the datacenter needs for
//! all of them by its issuance log.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    State,
    id::KeyId,
    issuer::{Issuer, IssuerPhase},
    root::{Ca, RootPhase},
};

/// What a datacenter is counted on to issue each second where no rate is set: half of what three servers on two cores do.
const PER_SECOND: u64 = 1000;
/// How much of a set rate renewals may take: the rest is for those who have no leaf yet.
const PART_OF_RATE: (u64, u64) = (4, 5);
/// The leaves of an issuer whose server was removed are still good, and the other servers renew them beside what they do.
const OF_REMOVED_WITHIN: Duration = Duration::from_secs(60);

/// The issuers whose leaves are to be renewed although these have not ended, and within which time.
pub fn leaving(state: &State) -> BTreeMap<KeyId, Duration> {
    let within = for_all_of_retired_roots(state);
    let issuers = state.issuers().filter_map(|issuer| Some((issuer.id, renewed_within(state, issuer, within)?)));
    issuers.collect()
}

/// The same about one issuer; `None`: its leaves stay as long as they live.
pub fn leaving_within(state: &State, issuer: &KeyId) -> Option<Duration> {
    renewed_within(state, state.issuer(issuer)?, for_all_of_retired_roots(state))
}

fn renewed_within(state: &State, issuer: &Issuer, within: Duration) -> Option<Duration> {
    if is_retired(state, &issuer.root) {
        // What is marked as not to be relied on is left at once.
        return Some(if state.tainted(&issuer.root).is_some() { Duration::ZERO } else { within });
    }
    // Who has a removed server's disk has its keys: nothing that still works stands under them for long.
    let is_of_removed = issuer.phase == IssuerPhase::Retired && state.member(issuer.node).is_none();
    is_of_removed.then_some(OF_REMOVED_WITHIN)
}

/// What is outstanding, by what may be issued each second.
fn for_all_of_retired_roots(state: &State) -> Duration {
    let issuers = state.issuers().filter(|issuer| is_retired(state, &issuer.root));
    let outstanding: u64 = issuers.map(|issuer| state.issuances().counts(&issuer.id).current).sum();
    let rate = per_second(state.ca_config().config.csr_max_per_second);
    Duration::from_millis(outstanding.saturating_mul(1000) / rate)
}

/// How many leaves a datacenter is counted on to issue anew each second, by its `CSRMaxPerSecond`.
pub fn per_second(csr_max_per_second: u32) -> u64 {
    match u64::from(csr_max_per_second) {
        0 => PER_SECOND,
        set => (set * PART_OF_RATE.0 / PART_OF_RATE.1).clamp(1, PER_SECOND),
    }
}

fn is_retired(state: &State, root: &KeyId) -> bool {
    state.roots(Ca::Mesh).find(root).is_some_and(|root| root.phase == RootPhase::Retired)
}
