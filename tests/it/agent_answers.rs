//! What an agent says around its answers: how stale they are, what a blocking query names next, and what it counts.

use std::thread;

use carrack_tests::{agent::Agent, cluster::Cluster, http::Http, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::agent::{ROOTS, agent, expect_leaf, get, leaf_path};

const METRICS: &str = "/v1/agent/metrics";
const AUTHORIZE: &str = "/v1/agent/connect/authorize";

struct Story {
    cluster: Cluster,
    agent: Agent,
    _directory: TempDir,
}

impl Story {
    fn begin() -> Self {
        let (cluster, directory) = (Cluster::form(1), TempDir::new().expect("a temporary directory"));
        let agent = agent(&cluster, "n1", &directory);
        Self { cluster, agent, _directory: directory }
    }

    fn client(&self) -> Http {
        self.agent.client().with_token(&self.cluster.token)
    }

    fn server(&self) -> Http {
        self.cluster.any().client().with_token(&self.cluster.token)
    }
}

/// The value of a metric in `/metrics`.
fn metric(client: &Http, line: &str) -> Result<f64, String> {
    let text = client.send("GET", "/metrics", None)?.body;
    let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).ok_or_else(|| format!("{line} is not in\n{text}"))
}

#[track_caller]
fn expect_metric(client: &Http, line: &str, expected: f64) {
    wait::until(line, || {
        let value = metric(client, line)?;
        wait::holds((value - expected).abs() < f64::EPSILON, || format!("{value}, not {expected}"))
    });
}

fn entry<'a>(metrics: &'a Value, table: &str, name: &str) -> &'a Value {
    let found = metrics[table].as_array().expect("a table").iter().find(|entry| entry["Name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {metrics}"))
}

#[test]
fn what_an_agent_and_a_server_count_is_shown_in_both_forms_to_who_may_read_them() {
    let mut story = Story::begin();
    let (client, server) = (story.client(), story.server());
    expect_leaf(&client, "web");
    expect_leaf(&client, "web");
    let question = json!({ "Target": "db", "ClientCertURI": expect_leaf(&client, "web")["ServiceURI"] });
    let answer = client.send("POST", AUTHORIZE, Some(&question)).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);

    let agents = story.agent.client();
    for (line, expected) in [
        ("carrack_leaves_cached", 1.0),
        ("carrack_leaves_made_total", 1.0),
        ("carrack_leaf_requests_total{result=\"hit\"}", 2.0),
        ("carrack_leaf_requests_total{result=\"miss\"}", 1.0),
        ("carrack_leaf_renewals_total{outcome=\"failed\"}", 0.0),
        ("carrack_leaf_evictions_total{reason=\"full\"}", 0.0),
        ("carrack_authorize_decisions_total{verdict=\"denied\",ground=\"default\"}", 1.0),
        ("carrack_agent_stream_server", 1.0),
        ("carrack_agent_streams_opened_total", 1.0),
        ("carrack_agent_topics_followed{kind=\"token\"}", 1.0),
        ("carrack_agent_topics_followed{kind=\"destination\"}", 1.0),
        ("carrack_agent_topics_followed{kind=\"revoked\"}", 1.0),
    ] {
        expect_metric(&agents, line, expected);
    }
    assert!(metric(&agents, "carrack_leaf_next_renewal_timestamp_seconds").is_ok_and(|at| at > 0.0));
    assert!(metric(&agents, "carrack_raft_term").is_err(), "an agent has no log");
    expect_metric(&server, "carrack_agent_streams", 1.0);
    expect_metric(&server, "carrack_agent_topics", 3.0);

    let shown = client.read(METRICS).expect("metrics");
    assert!(shown["Timestamp"].as_str().is_some_and(|text| text.ends_with(" +0000 UTC")), "{shown}");
    assert_eq!(shown["Points"], json!([]));
    assert_eq!(entry(&shown, "Gauges", "carrack_leaves_cached")["Value"], 1.0);
    assert_eq!(entry(&shown, "Counters", "carrack_leaves_made")["Count"], 1.0);
    let shown = server.read(METRICS).expect("metrics");
    assert_eq!(entry(&shown, "Gauges", "carrack_agent_streams")["Labels"], json!({}));
    assert!(entry(&shown, "Samples", "carrack_commit_seconds")["Count"].as_f64() > Some(0.0), "{shown}");
    for client in [&client, &server] {
        let text = get(client, "/v1/agent/metrics?format=prometheus");
        assert_eq!(text.header("content-type"), get(client, "/metrics").header("content-type"));
        assert!(text.body.contains("# TYPE carrack_leaves_cached gauge") && text.body.ends_with("# EOF\n"));
        assert_eq!(get(client, "/v1/agent/metrics?format=statsd").status, 400);
    }

    let body = json!({ "ServiceIdentities": [{ "ServiceName": "web" }] });
    let made = server.send("PUT", "/v1/acl/token", Some(&body)).expect("an answer").json();
    let secret = made["SecretID"].as_str().expect("a secret");
    for (client, node) in [(&story.agent.client(), "n1"), (&story.cluster.any().client(), "a")] {
        let refused = get(&client.with_token(secret), METRICS);
        assert_eq!(refused.status, 403, "{}", refused.body);
        assert!(refused.body.contains(&format!("lacks permission 'agent:read' on \"{node}\"")), "{}", refused.body);
        assert_eq!(get(client, METRICS).status, 403);
    }

    story.cluster.kill_all();
    expect_metric(&agents, "carrack_agent_stream_server", 0.0);
    assert!(metric(&agents, "carrack_agent_server_heard_timestamp_seconds").is_ok_and(|at| at > 0.0));
}

