//! The cache over a source that a test steers: what is served, renewed, dropped, and when.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use carrack_authority::{
    id::{KeyId, Serial},
    key::{Der, KeyKind},
    spiffe::{Identity, SpiffeId},
};
use futures::future::{BoxFuture, FutureExt};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::*;
use crate::keys::secret::SecretKey;

const HOUR: Duration = Duration::from_secs(3600);
const LIFE: Duration = Duration::from_secs(72 * 3600);
const BEGIN: Timestamp = Timestamp(1_800_000_000_000);

/// A source whose answers a test chooses. Its time is tokio's, which the test moves.
struct Model {
    began: Instant,
    issued: AtomicU64,
    is_failing: AtomicBool,
    is_entitled: AtomicBool,
    standing: AtomicU8,
    is_told: AtomicBool,
    told_seconds: AtomicU64,
}

impl Model {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            issued: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
            is_entitled: AtomicBool::new(true),
            standing: AtomicU8::new(0),
            is_told: AtomicBool::new(false),
            told_seconds: AtomicU64::new(3600),
        })
    }

    fn issued(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }

    fn leaf(&self, service: &Name, number: u64) -> KeptLeaf {
        let now = self.now();
        let id = SpiffeId::service("test.carrack".parse().unwrap(), name("dc1"), service.clone());
        let key = SecretKey::from_checked_pkcs8(KeyKind::EcP256, Zeroizing::default());
        KeptLeaf {
            certificate: Der::from(Vec::new()),
            chain: Vec::new(),
            serial: Serial::from_random([number.to_le_bytes()[0]; 20]),
            identity: Arc::new(Identity::Spiffe(id)),
            not_before: now,
            not_after: now.plus(LIFE),
            issuer: KeyId([1; 20]),
            root: KeyId([2; 20]),
            index: number,
            key,
        }
    }
}

impl LeafSource for Model {
    fn issue<'a>(&'a self, _token: AccessorId, service: &'a Name) -> BoxFuture<'a, Result<KeptLeaf, IssueError>> {
        async move {
            // Others come in between, as they do while the log decides.
            tokio::task::yield_now().await;
            let number = self.issued.fetch_add(1, Ordering::Relaxed) + 1;
            if self.is_failing.load(Ordering::Relaxed) {
                return Err(IssueError::Unavailable("no leader".into()));
            }
            Ok(self.leaf(service, number))
        }
        .boxed()
    }

    fn entitled(&self, _token: AccessorId, _service: &Name) -> bool {
        self.is_entitled.load(Ordering::Relaxed)
    }

    fn standing(&self, _leaf: &KeptLeaf) -> RootStanding {
        match self.standing.load(Ordering::Relaxed) {
            0 => RootStanding::Active,
            1 => RootStanding::Leaving,
            _ => RootStanding::Gone,
        }
    }

    fn renew_within(&self, leaf: &KeptLeaf) -> Option<Duration> {
        // Only those of before stand under the issuer that leaves.
        let within = Duration::from_secs(self.told_seconds.load(Ordering::Relaxed));
        (self.is_told.load(Ordering::Relaxed) && leaf.index <= 2).then_some(within)
    }

    fn now(&self) -> Timestamp {
        BEGIN.plus(self.began.elapsed())
    }

    fn spread(&self) -> u8 {
        128
    }
}

fn name(text: &str) -> Name {
    Name::parse("name", text).unwrap()
}

fn token(number: u128) -> AccessorId {
    AccessorId(Uuid::from_u128(number))
}

async fn index(cache: &LeafCache, token: AccessorId, service: &str) -> u64 {
    cache.leaf(token, &name(service)).await.unwrap().leaf.index
}

