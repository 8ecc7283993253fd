//! An agent among bad neighbours and on a bad machine: it says what is wrong, serves nothing false, and recovers.

use carrack_tests::{
    agent::Agent,
    cluster::Cluster,
    http::{Answer, Http},
    raw::{self, Raw},
    server::Start,
    wait,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::agent::{agent, agent_token, leaf_path};

const AUTHORIZE: &str = "/v1/agent/connect/authorize";
/// Three times as many connections as one client of another machine may hold.
const CONNECTIONS: usize = 600;
/// Far more than a server takes of streams that are reset at once.
const RESETS: u32 = 2_000;

fn get(client: &Http, path: &str) -> Answer {
    client.send("GET", path, None).expect("an answer comes")
}

/// The serial of the leaf that a client gets.
fn serial(client: &Http, service: &str) -> Value {
    let answer = get(client, &leaf_path(service));
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["SerialNumber"].clone()
}

/// CVE-2020-7219, CVE-2025-11374, CVE-2025-11375 (Consul), CVE-2025-12044 (Vault): work without bounds, or before limits.
#[test]
fn an_agent_that_is_flooded_goes_on_serving() {
    let cluster = Cluster::form(1);
    let directory = TempDir::new().expect("a temporary directory");
    let agent = agent(&cluster, "n1", &directory);
    let client = agent.client().with_token(&cluster.token);
    let before = serial(&client, "web");

    let idle: Vec<Raw> = (0..CONNECTIONS).map(|_| Raw::connect(agent.http)).collect();
    let slow = |beginning: &str| {
        let mut connection = Raw::connect(agent.http);
        connection.write(beginning);
        connection
    };
    let mut slow_head = slow("GET /v1/agent/self HTTP/1.1\r\nHo");
    let mut slow_body = slow("POST /v1/agent/connect/authorize HTTP/1.1\r\nHost: a\r\nContent-Length: 90\r\n\r\n{\"T");
    assert_eq!(serial(&client, "web"), before, "while {CONNECTIONS} connections are open");
    bad_requests(&agent, &cluster.token);
    for address in [agent.http, cluster.any().http] {
        assert_eq!(end_of_resets(address), Some(ENHANCE_YOUR_CALM), "{address}");
    }
    assert_eq!(serial(&client, "web"), before);
    let answer = slow_head.read_to_end();
    assert!(answer.is_empty() || raw::status(&answer) == 408, "{answer}");
    assert_eq!(raw::status(&slow_body.read_to_end()), 408);
    assert_eq!(serial(&client, "web"), before);
    drop(idle);
}

fn bad_requests(agent: &Agent, token: &str) {
    let ask = |line: &str, body: &[u8]| {
        let length = body.len().to_string();
        raw::ask(agent.http, line, &[("X-Consul-Token", token), ("Content-Length", &length)], body)
    };
    let deep = "[".repeat(30_000);
    for (what, body, words) in [
        ("an unknown field", &br#"{"Nonsense": 1}"#[..], "unknown field `Nonsense`"),
        ("a cut object", br#"{"Target": "a"#, "the body is not JSON"),
        ("a list", b"[1]", "must be an object"),
        ("two objects", b"{}{}", "the body is not JSON"),
        ("lists in lists", deep.as_bytes(), "the body is not JSON"),
        ("a number", br#"{"Target": 7}"#, "must be a string"),
        ("nothing", b"{}", "Target"),
    ] {
        let (status, answer) = ask(&format!("POST {AUTHORIZE}"), body);
        assert_eq!(status, 400, "{what}: {answer}");
        assert!(answer.contains(words), "{what}: {answer}");
    }
    for (line, status) in [
        ("GET /v1/agent/connect/ca/leaf/web%2fdb", 400),
        ("GET /v1/agent/connect/ca/leaf/%2e%2e%2fself", 400),
        ("GET /v1/agent/connect/ca/roots?index=-1", 400),
        ("GET /v1/agent/connect/ca/roots?wait=soon", 400),
        ("GET /v1/agent/connect/ca/roots?dc=dc2", 400),
        ("DELETE /v1/agent/self", 405),
        ("GET /v1/catalog/services", 404),
        ("GET /v1/nothing", 404),
    ] {
        let (found, answer) = ask(line, b"");
        assert_eq!(found, status, "{line}: {answer}");
    }
    let (status, answer) = ask(&format!("POST {AUTHORIZE}"), &vec![b' '; 300 * 1024]);
    assert_eq!(status, 413, "{answer}");
    // A page in a browser, which has come here by a name of its own.
    let page = [("X-Consul-Token", token), ("Origin", "http://page.example:8500"), ("Content-Length", "2")];
    let (status, answer) = raw::ask(agent.http, &format!("POST {AUTHORIZE}"), &page, b"{}");
    assert_eq!(status, 403, "{answer}");
}

/// HTTP/2's code for a peer that asks too much.
const ENHANCE_YOUR_CALM: u32 = 11;

/// CVE-2023-44487: streams that are reset as soon as they are opened. The code with which the peer ends the connection.
fn end_of_resets(address: std::net::SocketAddr) -> Option<u32> {
    let frame = |kind: u8, flags: u8, stream: u32, body: &[u8]| {
        let length = u32::try_from(body.len()).expect("it is short").to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
    };
    let (settings, headers, reset) = (4, 1, 3);
    let mut bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(settings, 0, 0, &[])].concat();
    for stream in (1..2 * RESETS).step_by(2) {
        // GET, http, /: entries 2, 6 and 4 of HPACK's table. The head is whole, and so is the request.
        bytes.extend(frame(headers, 0b101, stream, &[0x82, 0x86, 0x84]));
        bytes.extend(frame(reset, 0, stream, &8_u32.to_be_bytes()));
    }
    let answer = Raw::connect(address).write(bytes).read_bytes_to_end();
    let mut rest = &*answer;
    while let Some((head, after)) = rest.split_at_checked(9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (body, after) = after.split_at_checked(length)?;
        if head[3] == 7 {
            return body.get(4..8).map(|code| u32::from_be_bytes(code.try_into().expect("four bytes")));
        }
        rest = after;
    }
    None
}

#[test]
fn an_agent_on_a_full_disk_says_so_joins_later_with_the_same_token_and_goes_on_without_writing() {
    let mut cluster = Cluster::form(1);
    let directory = TempDir::new().expect("a temporary directory");
    let token = agent_token(&cluster, "n1");
    let mut agent = Agent::new("n1", directory.path());
    let full = agent.start_in_vain_on_full_disk(&token);
    assert_eq!(full.code, Some(1), "{}", full.errors);
    assert!(full.errors.contains("cannot be used") && full.errors.contains("File too large"), "{}", full.errors);

    agent.start(Some(&token));
    agent.wait_until_ready();
    let client = agent.client().with_token(&cluster.token);
    serial(&client, "web");
    assert!(agent.stop());

    // It is full again: nothing that it serves needs the disk, and neither does another server that it hears of.
    agent.start_on_full_disk();
    agent.wait_until_ready();
    serial(&client, "web");
    cluster.add("b");
    cluster.wait_until_voting("b");
    let token = cluster.token.clone();
    wait::until("the agent to have the bundle with the second server", || {
        let bundle = cluster.any().status(&token)?["Bundle"].clone();
        let shown = get(&client, "/v1/carrack/agent/cache").json();
        wait::holds(shown["BundleRevision"].as_u64() >= bundle["Revision"].as_u64(), || shown.to_string())
    });
    serial(&client, "api");
    assert!(agent.stop(), "it ends well");
    agent.start(None);
    agent.wait_until_ready();
    serial(&client, "web");
}

#[test]
fn an_agent_whose_server_falls_silent_says_so_and_answers_from_memory_until_it_speaks_again() {
    let mut cluster = Cluster::form(1);
    let directory = TempDir::new().expect("a temporary directory");
    let agent = agent(&cluster, "n1", &directory);
    let client = agent.client().with_token(&cluster.token);
    let leaf = get(&client, &leaf_path("web")).json();
    let before = leaf["SerialNumber"].clone();

    cluster.servers[0].pause();
    wait::until("the agent to notice", || {
        let shown = get(&client, "/v1/carrack/agent/cache").json();
        let trouble = shown["Trouble"].as_str().unwrap_or_default().to_owned();
        wait::holds(trouble.contains("timed out"), || shown.to_string())
    });
    assert_eq!(serial(&client, "web"), before, "from memory");
    let refused = get(&client, &leaf_path("other"));
    assert_eq!(refused.status, 503, "{}", refused.body);
    let stranger = agent.client().with_token("11111111-2222-3333-4444-555555555555");
    let unknown = get(&stranger, &leaf_path("web"));
    assert_eq!(unknown.status, 503, "nobody can say whose it is: {}", unknown.body);
    let question = json!({ "Target": "db", "ClientCertURI": leaf["ServiceURI"], "ClientCertSerial": before });
    let undecided = client.send("POST", AUTHORIZE, Some(&question)).expect("an answer");
    assert_eq!(undecided.status, 503, "nothing is known of `db`: {}", undecided.body);

    cluster.servers[0].resume();
    wait::until("another leaf", || {
        let answer = client.send("GET", &leaf_path("other"), None)?;
        wait::holds(answer.status == 200, || answer.body.clone())
    });
    assert_eq!(serial(&client, "web"), before);
    cluster.servers[0].kill();
    cluster.servers[0].start(Start::Again);
    agent.wait_until_ready();
    assert_eq!(serial(&client, "web"), before);
}
