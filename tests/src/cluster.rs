//! Servers of one datacenter, formed with the commands that the README shows.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    issuance::IssuanceLog,
    server::{Server, Start},
    wait,
    wan::Wan,
};

/// The names of the servers, in the order in which they join.
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// A datacenter of real servers.
pub struct Cluster {
    /// The servers, in the order in which they joined.
    pub servers: Vec<Server>,
    /// The secret of the management token.
    pub token: String,
    /// The tokens with which the servers after the first joined.
    pub join_tokens: Vec<String>,
    wan: Option<Wan>,
    directory: TempDir,
}

impl Cluster {
    /// A datacenter of `size` voters that all can issue.
    ///
    /// # Panics
    /// Panics if it does not form.
    #[track_caller]
    pub fn form(size: usize) -> Self {
        Self::form_with(size, &[])
    }

    /// The same, with further flags for each server.
    ///
    /// # Panics
    /// Panics if it does not form.
    #[track_caller]
    pub fn form_with(size: usize, flags: &[&str]) -> Self {
        Self::begin(size, flags, None, None)
    }

    /// The same as the primary of others, which reach it over this WAN.
    ///
    /// # Panics
    /// Panics if it does not form.
    #[track_caller]
    pub fn form_primary(size: usize, wan: &Wan) -> Self {
        Self::begin(size, &[], Some(wan.clone()), None)
    }

    /// A secondary of `size` voters, over the primary's WAN.
    ///
    /// # Panics
    /// Panics if it does not form.
    #[track_caller]
    pub fn form_secondary(size: usize, datacenter: &str, primary: &Self) -> Self {
        let token = primary.federation_token(datacenter);
        Self::begin(size, &["--datacenter", datacenter], primary.wan.clone(), Some((&token, &primary.token)))
    }

    /// `joins`: the federation token of a secondary, and the management token, which it will know.
    #[track_caller]
    fn begin(size: usize, flags: &[&str], wan: Option<Wan>, joins: Option<(&str, &str)>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let mut first = Server::new(NAMES[0], directory.path());
        first.advertised_wan = wan.as_ref().map(|wan| wan.before(first.wan));
        first.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        first.flags.push("--without-recovery".into());
        first.start(joins.map_or(Start::Bootstrap, |(token, _)| Start::BootstrapSecondary(token)));
        first.flags.pop();
        first.wait_until_ready();
        let token = joins.map_or_else(|| first_token(&first), |(_, management)| management.to_owned());
        let mut cluster = Self { servers: vec![first], token, join_tokens: Vec::new(), wan, directory };
        cluster.wait_until_known(&cluster.token);
        for name in &NAMES[1..size] {
            cluster.add(name);
        }
        cluster.wait_until_all_issue();
        cluster
    }

    /// Waits until every running server knows a token.
    ///
    /// # Panics
    /// Panics if one does not get there.
    #[track_caller]
    pub fn wait_until_known(&self, token: &str) {
        for server in self.servers.iter().filter(|server| server.is_running()) {
            let client = server.client().with_token(token);
            wait::until(&format!("{} to know a token", server.name), || client.read("/v1/acl/token/self?stale"));
        }
    }

    /// A federation token for a datacenter of this name.
    ///
    /// # Panics
    /// Panics if none is made.
    #[track_caller]
    pub fn federation_token(&self, datacenter: &str) -> String {
        let arguments = ["federation", "token", "--datacenter", datacenter, "--format", "json"];
        let made = wait::until("a federation token", || self.any().carrack(&self.token, &arguments).output_or_reason());
        let made: Value = serde_json::from_str(&made).expect("a federation token is JSON");
        made["Token"].as_str().expect("a federation token has its text").to_owned()
    }

    /// Adds a server, and waits until it votes.
    ///
    /// # Panics
    /// Panics if it does not.
    #[track_caller]
    pub fn add(&mut self, name: &str) -> &mut Server {
        self.start_joining(name);
        self.wait_until_voting(name);
        self.servers.last_mut().expect("it was just added")
    }

    /// Starts a new server with a join token; it is not waited for.
    ///
    /// # Panics
    /// Panics if no token is made.
    #[track_caller]
    pub fn start_joining(&mut self, name: &str) {
        let mut server = Server::new(name, self.directory.path());
        server.advertised_wan = self.wan.as_ref().map(|wan| wan.before(server.wan));
        server.flags = self.servers[0].flags.clone();
        let token = self.join_token(name);
        server.start(Start::Join(&token));
        self.join_tokens.push(token);
        self.servers.push(server);
    }

    /// A join token for a server of this name.
    ///
    /// # Panics
    /// Panics if none is made.
    #[track_caller]
    pub fn join_token(&self, name: &str) -> String {
        let made = wait::until("a join token", || {
            self.any().carrack(&self.token, &["token", "join", "--node", name, "--format", "json"]).output_or_reason()
        });
        let made: Value = serde_json::from_str(&made).expect("a join token is JSON");
        made["Token"].as_str().expect("a join token has its text").to_owned()
    }

    /// Some server that should answer.
    ///
    /// # Panics
    /// Panics if there is none.
    pub fn any(&self) -> &Server {
        self.servers.iter().find(|server| server.is_running()).expect("a server is running")
    }

    /// The server of this name.
    ///
    /// # Panics
    /// Panics if there is none.
    pub fn server(&mut self, name: &str) -> &mut Server {
        self.servers.iter_mut().find(|server| server.name == name).expect("there is a server of this name")
    }

