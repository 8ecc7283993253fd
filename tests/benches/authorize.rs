//! `POST /v1/agent/connect/authorize`: the decision alone, and over loopback HTTP on a real agent and on a real server, beside `/livez` of
//! the same process, which is the limit of the HTTP stack.

use std::{collections::BTreeMap, hint::black_box, net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use carrack_authority::{
    id::{Revision, Serial},
    intention::{Action, Connection, DefaultPolicy, Effect, Intention, IntentionsBySource, Known, Party, authorize},
    revocation::RevokedIssuers,
    spiffe::{Name, SpiffeId, TrustDomain},
    time::Timestamp,
};
use carrack_tests::{agent::Agent, cluster::Cluster, wait};
use clap::Args;
use comfy_table::Table;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    http_load::{self, Round, request},
    latencies::Latencies,
    process::usage,
};

/// How many decisions are timed at once: a look at the clock costs about a tenth of one.
const DECISIONS_AT_ONCE: u32 = 20;
/// How many times so many are timed.
const SAMPLES: usize = 20_000;
const AUTHORIZE: &str = "/v1/agent/connect/authorize";
const LIVE: &str = "/livez";

/// How authorize is measured.
#[derive(Args)]
pub(crate) struct AuthorizeArguments {
    /// Numbers of clients, one round each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16])]
    clients: Vec<usize>,
    /// Length of each round in seconds
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How many times each round is run
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// One round over HTTP.
struct Line {
    who: &'static str,
    path: &'static str,
    round: Round,
    /// Of the process that answers.
    cpu_seconds: f64,
}

/// Decisions on a destination with so many sources.
struct Decided {
    sources: usize,
    nanoseconds: Latencies,
}

pub(crate) fn run(arguments: &AuthorizeArguments) -> anyhow::Result<()> {
    let decided = [1, 100, 10_000].map(decide).into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let cluster = Cluster::form(3);
    let directory = tempfile::tempdir()?;
    let agent = started_agent(&cluster, directory.path())?;
    let setup = Setup::new(&cluster)?;
    let server = cluster.any();
    let targets = [("agent", agent.http, agent.process_id()), ("server", server.http, server.process_id())];
    let runtime = http_load::runtime()?;
    let mut lines = Vec::new();
    for (who, address, process) in targets {
        setup.expect_allowed(who, address)?;
        for clients in arguments.clients.iter().flat_map(|clients| std::iter::repeat_n(*clients, arguments.repeat)) {
            for path in [LIVE, AUTHORIZE] {
                let before = usage(process)?.cpu_seconds;
                let round = runtime.block_on(setup.round(address, path, clients, arguments.seconds))?;
                let cpu_seconds = usage(process)?.cpu_seconds - before;
                lines.push(Line { who, path, round, cpu_seconds });
            }
        }
    }
    print(arguments.json, &decided, &lines)
}

/// An agent that has joined and serves.
pub(crate) fn started_agent(cluster: &Cluster, directory: &std::path::Path) -> anyhow::Result<Agent> {
    let made = cluster.any().carrack(&cluster.token, &["token", "agent", "--node", "bench", "--format", "json"]);
    let token = made.expect_json()["Token"].as_str().context("a token")?.to_owned();
    let mut agent = Agent::new("bench", directory);
    agent.start(Some(&token));
    agent.wait_until_ready();
    Ok(agent)
}

/// What is asked, and by whom.
struct Setup {
    body: String,
    token: String,
}

impl Setup {
    /// `web` may reach `db`; `db` asks.
    fn new(cluster: &Cluster) -> anyhow::Result<Self> {
        let client = cluster.any().client().with_token(&cluster.token);
        for (source, action) in [("web", "allow"), ("api", "deny"), ("*", "deny")] {
            let path = format!("/v1/connect/intentions/exact?source={source}&destination=db");
            let put = client.send("PUT", &path, Some(&json!({ "Action": action }))).map_err(anyhow::Error::msg)?;
            ensure!(put.status == 200, "an intention is refused: {} {}", put.status, put.body);
        }
        let made = json!({ "ServiceIdentities": [{ "ServiceName": "db" }] });
        let made = client.send("PUT", "/v1/acl/token", Some(&made)).map_err(anyhow::Error::msg)?.json();
        let token = made["SecretID"].as_str().context("a token has a secret")?.to_owned();
        cluster.wait_until_known(&token);
        let status = cluster.any().status(&cluster.token).map_err(anyhow::Error::msg)?;
        let domain = status["TrustDomain"].as_str().context("status names the trust domain")?;
        let body = json!({
            "Target": "db",
            "ClientCertURI": format!("spiffe://{domain}/ns/default/dc/dc1/svc/web"),
            "ClientCertSerial": "1f:2e:3d:4c:5b:6a:79:88:97:a6:b5:c4:d3:e2:f1:00:01:02:03:04",
        });
        Ok(Self { body: body.to_string(), token })
    }

