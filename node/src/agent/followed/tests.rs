//! Tests of what an agent knows: asked once, told to all who wait, ended by the servers' word, bounded, and not served from before a sleep.

use carrack_authority::acl::resolve::Authorizer;

use super::*;

/// A clock that a test sets, in milliseconds.
struct At(Arc<AtomicU64>);

impl WallClock for At {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn followed() -> Arc<Followed> {
    followed_at(&Arc::new(AtomicU64::new(NOW.0)))
}

fn followed_at(clock: &Arc<AtomicU64>) -> Arc<Followed> {
    let followed = Arc::new(Followed::new(Arc::new(At(clock.clone()))));
    followed.ask_all();
    followed
}

fn secret(number: u128) -> Uuid {
    Uuid::from_u128(1 << 100 | number)
}

fn topic_of(number: u128) -> Topic {
    Topic::Token(secret_digest(&secret(number)))
}

fn rights(number: u128, expires_at: Option<Timestamp>) -> RightsTold {
    let (accessor, modified) = (AccessorId(Uuid::from_u128(number)), Revision(3));
    RightsTold { accessor, expires_at, modified, authorizer: Authorizer::management() }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

#[tokio::test(start_paused = true)]
async fn a_token_is_asked_for_once_and_told_to_all_who_wait() {
    let followed = followed();
    let waiting = futures::future::join_all((0..10).map(|_| followed.rights(secret(1), soon())));
    let server = async {
        tokio::task::yield_now().await;
        let Some(Ask::Follow(topic, asked)) = followed.next_ask() else { panic!("nothing is asked") };
        assert_eq!((&topic, asked), (&topic_of(1), Some(secret(1))));
        assert_eq!(followed.next_ask(), None, "once");
        followed.told_rights(&topic, rights(7, None));
    };
    let (told, ()) = tokio::join!(waiting, server);
    assert!(told.iter().all(|told| told.as_ref().is_ok_and(|rights| rights.accessor.0.as_u128() == 7)));
    assert_eq!(followed.of_accessor(AccessorId(Uuid::from_u128(7))).map(|(secret, _)| secret), Some(secret(1)));
    assert_eq!((followed.rights(secret(1), soon()).await.is_ok(), followed.next_ask()), (true, None), "from memory");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_token_ends_at_once_and_an_unknown_one_is_asked_for_each_time() {
    let followed = followed();
    let topic = topic_of(1);
    let asks = |followed: &Followed| matches!(followed.next_ask(), Some(Ask::Follow(..)));
    let (told, ()) = tokio::join!(followed.rights(secret(1), soon()), async {
        tokio::task::yield_now().await;
        assert!(asks(&followed));
        followed.told_rights(&topic, rights(7, None));
    });
    assert!(told.is_ok());
    let (woken, ()) =
        tokio::join!(tokio::time::timeout(Duration::from_secs(1), followed.rights_change(secret(1))), async {
            tokio::task::yield_now().await;
            followed.told_nobody(&topic);
        });
    assert!(woken.is_ok(), "whoever waits hears of it");
    assert!(followed.of_accessor(AccessorId(Uuid::from_u128(7))).is_none());
    for _ in 0..3 {
        let (told, ()) = tokio::join!(followed.rights(secret(1), soon()), async {
            tokio::task::yield_now().await;
            assert!(asks(&followed), "a refusal is not kept: it may have been made meanwhile");
            followed.told_nobody(&topic);
        });
        assert_eq!(told.err(), Some(UnknownError::Nobody));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_server_cannot_tell_now_is_no_refusal_and_decides_nothing() {
    let followed = followed();
    let topic = topic_of(1);
    let cannot = || followed.told_unavailable(&topic, "nobody leads".into());
    let (told, ()) = tokio::join!(followed.rights(secret(1), soon()), async {
        tokio::task::yield_now().await;
        cannot();
    });
    assert_eq!(told.err(), Some(UnknownError::Unavailable("nobody leads".into())));
    let (told, ()) = tokio::join!(followed.rights(secret(1), soon()), async {
        tokio::task::yield_now().await;
        followed.told_rights(&topic, rights(7, None));
    });
    assert!(told.is_ok());
    cannot();
    assert!(followed.lock().slots.is_empty(), "nobody follows it: it could be taken back unheard");
}

#[test]
fn an_agent_goes_back_with_all_servers_and_uses_nothing_of_before() {
    let followed = followed();
    followed.hear("a:8503", Revision(9));
    assert!(followed.told_bundle(Revision(9), told()));
    followed.go_back_to(Revision(4));
    assert_eq!(followed.newest(), Revision(4));
    assert!(followed.not_fresh().is_some());
    assert!(followed.told_bundle(Revision(3), told()));
}

#[test]
fn the_newest_revision_of_all_servers_counts() {
    let followed = followed();
    for (revision, newest) in [(5, 5), (3, 5), (9, 9), (0, 9)] {
        followed.hear("a:8503", Revision(revision));
        assert_eq!(followed.newest(), Revision(newest));
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_server_answers_is_said_with_the_last_trouble_and_takes_no_place() {
    let followed = followed();
    followed.lose("a:8503: connection refused".into());
    let told = followed.rights(secret(1), soon()).await.err();
    assert_eq!(told, Some(UnknownError::NoAnswer("a:8503: connection refused".into())));
    assert!(followed.lock().slots.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_leaves_no_question_behind_and_while_no_server_is_there_none_is_kept() {
    let followed = followed();
    let waits = |number| tokio::time::timeout(Duration::from_secs(1), followed.rights(secret(number), soon()));
    assert!(waits(1).await.is_err(), "its client closes the connection");
    assert!(followed.lock().slots.is_empty());
    let (given_up, told) = tokio::join!(waits(2), followed.rights(secret(2), soon()));
    assert!(given_up.is_err() && matches!(told, Err(UnknownError::NoAnswer(_))), "the other one waits on");
    followed.lose("connection refused".into());
    for number in 0..100 {
        assert!(waits(number).await.is_err());
    }
    assert!(followed.lock().asks.is_none() && followed.lock().slots.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_ended_is_nobody_s_although_no_server_said_so() {
    let followed = followed();
    let (told, ()) = tokio::join!(followed.rights(secret(1), soon()), async {
        tokio::task::yield_now().await;
        followed.told_rights(&topic_of(1), rights(7, Some(NOW)));
    });
    assert_eq!(told.err(), Some(UnknownError::Nobody));
}

#[tokio::test(start_paused = true)]
async fn the_token_that_was_not_used_for_longest_makes_room() {
    let followed = followed();
    for number in 0..TOPICS_MAX as u128 {
        drop(followed.look_at(&topic_of(number), Some(secret(number))));
    }
    drop(followed.look_at(&topic_of(0), Some(secret(0))));
    while followed.next_ask().is_some() {}
    drop(followed.look_at(&topic_of(1 << 64), Some(secret(1 << 64))));
    let asks = [followed.next_ask(), followed.next_ask()];
    let left = topic_of(1);
    assert!(asks.contains(&Some(Ask::Leave(left))), "{asks:?}");
    assert_eq!(followed.lock().slots.len(), TOPICS_MAX);
    tokio::time::advance(IDLE_MAX).await;
    followed.leave_idle();
    assert!(followed.lock().slots.is_empty());
}

fn told() -> BundleTold {
    BundleTold {
        cluster: Uuid::nil(),
        trust_domain: "example.org".parse().unwrap(),
        primary: carrack_authority::spiffe::Name::parse("datacenter", "dc1").unwrap(),
        roots: Vec::new(),
        server_roots: Vec::new(),
        servers: Vec::new(),
        leaving: Default::default(),
        default_policy: carrack_authority::intention::DefaultPolicy::Acl(carrack_authority::intention::Action::Deny),
        revoked_issuers: carrack_authority::revocation::RevokedIssuers::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_fresh_before_the_bundle_was_told_and_after_a_sleep() {
    let clock = Arc::new(AtomicU64::new(NOW.0));
    let followed = followed_at(&clock);
    assert!(followed.not_fresh().is_some());
    assert!(followed.told_bundle(Revision(5), told()));
    assert_eq!(followed.not_fresh(), None);
    followed.doubt();
    assert!(!followed.told_bundle(Revision(4), told()), "a server that is behind");
    assert!(followed.not_fresh().is_some(), "its word does not count");
    assert!(followed.told_bundle(Revision(5), told()));
    assert_eq!(followed.not_fresh(), None);
    assert!(!followed.is_awake());
    clock.fetch_add(50_000, Ordering::Relaxed);
    assert_eq!((followed.not_fresh(), followed.is_awake()), (None, false), "a pause");
    clock.fetch_add(61_000, Ordering::Relaxed);
    assert!(followed.not_fresh().is_some(), "also before anybody has noticed the sleep");
    assert!(followed.is_awake());
    assert!(followed.not_fresh().is_some() && !followed.is_awake(), "until the bundle comes");
    assert!(followed.told_bundle(Revision(5), told()));
    assert_eq!(followed.not_fresh(), None);
}

#[tokio::test(start_paused = true)]
async fn what_was_told_before_a_sleep_decides_nothing_before_it_is_told_again() {
    let followed = followed();
    let name = Name::parse("name", "web").unwrap();
    let topic = Topic::Destination(name.clone());
    let (known, ()) = tokio::join!(followed.intentions(&name, soon()), async {
        tokio::task::yield_now().await;
        followed.told_intentions(&topic, Vec::new());
    });
    assert!(known.is_ok() && followed.told_bundle(Revision(5), told()));
    followed.doubt();
    assert!(followed.told_bundle(Revision(5), told()));
    let unheard = followed.intentions(&name, soon()).await;
    assert!(matches!(unheard, Err(UnknownError::NoAnswer(_))), "{unheard:?}");
    let (known, ()) = tokio::join!(followed.intentions(&name, soon()), async {
        tokio::task::yield_now().await;
        followed.told_intentions(&topic, Vec::new());
    });
    assert!(known.is_ok());
    assert!(followed.intentions(&name, Instant::now()).await.is_ok(), "from memory again");
}
