//! The operator: forms the datacenters, adds and removes servers, joins again those that lost their data, hands leadership over,
//! takes snapshots, halts. At the end he proves that every datacenter reads and writes.

mod life;

use std::{sync::Arc, time::Duration};

use carrack::{
    api::http::span,
    provider::builtin::BUILTIN,
    server::{agent_token::AgentTokenText, federation_token::FederationTokenText, join_token::JoinTokenText},
};
use carrack_authority::{issuer::IssuerPhase, root::Ca, x509::pem};
use futures::future::join_all;
use rand::RngExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{ANSWER_WITHIN, LOOK, OPERATOR, any_server, issue::Asked};
use crate::{
    client::{Answer, Call, Client},
    crypto::outside::OUTSIDE,
    faults::{Action, RotatedKey, Target},
    invariants::seen::{Seen, Told},
    marks::Mark,
    random::Stream,
    trace::{Detail, Kind},
    world::{
        PRIMARY, datacenter_name,
        server::Server,
        shared::{Job, Order, Shared, Stage},
    },
};

/// How long the operator tries one thing before he gives it up.
const JOB_WITHIN: Duration = Duration::from_secs(90);
/// How long a server may take to become a voter.
const JOINED_WITHIN: Duration = Duration::from_secs(60);
/// How a server refuses what cannot be in the state that it is in: it is not asked again.
const IS_REFUSED: [u16; 3] = [403, 404, 409];
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(300);

pub(super) async fn run(shared: Arc<Shared>) -> turmoil::Result {
    let mut operator = Operator { clients: Vec::new(), random: shared.seed.stream(OPERATOR), shared };
    operator.form().await?;
    operator.work().await
}

struct Operator {
    shared: Arc<Shared>,
    /// One for each datacenter: it trusts the server CA there.
    clients: Vec<Client>,
    random: Stream,
}

impl Operator {
    /// Until when he tries a thing that he begins now.
    fn until_given_up(&self) -> Instant {
        Instant::now() + JOB_WITHIN * self.shared.scenario.slowness()
    }

    async fn form(&mut self) -> turmoil::Result {
        let first = self.begin(PRIMARY).await?;
        let answer = self.clients[PRIMARY].call(&first.host, put("/v1/acl/bootstrap", None)).await?;
        let secret =
            answer.json()["SecretID"].as_str().ok_or_else(|| format!("bootstrap: {}", answer.text()))?.to_owned();
        self.shared.saw(Seen::Told(Told::secret("the operator's token", &secret)));
        self.clients[PRIMARY].set_token(Some(secret.clone()));
        self.shared.set_operator_token(secret);
        self.shared.book().trust_domain = first.context().map(|context| context.identity.trust_domain.clone());
        self.join_others(PRIMARY).await?;
        for number in 0..self.shared.scenario.identities {
            self.make_service_token(&format!("service-{number}")).await?;
        }
        for secondary in 1..self.shared.scenario.datacenters() {
            self.attach(secondary).await?;
        }
        for datacenter in 0..self.shared.scenario.datacenters() {
            while !self.all_issue(datacenter) {
                sleep(LOOK).await;
            }
            tokio::task::spawn_local(life::prove(self.shared.clone(), datacenter));
        }
        self.join_agents().await?;
        self.shared.book().is_formed = true;
        self.shared.mark(Mark::Formed);
        Ok(())
    }

    /// Waits until the first server of a datacenter has begun, and learns its server CA.
    async fn begin(&mut self, datacenter: usize) -> Result<Arc<Server>, String> {
        let first = self.shared.servers_of(datacenter).next().ok_or("a datacenter has no server")?.clone();
        while first.context().is_none_or(|context| context.replica.state().state.roots(Ca::Mesh).active().is_none()) {
            sleep(LOOK).await;
        }
        let context = first.context().ok_or("the first server has gone while its datacenter forms")?;
        let state = context.replica.state().state.clone();
        let roots = state.roots(Ca::Server).bundle();
        let roots: Vec<_> = roots.iter().map(|root| root.made.certificate.clone()).collect();
        let server_ca = pem::encode_certificates(&roots);
        self.clients.push(Client::new(&self.shared, &server_ca, self.shared.operator_token()));
        self.shared.set_server_ca(datacenter, server_ca);
        Ok(first)
    }