    fn expect_allowed(&self, who: &str, address: SocketAddr) -> anyhow::Result<()> {
        let client = carrack_tests::http::Http::new(address).with_token(&self.token);
        let body = serde_json::from_str(&self.body)?;
        let allowed = wait::until(&format!("the {who} to allow"), || {
            let answer = client.send("POST", AUTHORIZE, Some(&body))?;
            wait::holds(answer.status == 200, || format!("{} {}", answer.status, answer.body))?;
            Ok(answer.json())
        });
        ensure!(allowed["Authorized"] == true, "the {who} denies: {allowed}");
        Ok(())
    }

    async fn round(
        &self,
        address: SocketAddr,
        path: &'static str,
        clients: usize,
        seconds: u64,
    ) -> anyhow::Result<Round> {
        let bytes = match path {
            LIVE => request("GET", LIVE, "", ""),
            path => request("POST", path, &self.token, &self.body),
        };
        http_load::round(&[address], clients, Duration::from_secs(seconds), move |_, _| bytes.clone()).await
    }
}

/// Times the decision on what an agent holds.
fn decide(sources: usize) -> anyhow::Result<Decided> {
    let target = Name::parse("target", "db")?;
    let names = (0..sources).map(|number| Party::parse("source", &format!("web-{number}")));
    let rows = names.map(|name| Ok(allow(name?, Party::Service(target.clone()))));
    let rows = IntentionsBySource::new(rows.collect::<anyhow::Result<Vec<Intention>>>()?);
    let trust_domain: TrustDomain = "bench.carrack".parse()?;
    let source = Name::parse("source", &format!("web-{}", sources / 2))?;
    let client = SpiffeId::service(trust_domain.clone(), Name::parse("datacenter", "dc1")?, source.clone());
    let asked = Connection { target: &target, client: &client, serial: Some(Serial([7; 20])), certificate: None };
    let default = DefaultPolicy::Acl(Action::Deny);
    let known = Known {
        trust_domain: &trust_domain,
        default,
        revocation: None,
        revoked_issuers: &RevokedIssuers::default(),
        now: Timestamp(1_800_000_000_000),
    };
    let decide = || authorize(black_box(&rows).about(black_box(&source)), black_box(&asked), black_box(&known));
    ensure!(decide().is_allowed, "the decision is an allow");
    let sample = |_| {
        let began = Instant::now();
        for _ in 0..DECISIONS_AT_ONCE {
            black_box(decide());
        }
        began.elapsed() / DECISIONS_AT_ONCE
    };
    Ok(Decided { sources, nanoseconds: Latencies::new((0..SAMPLES).map(sample).collect()) })
}

fn allow(source: Party, destination: Party) -> Intention {
    Intention {
        destination,
        source,
        effect: Effect::Action(Action::Allow),
        jwt: None,
        description: String::new(),
        meta: BTreeMap::new(),
        legacy_id: None,
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
        created: Revision(1),
        modified: Revision(1),
    }
}

impl Decided {
    fn nanoseconds(&self, percent: usize) -> f64 {
        self.nanoseconds.percentile_ms(percent) * 1e6
    }
}

impl Line {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    fn cpu_us(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.round.latencies.count().max(1) as f64
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "who": self.who,
            "path": self.path,
            "clients": self.round.clients,
            "per_second": self.round.rate(),
            "p50_ms": self.round.latencies.percentile_ms(50),
            "p99_ms": self.round.latencies.percentile_ms(99),
            "cpu_us": self.cpu_us(),
            "refused": self.round.refused.0,
            "first_refusal": self.round.refused.1,
        })
    }

    fn to_row(&self, limit: &Self) -> Vec<String> {
        vec![
            self.who.into(),
            self.path.into(),
            self.round.clients.to_string(),
            format!("{:.0}", self.round.rate()),
            format!("{:.2}", self.round.rate() / limit.round.rate()),
            format!("{:.3}", self.round.latencies.percentile_ms(50)),
            format!("{:.3}", self.round.latencies.percentile_ms(99)),
            format!("{:.1}", self.cpu_us()),
            self.round.refused.0.to_string(),
        ]
    }
}

#[expect(clippy::print_stdout, reason = "the result of a command")]
fn print(as_json: bool, decided: &[Decided], lines: &[Line]) -> anyhow::Result<()> {
    if as_json {
        let decided = decided
            .iter()
            .map(|one| json!({ "sources": one.sources, "p50_ns": one.nanoseconds(50), "p99_ns": one.nanoseconds(99) }));
        let figures = json!({
            "decisions": decided.collect::<Vec<_>>(),
            "rounds": lines.iter().map(Line::to_json).collect::<Vec<_>>(),
        });
        println!("{}", serde_json::to_string_pretty(&figures)?);
        return Ok(());
    }
    println!("the decision in process, on a destination with");
    for one in decided {
        println!("  {:>6} sources  p50 {:.0} ns, p99 {:.0} ns", one.sources, one.nanoseconds(50), one.nanoseconds(99));
    }
    let mut table = Table::new();
    table.set_header(["asked", "path", "clients", "/s", "/ limit", "p50 ms", "p99 ms", "CPU us", "refused"]);
    for pair in lines.chunks(2) {
        for line in pair {
            table.add_row(line.to_row(&pair[0]));
        }
    }
    println!("\n{table}");
    Ok(())
}
