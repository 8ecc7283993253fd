//! Leaves that are kept for local clients, by token and service: renewed at about half life, bounded, least recently used
//! first out. A leaf that has ended or whose root left the bundle is never served, nor is one token's leaf to another.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use carrack_authority::{
    acl::AccessorId,
    plan::renew::renew_at,
    planted::{self, Bug},
    spiffe::Name,
    time::Timestamp,
};
use futures::stream::{self, StreamExt};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout, timeout_at},
};

use super::leaf_source::{KeptLeaf, LeafSource, RootStanding};
use crate::{
    server::desk::IssueError,
    telemetry::{
        labels::{EvictionReason, LeafRequest, RenewalOutcome},
        metrics::Metrics,
    },
};

/// The most leaves that one server keeps: about 4 KiB each, so 40 MiB.
pub const LEAVES_MAX: usize = 10_000;
/// How many renewals are in flight: a herd that came together is renewed in small groups.
const RENEWALS_AT_ONCE: usize = 8;
/// A leaf that nobody asked for in this time is not renewed any more: as Consul's agents.
const IDLE_MAX: Duration = Duration::from_secs(72 * 3600);
/// The longest pause between two looks at what is due: no new leaf is due sooner, and the log's time may jump.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// The least time to the next renewal of a leaf, by whichever clock, unless a server tells otherwise.
const RENEWED_AFTER: Duration = Duration::from_secs(60);
/// The shortest pause between two looks: a failing renewal must not spin.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The first pause after a failed renewal; it doubles with each further one.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest pause after a failed renewal.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Whose leaf, for which service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LeafKey {
    token: AccessorId,
    service: Name,
}

/// One kept leaf, or the place of one that is being fetched.
struct Slot {
    leaf: watch::Sender<Option<Arc<KeptLeaf>>>,
    /// Held while a leaf is fetched: others wait for its result.
    fetching: tokio::sync::Mutex<()>,
    plan: Mutex<Plan>,
}

/// When a leaf is looked after next.
#[derive(Clone, Copy, Debug)]
struct Plan {
    renew_at: Timestamp,
    failures: u32,
    used_at: Timestamp,
    /// The time within which a server has told to renew it.
    told: Option<Duration>,
}

#[derive(Default)]
struct Kept {
    slots: BTreeMap<LeafKey, (u64, Arc<Slot>)>,
    by_use: BTreeMap<u64, LeafKey>,
    uses: u64,
}

/// A leaf from the cache.
#[derive(Clone, Debug)]
pub struct Served {
    /// The leaf.
    pub leaf: Arc<KeptLeaf>,
    /// Whether it was here already; else it was fetched for this request.
    pub is_hit: bool,
}

/// A leaf in the cache, for whoever looks at it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its service.
    pub service: Name,
    /// Whose it is.
    pub token: AccessorId,
    /// The leaf.
    pub leaf: Arc<KeptLeaf>,
    /// When it is renewed.
    pub renew_at: Timestamp,
    /// How often that has failed since.
    pub failures: u32,
    /// Whether that is because a server has told so.
    pub is_told: bool,
}

/// The leaves that one server keeps for local clients.
pub struct LeafCache {
    source: Arc<dyn LeafSource>,
    kept: Mutex<Kept>,
    woken: Notify,
    metrics: Arc<Metrics>,
}

impl LeafCache {
    /// An empty cache.
    pub fn new(source: Arc<dyn LeafSource>, metrics: Arc<Metrics>) -> Self {
        Self { source, kept: Mutex::default(), woken: Notify::new(), metrics }
    }

    /// The leaf of a token for a service. The caller has checked, on the state of this moment, that the token may be it.
    pub async fn leaf(&self, token: AccessorId, service: &Name) -> Result<Served, IssueError> {
        let key = LeafKey { token, service: service.clone() };
        let slot = self.slot(&key);
        if let Some(leaf) = self.servable(&slot) {
            return Ok(self.hit(leaf));
        }
        let _turn = slot.fetching.lock().await;
        if let Some(leaf) = self.servable(&slot) {
            return Ok(self.hit(leaf));
        }
        self.metrics.count_leaf_request(LeafRequest::Miss);
        match self.source.issue(token, service).await {
            Ok(leaf) => Ok(Served { leaf: self.keep(&slot, leaf), is_hit: false }),
            Err(error) => {
                self.forget(&key);
                Err(error)
            }
        }
    }