/// Of the bundle's index a new server is a change too, of its content it is none.
#[test]
fn a_blocking_query_waits_for_another_index_or_for_another_content() {
    let mut story = Story::begin();
    let client = story.client();
    let paths = [ROOTS.to_owned(), leaf_path("web")];
    for client in [client.clone(), story.server()] {
        for path in &paths {
            let first = get(&client, path);
            assert_eq!(first.status, 200, "{}", first.body);
            let hash = first.header("x-consul-contenthash").expect("a hash").to_owned();
            let later = get(&client, &format!("{path}?hash={hash}&wait=1s"));
            assert_eq!((later.status, later.header("x-consul-contenthash")), (200, Some(hash.as_str())));
            // Nobody waits five minutes: the answer has another hash.
            let other = get(&client, &format!("{path}?hash=0000000000000000&wait=5m"));
            assert_eq!((other.status, other.body), (200, first.body.clone()));
        }
    }
    let pem = get(&client, &format!("{ROOTS}?pem=true"));
    let first = get(&client, ROOTS);
    assert_eq!(pem.header("x-consul-contenthash"), first.header("x-consul-contenthash"));

    let index = first.header("x-consul-index").expect("an index").to_owned();
    let waiting = {
        let (client, path) = (client.clone(), format!("{ROOTS}?index={index}&wait=5m"));
        thread::spawn(move || get(&client, &path))
    };
    story.cluster.add("b");
    let woken = waiting.join().expect("it is answered");
    assert_ne!(woken.header("x-consul-index"), Some(index.as_str()));
    assert_eq!(
        (woken.header("x-consul-contenthash"), woken.body.as_str()),
        (first.header("x-consul-contenthash"), first.body.as_str())
    );
}

#[test]
fn what_is_known_without_servers_is_told_with_its_age_as_far_as_a_request_takes_it() {
    let mut story = Story::begin();
    let client = story.client();
    let leaf = expect_leaf(&client, "web");
    let question = json!({ "Target": "db", "ClientCertURI": leaf["ServiceURI"] });
    let ask = |client: &Http, path: &str| match path {
        AUTHORIZE => client.send("POST", path, Some(&question)).expect("an answer"),
        path => get(client, path),
    };
    let paths = [ROOTS.to_owned(), leaf_path("web"), AUTHORIZE.to_owned()];
    let taking = |directives: &str| client.with_header("Cache-Control", directives);
    for path in &paths {
        let fresh = ask(&taking("stale-if-error=0"), path);
        assert_eq!(
            (fresh.status, fresh.header("x-cache"), fresh.header("age")),
            (200, Some("HIT"), Some("0")),
            "{path}"
        );
    }
    let wrong = ask(&taking("max-age=1, stale-if-error=soon"), ROOTS);
    assert_eq!(wrong.status, 400, "{}", wrong.body);

    story.cluster.kill_all();
    wait::until("an answer that is older than a second", || {
        let answer = client.send("GET", ROOTS, None)?;
        let age = answer.header("age").and_then(|age| age.parse::<u64>().ok());
        wait::holds(answer.status == 200 && age > Some(1), || format!("{answer:?}"))
    });
    for path in &paths {
        let refused = ask(&taking("max-age=60 stale-if-error=1"), path);
        assert_eq!(refused.status, 503, "{path}: {}", refused.body);
        assert!(refused.body.contains("stale-if-error takes 1 s; no server is heard"), "{}", refused.body);
        for taken in ["stale-if-error=86400", "max-age=0, must-revalidate"] {
            let answer = ask(&taking(taken), path);
            assert_eq!((answer.status, answer.header("x-cache")), (200, Some("HIT")), "{path}: {}", answer.body);
            assert_ne!(answer.header("age"), Some("0"), "{path}");
        }
    }
    let unmet = get(&client, &leaf_path("other"));
    assert_eq!(unmet.status, 503, "{}", unmet.body);
}