/// Runs the renewals for a while.
async fn keep_fresh_for(cache: &LeafCache, span: Duration) {
    assert!(tokio::time::timeout(span, cache.keep_fresh()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_leaf_is_fetched_once_for_each_token_and_service() {
    let model = Model::new();
    let cache = LeafCache::new(model.clone(), Arc::new(Metrics::new()));
    let (one, two) = (token(1), token(2));
    let first = futures::future::join_all((0..20).map(|_| index(&cache, one, "web"))).await;
    assert_eq!(first, [1; 20]);
    assert_eq!(index(&cache, two, "web").await, 2);
    assert_eq!(index(&cache, one, "api").await, 3);
    assert_eq!(index(&cache, one, "web").await, 1);
    assert_eq!((cache.len(), model.issued()), (3, 3));
    let served = cache.leaf(one, &name("web")).await.unwrap();
    assert!(served.is_hit);
}

#[tokio::test(start_paused = true)]
async fn a_leaf_is_renewed_between_45_and_55_percent_of_its_life() {
    let model = Model::new();
    let cache = LeafCache::new(model.clone(), Arc::new(Metrics::new()));
    assert_eq!(index(&cache, token(1), "web").await, 1);
    keep_fresh_for(&cache, LIFE * 45 / 100).await;
    assert_eq!(index(&cache, token(1), "web").await, 1);
    keep_fresh_for(&cache, LIFE * 10 / 100).await;
    assert_eq!(index(&cache, token(1), "web").await, 2);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_newer_leaf_gets_it_when_it_comes() {
    let model = Model::new();
    let cache = LeafCache::new(model.clone(), Arc::new(Metrics::new()));
    assert_eq!(index(&cache, token(1), "web").await, 1);
    let deadline = Instant::now() + LIFE;
    let accessor = token(1);
    let service = name("web");
    tokio::select! {
        () = cache.wait_newer(accessor, &service, 1, deadline) => {}
        () = cache.keep_fresh() => {}
    }
    assert!(Instant::now() < deadline);
    assert_eq!(index(&cache, token(1), "web").await, 2);
    let deadline = Instant::now() + HOUR;
    cache.wait_newer(accessor, &service, 2, deadline).await;
    assert_eq!(Instant::now(), deadline);
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_or_lost_its_root_is_never_served() {
    let model = Model::new();
    let cache = LeafCache::new(model.clone(), Arc::new(Metrics::new()));
    assert_eq!(index(&cache, token(1), "web").await, 1);
    tokio::time::advance(LIFE).await;
    assert_eq!(index(&cache, token(1), "web").await, 2);
    model.standing.store(2, Ordering::Relaxed);
    assert_eq!(index(&cache, token(1), "web").await, 3);
    model.is_failing.store(true, Ordering::Relaxed);
    let refused = cache.leaf(token(1), &name("web")).await;
    assert!(matches!(refused, Err(IssueError::Unavailable(_))));
}

#[tokio::test(start_paused = true)]
async fn a_leaf_under_a_root_that_leaves_is_served_until_its_renewal_comes() {
    let model = Model::new();
    let cache = LeafCache::new(model.clone(), Arc::new(Metrics::new()));
    assert_eq!(index(&cache, token(1), "web").await, 1);
    model.standing.store(1, Ordering::Relaxed);
    assert_eq!(index(&cache, token(1), "web").await, 1);
    let deadline = Instant::now() + HOUR;
    let (accessor, service) = (token(1), name("web"));
    tokio::select! {
        () = cache.wait_newer(accessor, &service, 1, deadline) => {}
        () = cache.keep_fresh() => {}
    }
    assert!(Instant::now() < deadline, "it was renewed at once");
}

#[tokio::test(start_paused = true)]
async fn what_a_server_tells_to_renew_is_renewed_once_within_its_time() {
    let model = Model::new();
    let cache = LeafCache::new(model.clone(), Arc::new(Metrics::new()));
    assert_eq!((index(&cache, token(1), "web").await, index(&cache, token(2), "web").await), (1, 2));
    keep_fresh_for(&cache, HOUR).await;
    assert_eq!(model.issued(), 2, "nothing is due");
    model.is_told.store(true, Ordering::Relaxed);
    cache.look_again();
    keep_fresh_for(&cache, HOUR / 4).await;
    assert_eq!(model.issued(), 2, "not at once");
    // That it is told again does not put it off.
    for _ in 0..3 {
        cache.look_again();
        keep_fresh_for(&cache, HOUR / 8).await;
    }
    assert_eq!(model.issued(), 4);
    keep_fresh_for(&cache, HOUR).await;
    assert_eq!(model.issued(), 4, "the new ones stand under another issuer");
}

#[tokio::test(start_paused = true)]
async fn leaves_under_a_root_that_is_left_are_renewed_in_the_time_that_was_told_or_at_once() {
    let model = Model::new();
    let cache = LeafCache::new(model.clone(), Arc::new(Metrics::new()));
    assert_eq!(index(&cache, token(1), "web").await, 1);
    model.is_told.store(true, Ordering::Relaxed);
    model.standing.store(1, Ordering::Relaxed);
    cache.look_again();
    keep_fresh_for(&cache, HOUR / 4).await;
    assert_eq!(model.issued(), 1, "it is good, and has time");
    // Less time now: the root is tainted.
    model.told_seconds.store(1, Ordering::Relaxed);
    cache.look_again();
    keep_fresh_for(&cache, Duration::from_secs(2)).await;
    assert!(model.issued() > 1);
}

#[tokio::test(start_paused = true)]
async fn failing_renewals_are_tried_again_more_and_more_slowly() {
    let model = Model::new();
    let cache = LeafCache::new(model.clone(), Arc::new(Metrics::new()));
    assert_eq!(index(&cache, token(1), "web").await, 1);
    tokio::time::advance(LIFE / 2).await;
    model.is_failing.store(true, Ordering::Relaxed);
    keep_fresh_for(&cache, HOUR).await;
    let tries = model.issued() - 1;
    assert!((60..=130).contains(&tries), "{tries} tries in an hour");
    assert_eq!(index(&cache, token(1), "web").await, 1, "the old leaf is good until its end");
    model.is_failing.store(false, Ordering::Relaxed);
    keep_fresh_for(&cache, BACKOFF_MAX * 2).await;
    assert!(index(&cache, token(1), "web").await > 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_first_fetch_is_told_and_keeps_no_place() {
    let model = Model::new();
    let cache = LeafCache::new(model.clone(), Arc::new(Metrics::new()));
    model.is_failing.store(true, Ordering::Relaxed);
    assert!(cache.leaf(token(1), &name("web")).await.is_err());
    assert!(cache.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_leaf_of_a_token_that_lost_its_right_goes_instead_of_being_renewed() {
    let model = Model::new();
    let cache = LeafCache::new(model.clone(), Arc::new(Metrics::new()));
    assert_eq!(index(&cache, token(1), "web").await, 1);
    model.is_entitled.store(false, Ordering::Relaxed);
    keep_fresh_for(&cache, LIFE * 60 / 100).await;
    assert_eq!((cache.len(), model.issued()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_any_more_is_not_renewed_for_ever() {
    let model = Model::new();
    let cache = LeafCache::new(model.clone(), Arc::new(Metrics::new()));
    assert_eq!(index(&cache, token(1), "web").await, 1);
    keep_fresh_for(&cache, IDLE_MAX * 2).await;
    assert!(cache.is_empty());
    assert!(model.issued() <= 3, "{}", model.issued());
}

#[tokio::test(start_paused = true)]
async fn the_least_recently_used_leaf_makes_room() {
    let model = Model::new();
    let cache = LeafCache::new(model.clone(), Arc::new(Metrics::new()));
    for number in 0..LEAVES_MAX {
        index(&cache, token(number as u128), "web").await;
    }
    assert_eq!(index(&cache, token(0), "web").await, 1, "the oldest is used again");
    index(&cache, token(1_000_000), "web").await;
    assert_eq!(cache.len(), LEAVES_MAX);
    assert_eq!(index(&cache, token(0), "web").await, 1);
    let issued = model.issued();
    index(&cache, token(1), "web").await;
    assert_eq!(model.issued(), issued + 1, "token 1 was used least recently");
}