    /// Creates a secondary with a federation token of the primary.
    async fn attach(&mut self, secondary: usize) -> turmoil::Result {
        let (path, body) = ("/v1/carrack/federation/token", json!({"Datacenter": datacenter_name(secondary)}));
        let deadline = self.until_given_up();
        let answer = self.until_done(PRIMARY, deadline, "PUT", path, Some(body)).await?;
        let token: FederationTokenText = answer.json()["Token"].as_str().unwrap_or_default().parse()?;
        let (what, bytes) = ("a federation token".to_owned(), token.secret.to_vec());
        let text = token.expose_text().to_string();
        self.shared.saw(Seen::Told(Told::SecretLearnt { what, bytes, text }));
        let first = self.shared.servers_of(secondary).next().ok_or("a datacenter has no server")?.clone();
        first.will_join_primary(token);
        self.shared.order(Order::Start(first.host.clone()));
        self.begin(secondary).await?;
        self.join_others(secondary).await?;
        Ok(())
    }

    async fn join_others(&mut self, datacenter: usize) -> Result<(), String> {
        let members = self.shared.scenario.servers_of(datacenter);
        let others: Vec<Arc<Server>> = self.shared.servers_of(datacenter).take(members).skip(1).cloned().collect();
        for server in &others {
            let deadline = self.until_given_up();
            self.join(server, deadline).await?;
        }
        Ok(())
    }

    /// Gives every agent its token, and waits until each has joined.
    async fn join_agents(&mut self) -> Result<(), String> {
        for agent in self.shared.agents.values().cloned().collect::<Vec<_>>() {
            let (path, body) = ("/v1/carrack/agent-token", json!({"NodeName": agent.name}));
            let deadline = self.until_given_up();
            let answer = self.until_done(agent.datacenter, deadline, "PUT", path, Some(body)).await?;
            let token: AgentTokenText =
                answer.json()["Token"].as_str().unwrap_or_default().parse().map_err(|error| format!("{error}"))?;
            let (what, bytes) = ("an agent token".to_owned(), token.secret.to_vec());
            let text = token.expose_text().to_string();
            self.shared.saw(Seen::Told(Told::SecretLearnt { what, bytes, text }));
            agent.will_join(token);
            self.shared.order(Order::Start(agent.host.clone()));
            while agent.knows().is_none() {
                sleep(LOOK).await;
            }
        }
        Ok(())
    }

    fn all_issue(&self, datacenter: usize) -> bool {
        let servers = self.shared.members(datacenter);
        servers.iter().all(|server| {
            server.context().is_some_and(|context| {
                let state = context.replica.state();
                let live = state.state.issuers().filter(|issuer| issuer.phase == IssuerPhase::Live).count();
                let voters = context.replica.subscribe().borrow().membership.voters.len();
                voters == servers.len() && live >= servers.len() && context.desk.issuer().is_some()
            })
        })
    }

    async fn make_service_token(&mut self, service: &str) -> Result<(), String> {
        let body = json!({"Description": service, "ServiceIdentities": [{"ServiceName": service}]});
        let deadline = self.until_given_up();
        let answer = self.until_done(PRIMARY, deadline, "PUT", "/v1/acl/token", Some(body)).await?;
        let secret = answer.json()["SecretID"].as_str().ok_or("a token has no secret")?.to_owned();
        self.shared.saw(Seen::Told(Told::secret("a service's token", &secret)));
        self.shared.book().service_tokens.insert(service.to_owned(), secret);
        Ok(())
    }

