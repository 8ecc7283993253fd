//! A secondary whose issuers grow old and end while the primary is gone, and which recovers by itself. The servers run in this process,
//! on clocks of the test's own.

use std::{sync::Arc, time::Duration};

use carrack::{
    agent::{Agent, AgentOptions, AgentPorts},
    server::Start,
};
use carrack_authority::{federation::Table, issuer::IssuerPhase, time::Timestamp};
use carrack_tests::{
    http::{Answer, Http},
    in_process::{Datacenter, WrongClock, until},
    ports::free_address,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const DAY: i64 = 86_400;
const LEAF: &str = "/v1/agent/connect/ca/leaf/web";

async fn send(client: &Http, method: &str, path: &str) -> anyhow::Result<Answer> {
    client.send_async(method, path, None).await.map_err(anyhow::Error::msg)
}

/// A client of the first server of a secondary, with the first token of the primary, which is known there.
async fn first_token(primary: &Datacenter, secondary: &Datacenter) -> anyhow::Result<Http> {
    let made = send(&primary.places[0].client(), "PUT", "/v1/acl/bootstrap").await?.json();
    let replica = &secondary.places[0].running().context().replica;
    until("the secondary knows the token", || replica.state().state.acl().token_count() == 1).await?;
    Ok(secondary.places[0].client().with_token(made["SecretID"].as_str().expect("a secret")))
}

/// Every server sleeps until so many days after the beginning.
async fn sleep_until_day(datacenter: &mut Datacenter, day: i64) -> anyhow::Result<()> {
    for place in &mut datacenter.places {
        place.stop().await;
        place.clock.set_ahead(day * DAY);
    }
    for place in &mut datacenter.places {
        place.start(Start::Again).await?;
    }
    datacenter.leader().await.map(drop)
}

fn issues(datacenter: &Datacenter) -> bool {
    datacenter.places.iter().all(|place| place.running().context().desk.issuer().is_some())
}

/// What the status of the first server says is wrong, once the primary was asked in vain.
async fn problems(datacenter: &Datacenter, client: &Http) -> anyhow::Result<(String, Value)> {
    let context = datacenter.places[0].running().context();
    until("the primary was asked in vain", || {
        context.secondary.borrow().as_ref().is_some_and(|known| !known.unsigned.is_empty())
    })
    .await?;
    let status = send(client, "GET", "/v1/carrack/status").await?.json();
    Ok((status["Problems"].to_string(), status["Secondary"].clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn issuers_that_end_without_the_primary_are_told_of_refused_clearly_and_replaced_when_it_is_back()
-> anyhow::Result<()> {
    let mut primary = Datacenter::form(1).await?;
    let mut secondary = Datacenter::form_secondary(1, "dc2", &[], &primary).await?;
    let client = first_token(&primary, &secondary).await?;
    let issuer = secondary.places[0].running().context().desk.issuer();
    primary.places[0].stop().await;

    // It should have been renewed, and works.
    sleep_until_day(&mut secondary, 300).await?;
    until("it issues", || issues(&secondary)).await?;
    assert_eq!(secondary.places[0].running().context().desk.issuer(), issuer);
    let leaf = send(&client, "GET", LEAF).await?;
    assert_eq!(leaf.status, 200, "{}", leaf.body);
    let (told, standing) = problems(&secondary, &client).await?;
    assert!(told.contains("the primary has not signed an issuer of a: datacenter `dc1` cannot be reached"), "{told}");
    assert!(
        told.contains("(issuer) of server ")
            && told.contains("`carrack federation show` says why it was not")
            && told.contains("more than 80 % of its life is over"),
        "{told}"
    );
    assert_eq!(standing["UnsignedIssuers"][0]["NodeName"], "a", "{standing}");
    let left = standing["IssuesForSeconds"].as_i64().expect("a number");
    assert!((63 * DAY..=65 * DAY).contains(&left), "{standing}");
    until("the metric", || {
        let metrics = secondary.places[0].running().context().metrics.encode(Timestamp::EPOCH);
        metrics.is_ok_and(|text| text.contains("carrack_federation_unsigned_issuers 1"))
    })
    .await?;

    // It has ended.
    sleep_until_day(&mut secondary, 400).await?;
    until("it does not issue", || !issues(&secondary)).await?;
    let refused = send(&client, "GET", "/v1/agent/connect/ca/leaf/other").await?;
    assert_eq!(refused.status, 503, "{}", refused.body);
    let reason = "no valid issuer under the active root, and only the primary `dc1` signs one";
    assert!(refused.body.contains(reason), "{}", refused.body);
    let ready = send(&client, "GET", "/readyz").await?;
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains(reason), "{}", ready.body);
    let (told, standing) = problems(&secondary, &client).await?;
    assert!(told.contains("datacenter `dc1` cannot be reached"), "{told}");
    assert_eq!((standing["IssuesUntil"].is_null(), &standing["IssuesForSeconds"]), (true, &Value::from(0)));

    // The primary is back, and nobody does anything else.
    primary.places[0].clock.set_ahead(400 * DAY);
    primary.places[0].start(Start::Again).await?;
    until("it issues again", || issues(&secondary)).await?;
    let leaf = send(&client, "GET", "/v1/agent/connect/ca/leaf/other").await?;
    assert_eq!(leaf.status, 200, "{}", leaf.body);
    let status = send(&client, "GET", "/v1/carrack/status").await?.json();
    assert_eq!(status["Secondary"]["UnsignedIssuers"], Value::Array(Vec::new()), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secondary_that_is_cut_off_for_too_long_honours_its_own_tokens_alone_until_the_primary_is_back()
-> anyhow::Result<()> {
    let mut primary = Datacenter::form(1).await?;
    let settings = [("acl.token_staleness_max", "24h")];
    let mut secondary = Datacenter::form_secondary(1, "dc2", &settings, &primary).await?;
    let global = first_token(&primary, &secondary).await?;
    let identity = json!({ "Local": true, "ServiceIdentities": [{ "ServiceName": "web" }] });
    let local = global.send_async("PUT", "/v1/acl/token", Some(&identity)).await.map_err(anyhow::Error::msg)?;
    assert_eq!(local.status, 200, "{}", local.body);
    let local = global.with_token(local.json()["SecretID"].as_str().expect("a secret"));
    let status = send(&global, "GET", "/v1/carrack/status").await?.json();
    assert_eq!(status["Secondary"]["TokenStalenessMax"], "24h", "{status}");
    primary.places[0].stop().await;

    sleep_until_day(&mut secondary, 2).await?;
    until("it issues", || issues(&secondary)).await?;
    for path in ["/v1/agent/connect/ca/leaf/api", "/v1/acl/token/self", "/v1/carrack/status"] {
        let refused = send(&global, "GET", path).await?;
        assert_eq!(refused.status, 403, "{path}: {}", refused.body);
        assert!(refused.body.contains("was not heard for longer than acl.token_staleness_max"), "{}", refused.body);
    }
    let leaf = send(&local, "GET", LEAF).await?;
    assert_eq!(leaf.status, 200, "{}", leaf.body);

    primary.places[0].clock.set_ahead(2 * DAY);
    primary.places[0].start(Start::Again).await?;
    let replica = &secondary.places[0].running().context().replica;
    let now = replica.log_time();
    until("the primary is heard", || replica.state().state.progress(Table::Tokens).heard_at >= now).await?;
    let leaf = send(&global, "GET", "/v1/agent/connect/ca/leaf/api").await?;
    assert_eq!(leaf.status, 200, "{}", leaf.body);
    Ok(())
}

/// What a refused request for a leaf says: the words and the code.
async fn refusal(client: &Http, service: &str) -> anyhow::Result<(String, String)> {
    let refused = send(client, "GET", &format!("/v1/agent/connect/ca/leaf/{service}")).await?;
    assert_eq!(refused.status, 503, "{}", refused.body);
    let code = refused.header("x-carrack-error-code").unwrap_or_default().to_owned();
    Ok((refused.body, code))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secondary_that_is_cut_off_for_too_long_issues_nothing_until_it_hears_that_it_is_not_halted()
-> anyhow::Result<()> {
    const UNHEARD: &str = "the primary `dc1` was not heard for longer than ca.halt_staleness_max (24h)";
    let mut primary = Datacenter::form(1).await?;
    let settings = [("ca.halt_staleness_max", "24h")];
    let mut secondary = Datacenter::form_secondary(1, "dc2", &settings, &primary).await?;
    let client = first_token(&primary, &secondary).await?;
    let clock = WrongClock::default();
    let (agent, workload, _directory) = agent(&secondary, &client, &clock).await?;
    let workload = workload.with_token(client.token().expect("it has one"));
    let cached = leaf_in_time(&workload, "web").await?;
    let status = send(&client, "GET", "/v1/carrack/status").await?.json();
    assert_eq!(status["Secondary"]["HaltStalenessMax"], "24h", "{status}");
    let left = status["Secondary"]["IssuesForSeconds"].as_i64().expect("a number");
    assert!((DAY - 600..=DAY).contains(&left), "not as long as its issuer lives: {status}");
    primary.places[0].stop().await;

    clock.set_ahead(2 * DAY);
    sleep_until_day(&mut secondary, 2).await?;
    until("it could issue", || issues(&secondary)).await?;
    let (told, code) = refusal(&client, "api").await?;
    assert!(told.starts_with(UNHEARD) && told.contains("may have halted issuing"), "{told}");
    assert_eq!(code, "halt_unknown");
    let ready = send(&client, "GET", "/readyz").await?;
    assert_eq!((ready.status, ready.body.contains(UNHEARD)), (503, true), "{}", ready.body);
    let status = send(&client, "GET", "/v1/carrack/status").await?.json();
    assert!(status["Problems"].to_string().contains(UNHEARD), "{status}");
    assert_eq!((&status["Halted"], &status["Secondary"]["HaltUnknown"]), (&Value::from(false), &Value::from(true)));
    let status = send(&client, "GET", "/v1/carrack/ca").await?.json();
    assert!(status["HaltUnknown"].as_str().is_some_and(|reason| reason.starts_with(UNHEARD)), "{status}");
    let metrics = secondary.places[0].running().context().metrics.encode(Timestamp::EPOCH)?;
    assert!(metrics.contains(r#"carrack_issuance_rejections_total{reason="halt_unknown"}"#), "{metrics}");

    // An agent there goes on with what it has, and says why there is nothing new.
    assert_eq!(leaf_in_time(&workload, "web").await?["SerialNumber"], cached["SerialNumber"]);
    let (told, code) = refusal(&workload, "api").await?;
    assert!(told.starts_with(UNHEARD), "{told}");
    assert_eq!(code, "halt_unknown");

    primary.places[0].clock.set_ahead(2 * DAY);
    primary.places[0].start(Start::Again).await?;
    leaf_in_time(&client, "api").await?;
    leaf_in_time(&workload, "api").await?;
    let status = send(&client, "GET", "/v1/carrack/status").await?.json();
    assert_eq!(status["Secondary"]["HaltUnknown"], Value::from(false));
    agent.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_of_the_primary_stops_a_secondary_that_hears_it_until_it_is_lifted() -> anyhow::Result<()> {
    let primary = Datacenter::form(1).await?;
    let secondary = Datacenter::form_secondary(1, "dc2", &[], &primary).await?;
    let client = first_token(&primary, &secondary).await?;
    leaf_in_time(&client, "web").await?;
    let in_primary = primary.places[0].client().with_token(client.token().expect("it has one"));
    let replica = &secondary.places[0].running().context().replica;
    for halted in [true, false] {
        let set = send_body(&in_primary, "PUT", "/v1/carrack/halt", &json!({ "Halted": halted })).await?;
        assert_eq!(set.status, 200, "{}", set.body);
        until("the secondary hears it", || replica.state().state.is_primary_halted() == halted).await?;
        if halted {
            let (told, code) = refusal(&client, "api").await?;
            assert!(told.contains("issuing is halted"), "{told}");
            assert_eq!(code, "halted");
        }
    }
    leaf_in_time(&client, "api").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_is_renewed_by_the_primary_after_half_of_its_life() -> anyhow::Result<()> {
    let mut primary = Datacenter::form(1).await?;
    let mut secondary = Datacenter::form_secondary(1, "dc2", &[], &primary).await?;
    let issuer = secondary.places[0].running().context().desk.issuer();
    // Its key decides when, between 45 and 55 % of a year.
    sleep_until_day(&mut primary, 160).await?;
    sleep_until_day(&mut secondary, 160).await?;
    until("it issues", || issues(&secondary)).await?;
    assert_eq!(secondary.places[0].running().context().desk.issuer(), issuer, "it is too early");
    sleep_until_day(&mut primary, 205).await?;
    sleep_until_day(&mut secondary, 205).await?;
    let context = secondary.places[0].running().context();
    until("it issues with another one", || context.desk.issuer().is_some_and(|renewed| Some(renewed) != issuer))
        .await?;
    let state = context.replica.state().state.clone();
    let live = state.issuers().filter(|issuer| issuer.phase == IssuerPhase::Live).map(|issuer| issuer.id);
    assert_eq!(live.collect::<Vec<_>>(), context.desk.issuer().into_iter().collect::<Vec<_>>());
    Ok(())
}

/// An agent on a clock of the test's own, beside the first server of a datacenter.
async fn agent(datacenter: &Datacenter, client: &Http, clock: &WrongClock) -> anyhow::Result<(Agent, Http, TempDir)> {
    let made = send_body(client, "PUT", "/v1/carrack/agent-token", &json!({ "NodeName": "n1" })).await?.json();
    let token = made["Token"].as_str().expect("a token").parse()?;
    let (directory, http) = (TempDir::new()?, free_address());
    assert_eq!(datacenter.places.len(), 1);
    let options = AgentOptions { data_dir: directory.path().join("agent"), http, join: Some(token) };
    let ports = AgentPorts { wall_clock: Arc::new(clock.clone()), ..AgentPorts::of_machine() };
    Ok((Agent::start(options, ports).await?, Http::new(http), directory))
}

async fn send_body(client: &Http, method: &str, path: &str, body: &Value) -> anyhow::Result<Answer> {
    client.send_async(method, path, Some(body)).await.map_err(anyhow::Error::msg)
}

/// Waits until a client gets a leaf.
async fn leaf_in_time(client: &Http, service: &str) -> anyhow::Result<Value> {
    let path = format!("/v1/agent/connect/ca/leaf/{service}");
    for _ in 0..600 {
        let answer = send(client, "GET", &path).await?;
        if answer.status == 200 {
            return Ok(answer.json());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("no leaf for {service} within a minute")
}

/// It is known by its key: the certificate that it shows has long ended.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_slept_past_the_end_of_all_that_it_has_serves_nothing_of_it_and_comes_back() -> anyhow::Result<()>
{
    let mut datacenter = Datacenter::form(1).await?;
    let made = send(&datacenter.places[0].client(), "PUT", "/v1/acl/bootstrap").await?.json();
    let secret = made["SecretID"].as_str().expect("a secret").to_owned();
    let client = datacenter.places[0].client().with_token(&secret);
    let clock = WrongClock::default();
    let (agent, workload, _directory) = agent(&datacenter, &client, &clock).await?;
    let workload = workload.with_token(&secret);
    let before = leaf_in_time(&workload, "web").await?;

    datacenter.places[0].stop().await;
    clock.set_ahead(10 * DAY);
    let refused = async {
        loop {
            let answer = send(&workload, "GET", LEAF).await?;
            if answer.status == 503 && answer.body.contains("this agent has just started, or has slept") {
                return anyhow::Ok(());
            }
            assert_ne!(answer.status, 200, "a leaf of before the sleep: {}", answer.body);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), refused).await??;

    sleep_until_day(&mut datacenter, 10).await?;
    let after = leaf_in_time(&workload, "web").await?;
    assert_ne!(before["SerialNumber"], after["SerialNumber"]);
    let begins = after["ValidAfter"].as_str().expect("a time");
    assert!(begins > before["ValidBefore"].as_str().expect("a time"), "{begins}");
    agent.stop().await;
    Ok(())
}