    /// The name of the leader, once every running server agrees on it.
    ///
    /// # Panics
    /// Panics if they do not.
    #[track_caller]
    pub fn leader(&self) -> String {
        wait::until("one leader", || {
            let mut leaders = Vec::new();
            for server in self.servers.iter().filter(|server| server.is_running()) {
                let status = server.status(&self.token)?;
                let leader = status["Leader"]["NodeName"].as_str();
                leaders.push(leader.ok_or_else(|| format!("{} knows no leader", server.name))?.to_owned());
            }
            leaders.dedup();
            match leaders.as_slice() {
                [leader] => self.started(leader).map(|()| leader.clone()),
                _ => Err(format!("{leaders:?}")),
            }
        })
    }

    fn started(&self, name: &str) -> Result<(), String> {
        let is_started = self.servers.iter().any(|server| server.name == name && server.is_running());
        wait::holds(is_started, || format!("{name} leads no more"))
    }

    /// The names of the running servers that do not lead.
    ///
    /// # Panics
    /// Panics if there is no leader.
    #[track_caller]
    pub fn followers(&self) -> Vec<String> {
        let leader = self.leader();
        let started = self.servers.iter().filter(|server| server.is_running() && server.name != leader);
        started.map(|server| server.name.clone()).collect()
    }

    /// Waits until a server votes.
    ///
    /// # Panics
    /// Panics if it does not, or ends.
    #[track_caller]
    pub fn wait_until_voting(&mut self, name: &str) {
        wait::until(&format!("{name} to vote"), || {
            if let Some(status) = self.server(name).ended() {
                panic!("{name} ended with {status}\n{}", self.server(name).log_tail());
            }
            let status = self.servers[0].status(&self.token)?;
            let members = status["Members"].as_array().ok_or("no members are shown")?;
            let is_voting = members.iter().any(|member| member["NodeName"] == name && member["Voter"] == true);
            wait::holds(is_voting, || format!("{members:?}"))
        });
    }

    /// Waits until each running server has an issuer of its own and knows it.
    ///
    /// # Panics
    /// Panics if one does not get there.
    #[track_caller]
    pub fn wait_until_all_issue(&self) {
        for server in self.servers.iter().filter(|server| server.is_running()) {
            wait::until(&format!("{} to issue", server.name), || {
                let status = server.status(&self.token)?;
                let issuers = status["Ca"]["Issuers"].as_array().ok_or("no issuers are shown")?;
                let has_issuer = issuers.iter().any(|issuer| issuer["NodeName"] == server.name.as_str());
                wait::holds(has_issuer, || status["Ca"].to_string())
            });
        }
    }

    /// Waits until every running server has applied what the leader had committed when the call began.
    ///
    /// # Panics
    /// Panics if one does not get there.
    #[track_caller]
    pub fn wait_until_caught_up(&self) {
        let leader = self.leader();
        let leading = self.servers.iter().find(|server| server.name == leader).expect("the leader is one of them");
        let committed = wait::until("the leader's status", || leading.status(&self.token));
        let committed = committed["CommittedIndex"].as_u64().expect("an index is a number");
        for server in self.servers.iter().filter(|server| server.is_running()) {
            wait::until(&format!("{} to catch up", server.name), || {
                let applied = server.status(&self.token)?["AppliedIndex"].as_u64().unwrap_or_default();
                wait::holds(applied >= committed, || format!("{applied} of {committed}"))
            });
        }
    }

    /// Ends every process at once, as a power failure would.
    pub fn kill_all(&mut self) {
        for server in self.servers.iter().filter(|server| server.is_started()) {
            server.signal(Signal::KILL);
        }
        for server in &mut self.servers {
            server.kill();
        }
    }

    /// The issuance log of each server, which all must be the same.
    ///
    /// # Panics
    /// Panics if two servers that have applied the same entries hold different logs.
    #[track_caller]
    pub fn issuance_logs(&self) -> Vec<IssuanceLog> {
        self.wait_until_caught_up();
        self.wait_until_equal();
        let logs: Vec<IssuanceLog> = self.servers.iter().map(|server| IssuanceLog::of(server, &self.token)).collect();
        for (log, server) in logs.iter().zip(&self.servers) {
            assert!(*log == logs[0], "{} and {} hold different issuance logs", server.name, self.servers[0].name);
        }
        logs
    }

    /// Waits for a moment at which every server has applied the same entry, and compares their heads.
    #[track_caller]
    fn wait_until_equal(&self) {
        let heads = wait::until("every server to have applied the same entry", || {
            let statuses: Result<Vec<Value>, String> =
                self.servers.iter().map(|server| server.status(&self.token)).collect();
            let statuses = statuses?;
            let indexes: Vec<&Value> = statuses.iter().map(|status| &status["AppliedIndex"]).collect();
            let are_equal = indexes.iter().all(|index| *index == indexes[0]);
            wait::holds(are_equal, || format!("{indexes:?}"))?;
            let head = |status: &Value| (status["IssuanceHead"].clone(), status["IssuanceCount"].clone());
            Ok(statuses.iter().map(head).collect::<Vec<_>>())
        });
        assert!(heads.iter().all(|head| *head == heads[0]), "the heads differ at the same entry: {heads:?}");
    }

    /// The time until a leaf can be had again, from now.
    ///
    /// # Panics
    /// Panics if none can be had.
    #[track_caller]
    pub fn time_until_issuing(&self, service: &str) -> Duration {
        let start = wait::now();
        let path = format!("/v1/agent/connect/ca/leaf/{service}");
        wait::until("a leaf", || self.any().client().with_token(&self.token).read(&path));
        start.elapsed()
    }
}

#[track_caller]
fn first_token(server: &Server) -> String {
    let made = wait::until("the first token", || {
        server.carrack("", &["acl", "bootstrap", "--format", "json"]).output_or_reason()
    });
    let made: Value = serde_json::from_str(&made).expect("the first token is JSON");
    made["SecretID"].as_str().expect("the first token has a secret").to_owned()
}