    async fn work(&mut self) -> turmoil::Result {
        loop {
            sleep(LOOK).await;
            while let Some(job) = self.shared.next_job() {
                let text = format!("{job:?}");
                let done = self.execute(job).await;
                let (detail, text) = match &done {
                    Ok(()) => (Detail::None, format!("{text}: done")),
                    Err(reason) => (Detail::Failed, format!("{text}: given up: {reason}")),
                };
                self.shared.note_detail(OPERATOR, Kind::Client, detail, text);
                self.shared.count_operation("operator", done.is_ok());
                self.shared.job_done();
            }
        }
    }

    async fn execute(&mut self, job: Job) -> Result<(), String> {
        let deadline = self.until_given_up();
        let (is_late, is_ending) = (self.shared.stage() > Stage::Living, self.shared.stage() > Stage::Alone);
        match job {
            Job::Do(..) if is_late => Err("the world is coming to rest".into()),
            Job::Rejoin(host) if is_ending && !self.shared.servers[&host].is_core() => {
                Err("it stays away for ever".into())
            }
            Job::Do(at, Action::AddServer) => self.add_server(at, deadline).await,
            Job::Do(at, Action::RemoveServer(target)) => self.remove_server(at, target, deadline).await,
            Job::Do(at, Action::Transfer(number)) => self.transfer(at, number, deadline).await,
            Job::Do(at, Action::Snapshot) => self.snapshot(at).await,
            Job::Do(at, Action::Halt) => self.halt(at, true, deadline).await,
            Job::Undo(at, Action::Halt) => self.halt(at, false, deadline).await,
            Job::Do(at, Action::LimitRate(rate)) => self.limit_rate(at, rate, deadline).await,
            Job::Undo(at, Action::LimitRate(_)) => {
                self.limit_rate(at, self.shared.scenario.ca.csr_max_per_second, deadline).await
            }
            Job::Do(at, Action::LeafHours(hours)) => {
                self.set_leaf_life(at, Duration::from_secs(3600) * hours, deadline).await
            }
            Job::Undo(at, Action::LeafHours(_)) => {
                self.set_leaf_life(at, self.shared.scenario.ca.leaf_ttl, deadline).await
            }
            Job::Do(at, Action::Herd(size)) => self.herd(at, size).await,
            Job::Do(at, Action::Rotate(key)) => self.rotate(at, key, deadline).await,
            Job::Do(at, Action::RotateWithoutBridge(key)) => self.rotate_without_bridge(at, key, deadline).await,
            Job::Do(at, Action::RotateToOtherProvider(key)) => self.rotate_to_other_provider(at, key, deadline).await,
            Job::Do(at, Action::RollBack) => self.roll_back(at, deadline).await,
            Job::Undo(..) => Ok(()),
            Job::Rejoin(host) => {
                let server = self.shared.servers[&host].clone();
                let done = self.rejoin(&server, deadline).await;
                server.set_rejoining(false);
                done
            }
        }
    }

    async fn add_server(&mut self, datacenter: usize, deadline: Instant) -> Result<(), String> {
        let spare = self.shared.servers_of(datacenter).find(|server| !server.belongs() && !server.is_up()).cloned();
        let spare = spare.ok_or("no host is free")?;
        self.join(&spare, deadline).await?;
        self.shared.mark(Mark::MembersChanged);
        Ok(())
    }

    /// Removes a server where at least three stay that are sound: anything else would be the operator's own outage.
    async fn remove_server(&mut self, datacenter: usize, target: Target, deadline: Instant) -> Result<(), String> {
        let members = self.shared.members(datacenter);
        if members.len() < 4 || members.iter().any(|server| server.is_damaged() || server.is_rejoining()) {
            return Err("too few sound servers would stay".into());
        }
        let number = match target {
            Target::Leader => 0,
            Target::Follower(number) | Target::Any(number) => number,
        };
        let server = members[number % members.len()].clone();
        self.remove(&server, deadline).await?;
        self.shared.order(Order::Kill(server.host.clone()));
        self.shared.mark(Mark::MembersChanged);
        Ok(())
    }

