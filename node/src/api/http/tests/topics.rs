//! What agents' streams follow, while clients write: looked up once for all of them, told of its own changes alone, gone with the last one.

use std::{sync::Arc, time::Duration};

use carrack_authority::{acl::token::secret_digest, spiffe::Name};
use carrack_proto::agent::follow_response::Told;
use serde_json::json;
use tokio::time::timeout;

use super::datacenter::Datacenter;
use crate::server::topics::{Following, Found, Topic};

/// How long a change may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

impl Datacenter {
    async fn write_row(&self, destination: &str, action: &str) {
        let path = format!("/v1/connect/intentions/exact?source=web&destination={destination}");
        self.put(&path).managed().json(&json!({ "Action": action })).ok().await;
    }

    fn follower(&self) -> Following {
        self.server.context().topics.enter()
    }
}

fn destination(name: &str) -> Topic {
    Topic::Destination(Name::parse("destination", name).unwrap())
}

async fn changed(following: &mut Following) -> (u32, Arc<Found>) {
    timeout(PATIENCE, following.changed()).await.expect("a change is told")
}

fn rows(found: &Found) -> usize {
    let Told::Intentions(told) = &found.told else { panic!("{found:?}") };
    told.intentions.len()
}

#[tokio::test]
async fn what_many_streams_follow_is_found_once_and_only_its_own_change_is_told() {
    let datacenter = Datacenter::begin().await;
    let (mut one, mut other) = (datacenter.follower(), datacenter.follower());
    let first = one.follow(7, destination("db")).unwrap();
    assert_eq!(rows(&first), 0);
    assert!(Arc::ptr_eq(&first, &other.follow(3, destination("db")).unwrap()), "it is found once");
    other.follow(4, destination("cache")).unwrap();

    datacenter.write_row("queue", "allow").await;
    datacenter.write_row("db", "allow").await;
    let (told_one, told_other) = (changed(&mut one).await, changed(&mut other).await);
    assert_eq!((told_one.0, told_other.0, rows(&told_one.1)), (7, 3, 1));
    assert!(Arc::ptr_eq(&told_one.1, &told_other.1), "and told to both");
    assert!(told_one.1.revision > first.revision);

    // Of two changes that nobody took in between, the newest is told. Destinations are looked at in the order of their names.
    datacenter.write_row("cache", "allow").await;
    datacenter.write_row("*", "deny").await;
    assert_eq!(rows(&changed(&mut one).await.1), 2);
    let told = [changed(&mut other).await, changed(&mut other).await];
    assert_eq!(told.map(|(number, found)| (number, rows(&found))), [(3, 2), (4, 2)]);
}

#[tokio::test]
async fn a_token_that_is_deleted_ends_and_what_nobody_follows_is_forgotten() {
    let datacenter = Datacenter::begin().await;
    let topics = datacenter.server.context().topics.clone();
    let (secret, accessor) = datacenter.service_token("web").await;
    let secret = secret_digest(&secret.parse().unwrap());
    let (mut one, mut other) = (datacenter.follower(), datacenter.follower());
    for following in [&mut one, &mut other] {
        assert!(matches!(following.follow(1, Topic::Token(secret)).unwrap().told, Told::Rights(_)));
    }
    one.follow(2, Topic::Revoked).unwrap();
    assert_eq!(topics.followed(), 3);

    datacenter.delete(&format!("/v1/acl/token/{accessor}")).managed().ok().await;
    for following in [&mut one, &mut other] {
        let (number, found) = changed(following).await;
        assert!(number == 1 && matches!(found.told, Told::NoToken(_)), "{found:?}");
        assert!(!following.is_in_use(1));
        assert!(following.follow(1, Topic::Token(secret)).unwrap().is_end(), "and it is not followed again");
    }
    assert_eq!(topics.followed(), 1);
    drop(one);
    assert_eq!(topics.followed(), 0);
}