    /// Waits until the leaf of a token for a service is newer than `index`, or until the deadline.
    pub async fn wait_newer(&self, token: AccessorId, service: &Name, index: u64, deadline: Instant) {
        let slot = self.slot(&LeafKey { token, service: service.clone() });
        let mut leaf = slot.leaf.subscribe();
        let newer = leaf.wait_for(|leaf| leaf.as_ref().is_none_or(|leaf| leaf.index > index));
        // Whether it came, or went, or the deadline came: the caller looks again.
        drop(timeout_at(deadline, newer).await);
    }

    /// The roots have changed: what has to move is looked for at once.
    pub fn look_again(&self) {
        self.woken.notify_one();
    }

    /// The kept leaves, by service and token.
    pub fn list(&self) -> Vec<Listed> {
        let listed = self.all().into_iter().filter_map(|(key, slot)| {
            let (leaf, plan) = (slot.leaf.borrow().clone()?, slot.plan());
            let LeafKey { token, service } = key;
            let Plan { renew_at, failures, told, .. } = plan;
            Some(Listed { service, token, leaf, renew_at, failures, is_told: told.is_some() })
        });
        listed.collect()
    }

    /// How many leaves are kept.
    pub fn len(&self) -> usize {
        self.lock().slots.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shows how many leaves are kept, and when the next is renewed.
    pub fn show(&self) {
        let now = self.source.now();
        let due: Vec<Timestamp> = self.all().iter().filter_map(|(_, slot)| self.due_at(slot, now)).collect();
        self.metrics.show_leaves(due.len(), due.into_iter().min());
    }

    /// Renews what is due, until the future is dropped.
    pub async fn keep_fresh(&self) {
        loop {
            self.plan_what_is_told();
            let due = self.due();
            let renewals = stream::iter(due).map(|(key, slot)| async move { self.renew(&key, &slot).await });
            renewals.for_each_concurrent(RENEWALS_AT_ONCE, |renewal| renewal).await;
            // An error means that the pause is over.
            drop(timeout(self.pause(), self.woken.notified()).await);
        }
    }

    /// What a server has told to renew is renewed in the time that it gave, each leaf at a moment of its own.
    fn plan_what_is_told(&self) {
        let now = self.source.now();
        for (_, slot) in self.all() {
            let within = slot.leaf.borrow().as_ref().and_then(|leaf| self.source.renew_within(leaf));
            // Once more only if there is less time now: it would be put off again and again.
            if let Some(within) = within.filter(|within| slot.plan().told.is_none_or(|told| *within < told)) {
                let at = now.plus(within / u32::from(u8::MAX) * u32::from(self.source.spread()));
                slot.change_plan(|plan| (plan.told, plan.renew_at) = (Some(within), plan.renew_at.min(at)));
            }
        }
    }

    /// What has to be looked after now.
    fn due(&self) -> Vec<(LeafKey, Arc<Slot>)> {
        let now = self.source.now();
        let slots = self.all();
        slots.into_iter().filter(|(_, slot)| self.due_at(slot, now).is_some_and(|due| due <= now)).collect()
    }

    /// When a slot is looked after next; `None`: its first leaf is being fetched.
    fn due_at(&self, slot: &Slot, now: Timestamp) -> Option<Timestamp> {
        let leaf = slot.leaf.borrow().clone()?;
        let plan = slot.plan();
        let must_move = plan.failures == 0
            && match self.source.standing(&leaf) {
                RootStanding::Active => false,
                RootStanding::Leaving => plan.told.is_none(),
                RootStanding::Gone => true,
            };
        Some(if must_move { now } else { plan.renew_at })
    }

    fn pause(&self) -> Duration {
        let now = self.source.now();
        let next = self.all().iter().filter_map(|(_, slot)| self.due_at(slot, now)).min();
        next.map_or(LOOK_AGAIN, |next| next.since(now)).clamp(PAUSE_MIN, LOOK_AGAIN)
    }

    async fn renew(&self, key: &LeafKey, slot: &Slot) {
        let now = self.source.now();
        if !self.source.entitled(key.token, &key.service) {
            return self.evict(key, EvictionReason::NotEntitled);
        }
        if now.since(slot.plan().used_at) >= IDLE_MAX {
            return self.evict(key, EvictionReason::Idle);
        }
        let _turn = slot.fetching.lock().await;
        if self.due_at(slot, now).is_none_or(|due| due > now) {
            return;
        }
        match self.source.issue(key.token, &key.service).await {
            Ok(leaf) => {
                self.keep(slot, leaf);
                self.metrics.count_renewal(RenewalOutcome::Done);
            }
            Err(IssueError::PermissionDenied(_)) => self.evict(key, EvictionReason::NotEntitled),
            Err(error) => {
                self.metrics.count_renewal(RenewalOutcome::Failed);
                tracing::warn!(service = %key.service, token = %key.token, "a leaf could not be renewed: {error}");
                slot.postpone(now, self.source.spread());
            }
        }
    }

    fn keep(&self, slot: &Slot, leaf: KeptLeaf) -> Arc<KeptLeaf> {
        let now = self.source.now();
        let spread = if planted::is(Bug::RenewalsInLockstep) { 128 } else { self.source.spread() };
        let renew_at = renew_at(leaf.not_before, leaf.not_after, &[spread]);
        // By a clock that is far ahead a new leaf is due at once: it is not renewed again and again.
        let earliest = now.plus(RENEWED_AFTER.min(leaf.not_after.since(now) / 2));
        slot.change_plan(|plan| (plan.renew_at, plan.failures, plan.told) = (renew_at.max(earliest), 0, None));
        self.metrics.count_leaf_made();
        let leaf = Arc::new(leaf);
        slot.leaf.send_replace(Some(leaf.clone()));
        leaf
    }

    /// The slot's leaf, if it may be served now.
    fn servable(&self, slot: &Slot) -> Option<Arc<KeptLeaf>> {
        let leaf = slot.leaf.borrow().clone()?;
        let now = self.source.now();
        let has_ended = now >= leaf.not_after && !planted::is(Bug::EndedLeafServed);
        let is_valid = leaf.not_before <= now && !has_ended;
        let is_trusted = self.source.standing(&leaf) != RootStanding::Gone;
        (is_valid && is_trusted).then_some(leaf)
    }

    fn hit(&self, leaf: Arc<KeptLeaf>) -> Served {
        self.metrics.count_leaf_request(LeafRequest::Hit);
        Served { leaf, is_hit: true }
    }

    /// The slot of a key, as the one that was used last; the one that was not used for longest makes room.
    fn slot(&self, key: &LeafKey) -> Arc<Slot> {
        let now = self.source.now();
        let mut kept = self.lock();
        let slot = kept.touch(key, now);
        if kept.slots.len() > LEAVES_MAX {
            kept.drop_oldest();
            self.metrics.count_eviction(EvictionReason::Full);
        }
        slot
    }

    fn evict(&self, key: &LeafKey, reason: EvictionReason) {
        self.forget(key);
        self.metrics.count_eviction(reason);
    }

    fn forget(&self, key: &LeafKey) {
        self.lock().forget(key);
    }

    fn all(&self) -> Vec<(LeafKey, Arc<Slot>)> {
        self.lock().slots.iter().map(|(key, (_, slot))| (key.clone(), slot.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // A panic in between leaves at worst a slot out of the order of use.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn touch(&mut self, key: &LeafKey, now: Timestamp) -> Arc<Slot> {
        self.uses += 1;
        let used = self.uses;
        let (former, slot) = self.slots.entry(key.clone()).or_insert_with(|| (used, Arc::new(Slot::new(now))));
        slot.change_plan(|plan| plan.used_at = now);
        let (former, slot) = (std::mem::replace(former, used), slot.clone());
        self.by_use.remove(&former);
        self.by_use.insert(used, key.clone());
        slot
    }

    fn drop_oldest(&mut self) {
        if let Some(key) = self.by_use.first_key_value().map(|(_, key)| key.clone()) {
            self.forget(&key);
        }
    }

    fn forget(&mut self, key: &LeafKey) {
        if let Some((used, slot)) = self.slots.remove(key) {
            self.by_use.remove(&used);
            // Whoever waits for a newer one looks again and finds out why there is none.
            slot.leaf.send_replace(None);
        }
    }
}

impl Slot {
    fn new(now: Timestamp) -> Self {
        let plan = Plan { renew_at: now, failures: 0, used_at: now, told: None };
        Self { leaf: watch::Sender::new(None), fetching: tokio::sync::Mutex::default(), plan: Mutex::new(plan) }
    }

    fn plan(&self) -> Plan {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_plan(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.plan.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// After a failure: later, doubled each time, and spread over half of the pause.
    fn postpone(&self, now: Timestamp, spread: u8) {
        self.change_plan(|plan| {
            let pause = BACKOFF_MIN.saturating_mul(1 << plan.failures.min(16)).min(BACKOFF_MAX);
            plan.failures += 1;
            plan.renew_at = now.plus(pause / 2 + pause / 2 / u32::from(u8::MAX) * u32::from(spread));
        });
    }
}

#[cfg(test)]
mod tests;