    async fn remove(&mut self, server: &Server, deadline: Instant) -> Result<(), String> {
        let path = format!("/v1/carrack/members/{}", server.name);
        loop {
            let is_good = |answer: &Answer| answer.is_success() || answer.status == 404;
            let answer = self.until_answered(server.datacenter, deadline, "DELETE", &path, None, is_good).await?;
            if answer.status != 202 {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("{} is not removed yet", server.host));
            }
        }
        server.leaves();
        Ok(())
    }

    async fn rejoin(&mut self, server: &Arc<Server>, deadline: Instant) -> Result<(), String> {
        self.remove(server, deadline).await?;
        self.join(server, deadline).await?;
        self.shared.mark(Mark::RejoinedUnderNewId);
        Ok(())
    }

    /// Makes a join token and starts the server with it on an empty disk; done when it votes.
    async fn join(&mut self, server: &Arc<Server>, deadline: Instant) -> Result<(), String> {
        let slept = server.clock.skipped();
        let body = json!({"NodeName": server.name});
        let path = "/v1/carrack/join-token";
        let answer = self.until_done(server.datacenter, deadline, "PUT", path, Some(body)).await?;
        let token: JoinTokenText =
            answer.json()["Token"].as_str().unwrap_or_default().parse().map_err(|error| format!("{error}"))?;
        let (what, bytes, text) = ("a join token".to_owned(), token.secret.to_vec(), token.expose_text().to_string());
        self.shared.saw(Seen::Told(Told::SecretLearnt { what, bytes, text }));
        self.shared.order(Order::Wipe(server.host.clone()));
        server.will_join(token.clone(), slept);
        self.shared.order(Order::Start(server.host.clone()));
        let deadline = Instant::now() + JOINED_WITHIN * self.shared.scenario.slowness();
        while !is_voter(&self.shared, server) {
            let is_lost = self.shared.stage() > Stage::Alone && !server.is_core();
            if Instant::now() > deadline || is_lost {
                return Err(format!("{} does not become a voter", server.host));
            }
            sleep(LOOK).await;
        }
        if server.datacenter == PRIMARY {
            self.shared.book().used_join_tokens.push(token);
        }
        Ok(())
    }

    async fn transfer(&mut self, datacenter: usize, number: usize, deadline: Instant) -> Result<(), String> {
        let leader = self.shared.oldest_leader(datacenter).and_then(|host| self.shared.servers[&host].context());
        let leader = leader.ok_or("nobody leads")?;
        let voters: Vec<_> = leader.replica.subscribe().borrow().membership.voters.iter().copied().collect();
        let to = *voters.get(number % voters.len().max(1)).ok_or("nobody votes")?;
        leader
            .replica
            .transfer_leadership(to, deadline.min(Instant::now() + ANSWER_WITHIN))
            .await
            .map_err(|error| error.to_string())?;
        self.shared.mark(Mark::LeadershipTransferred);
        Ok(())
    }

    async fn snapshot(&mut self, datacenter: usize) -> Result<(), String> {
        let contexts: Vec<_> = self.shared.servers_of(datacenter).filter_map(|server| server.context()).collect();
        for context in contexts {
            context.replica.snapshot_now().await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn halt(&mut self, datacenter: usize, is_halted: bool, deadline: Instant) -> Result<(), String> {
        if !is_halted {
            self.shared.saw(Seen::Told(Told::ResumeAsked { datacenter }));
        }
        self.until_done(datacenter, deadline, "PUT", "/v1/carrack/halt", Some(json!({"Halted": is_halted}))).await?;
        self.shared.saw(Seen::Told(Told::HaltAcknowledged { datacenter, is_halted }));
        if is_halted {
            self.shared.mark(Mark::Halted);
        }
        Ok(())
    }

    /// Begins a rotation, unless one is under way or nothing may be issued now: those are answers, too.
    async fn rotate(&mut self, datacenter: usize, key: RotatedKey, deadline: Instant) -> Result<(), String> {
        if self.random.random_ratio(1, 3) {
            return self.rotate_by_configuration(datacenter, key, deadline).await;
        }
        self.begin_rotation(datacenter, json!({"KeyType": key.as_str()}), deadline).await
    }

    async fn rotate_without_bridge(
        &mut self,
        datacenter: usize,
        key: RotatedKey,
        deadline: Instant,
    ) -> Result<(), String> {
        let body = json!({"KeyType": key.as_str(), "ForceWithoutCrossSigning": true});
        self.begin_rotation(datacenter, body, deadline).await
    }

    async fn rotate_to_other_provider(
        &mut self,
        datacenter: usize,
        key: RotatedKey,
        deadline: Instant,
    ) -> Result<(), String> {
        let status = self.until_done(datacenter, deadline, "GET", "/v1/carrack/ca", None).await?.json();
        let roots = status["Roots"].as_array().ok_or("there are no roots")?;
        let active = roots.iter().find(|root| root["Phase"] == "active").ok_or("no root is active")?;
        let provider = if active["Provider"] == OUTSIDE { BUILTIN } else { OUTSIDE };
        self.begin_rotation(datacenter, json!({"KeyType": key.as_str(), "Provider": provider}), deadline).await
    }

    async fn begin_rotation(&mut self, datacenter: usize, body: Value, deadline: Instant) -> Result<(), String> {
        let is_decided = |answer: &Answer| answer.is_success() || IS_REFUSED.contains(&answer.status);
        let path = "/v1/carrack/ca/rotation";
        let answer = self.until_answered(datacenter, deadline, "PUT", path, Some(body), is_decided).await?;
        if answer.is_success() { Ok(()) } else { Err(answer.text()) }
    }

    /// The same by Consul's way: another kind of key is another root. Where it is of that kind already, nothing begins.
    async fn rotate_by_configuration(
        &mut self,
        datacenter: usize,
        key: RotatedKey,
        deadline: Instant,
    ) -> Result<(), String> {
        let path = &format!("/v1/connect/ca/configuration?dc={}", datacenter_name(PRIMARY));
        let mut configuration = self.until_done(datacenter, deadline, "GET", path, None).await?.json();
        let (kind, bits) = key.in_consuls_words();
        configuration["Config"]["PrivateKeyType"] = json!(kind);
        configuration["Config"]["PrivateKeyBits"] = json!(bits);
        let is_decided = |answer: &Answer| answer.is_success() || IS_REFUSED.contains(&answer.status);
        let answer = self.until_answered(datacenter, deadline, "PUT", path, Some(configuration), is_decided).await?;
        if answer.is_success() { Ok(()) } else { Err(answer.text()) }
    }

    async fn roll_back(&mut self, datacenter: usize, deadline: Instant) -> Result<(), String> {
        let status = self.until_done(datacenter, deadline, "GET", "/v1/carrack/ca", None).await?.json();
        let known = [&status["Rotation"]["ID"], &status["LastRotation"]["ID"]];
        let id = known.into_iter().find(|id| !id.is_null()).ok_or("there was no rotation")?.clone();
        let is_decided = |answer: &Answer| answer.is_success() || IS_REFUSED.contains(&answer.status);
        let (path, body) = ("/v1/carrack/ca/rollback", Some(json!({ "ID": id })));
        let answer = self.until_answered(datacenter, deadline, "PUT", path, body, is_decided).await?;
        if answer.is_success() { Ok(()) } else { Err(answer.text()) }
    }

    async fn limit_rate(&mut self, datacenter: usize, rate: u32, deadline: Instant) -> Result<(), String> {
        self.configure(datacenter, "CSRMaxPerSecond", json!(rate), deadline).await
    }

    async fn set_leaf_life(&mut self, datacenter: usize, life: Duration, deadline: Instant) -> Result<(), String> {
        self.configure(datacenter, "LeafCertTTL", json!(span::format(life)), deadline).await
    }

    /// So many requests at once, each on a connection of its own; what is refused for its number says so.
    async fn herd(&mut self, datacenter: usize, size: u32) -> Result<(), String> {
        let shared = self.shared.clone();
        let tokens: Vec<(String, String)> = shared.book().service_tokens.clone().into_iter().collect();
        let server_ca = shared.server_ca(datacenter).ok_or("the datacenter has not begun")?;
        let host = any_server(&shared, datacenter, &mut self.random);
        let requests = (0..size).zip(tokens.iter().cycle()).map(|(number, (service, token))| {
            let mut client = Client::new(&shared, &server_ca, Some(token.clone()));
            let (service, host) = (service.clone(), host.clone());
            let asked = Asked::one_of_a_herd(&shared, datacenter, &service, number);
            let csr = pem::encode(pem::CERTIFICATE_REQUEST, &asked.csr());
            let body = json!({"Csr": csr, "Slot": format!("herd-{number}")});
            async move { (asked, client.call(&host, put("/v1/carrack/sign", Some(body))).await) }
        });
        for (asked, answer) in join_all(requests).await {
            let is_success = answer.as_ref().is_ok_and(Answer::is_success);
            match answer {
                Ok(answer) if is_success && !asked.is_overslept(&shared) => {
                    drop(asked.receive(&shared, OPERATOR, &answer));
                }
                Ok(answer) if answer.status == 429 => shared.mark(Mark::RateLimited),
                _ => {}
            }
            shared.count_operation("issue in a herd", is_success);
        }
        Ok(())
    }

    /// The CA configuration is that of all datacenters, whichever of them is asked.
    async fn configure(
        &mut self,
        datacenter: usize,
        name: &str,
        value: Value,
        deadline: Instant,
    ) -> Result<(), String> {
        // A secondary's index is none of the primary's, which alone is compared.
        let path = &format!("/v1/connect/ca/configuration?dc={}", datacenter_name(PRIMARY));
        self.shared.book().configured.set(name, None);
        while Instant::now() < deadline {
            let mut configuration = self.until_done(datacenter, deadline, "GET", path, None).await?.json();
            configuration["Config"][name] = value.clone();
            let is_decided = |answer: &Answer| answer.is_success() || answer.status == 409;
            let body = Some(configuration);
            let answer = self.until_answered(datacenter, deadline, "PUT", path, body, is_decided).await?;
            if answer.is_success() {
                self.shared.book().configured.set(name, Some(value));
                return Ok(());
            }
        }
        Err("the configuration is changed by others again and again".into())
    }

    async fn until_done(
        &mut self,
        datacenter: usize,
        deadline: Instant,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, String> {
        self.until_answered(datacenter, deadline, method, path, body, Answer::is_success).await
    }

    /// Asks one server after the other until one gives a good answer.
    async fn until_answered(
        &mut self,
        datacenter: usize,
        deadline: Instant,
        method: &str,
        path: &str,
        body: Option<Value>,
        is_good: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, String> {
        loop {
            let failure = match self.call(datacenter, method, path, body.clone()).await {
                Ok(answer) if is_good(&answer) => return Ok(answer),
                Ok(answer) if answer.status == 400 => return Err(format!("{method} {path}: 400 {}", answer.text())),
                Ok(answer) => format!("{method} {path}: {} {}", answer.status, answer.text()),
                Err(reason) => reason,
            };
            if Instant::now() > deadline {
                return Err(failure);
            }
            sleep(PAUSE).await;
        }
    }

    async fn call(
        &mut self,
        datacenter: usize,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, String> {
        let host = any_server(&self.shared, datacenter, &mut self.random);
        let call = Call { method, path, body, within: ANSWER_WITHIN * 4 };
        self.clients[datacenter].call(&host, call).await.map_err(|error| format!("{host}: {error}"))
    }
}

fn put(path: &str, body: Option<Value>) -> Call<'_> {
    Call { method: "PUT", path, body, within: ANSWER_WITHIN }
}

fn is_voter(shared: &Shared, server: &Server) -> bool {
    let Some(node) = server.context().map(|context| context.identity.node) else { return false };
    shared.settled_voters(server.datacenter).is_some_and(|voters| voters.contains(&node))
}
