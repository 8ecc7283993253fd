//! Commands drawn from numbers: mostly ones that fit the state, often with one field that does not.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    Command, State,
    acl::{PolicyId, RoleId, ServiceIdentity, Token},
    agent::{AgentToken, LAGGING_NAMED_MAX, LaggingAgents},
    ca_config::CaConfig,
    id::{FeatureLevel, NodeId, Revision, Serial},
    intention::{Action, Effect, Intention},
    issuance::{Grant, Holder, Issuance, Keeper, Review},
    issuer::{Issuer, IssuerPhase, SignedIssuer},
    member::{AdmitServer, JoinToken, ServerCertificate, ServerCertificateRequest},
    root::{Bridge, Ca, NewRoot, Root, RootPhase, SealedKey},
    rotation::{RotationControl, WantedRoot},
    spiffe::Identity,
    time::Timestamp,
};
use uuid::Uuid;

use crate::world::*;

const SERVERS: [&str; 4] = ["a", "b", "c", "d"];
const SERVICES: [&str; 3] = ["web", "db", "cache"];
const PARTIES: [&str; 4] = ["web", "db", "cache", "*"];
const ROOTS: [&str; 4] = ["root 1", "root 2", "root 3", "server root"];

/// Draws choices from given numbers; when they run out, the first choice.
pub(crate) struct Chooser<'a> {
    numbers: &'a [u16],
    next: usize,
    /// The log's time once the entry is applied.
    now: Timestamp,
}

impl<'a> Chooser<'a> {
    pub(crate) fn new(numbers: &'a [u16]) -> Self {
        Self { numbers, next: 0, now: Timestamp::EPOCH }
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let number = self.numbers.get(self.next).copied().unwrap_or_default();
        self.next += 1;
        usize::from(number) % limit.max(1)
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// Replaces a value once in a while.
    fn spoil<T: Clone>(&mut self, value: &mut T, bad: &[T]) {
        if self.once_in(24) {
            *value = self.of(bad);
        }
    }

    /// The stamp of the next entry.
    pub(crate) fn stamp(&mut self, now: Timestamp) -> Timestamp {
        let stamp = match self.below(128) {
            0..110 => now.plus(Duration::from_secs(self.below(5) as u64)),
            110..120 => now.plus(HOUR),
            120..123 => now.plus(DAY),
            123..126 => now.minus(HOUR),
            126 => now.plus(DAY * 200),
            _ => self.of(&[Timestamp(0), Timestamp(u64::MAX), now, now]),
        };
        self.now = now.max(stamp);
        stamp
    }

    pub(crate) fn proposer(&mut self) -> NodeId {
        NodeId(if self.once_in(12) { self.below(5) as u64 } else { 1 })
    }

    pub(crate) fn command(&mut self, state: &State) -> Command {
        if state.cluster().is_none() {
            return self.bootstrap();
        }
        match self.below(44) {
            0..17 => Command::RecordIssuance(self.issuance(state)),
            17 => Command::SetHalt { halted: self.once_in(10) },
            18..21 => self.token(state),
            21 => Command::DeleteToken { accessor: accessor(self.below(6) as u128) },
            22 => self.policy(state),
            23 => Command::DeletePolicy { policy: policy_id(self.below(3) as u128) },
            24 => self.bootstrap_acl(state),
            25 => Command::CreateJoinToken(self.join_token()),
            26..28 => Command::AdmitServer(Box::new(self.admission(state))),
            28 => self.server_certificate(state),
            29 if self.once_in(2) => self.server(),
            29 => Command::RequestRemoval { node: NodeId(self.below(5) as u64) },
            30 => self.removal(state),
            31 if state.roots(Ca::Mesh).active().is_some() => self.rotation(state),
            31..33 => self.publish(state),
            33 => self.activate(state),
            34 => self.reseal(state),
            35 => self.issuer_request(state),
            36..38 => self.signed_issuer(state),
            38 => self.configuration(state),
            39..41 => self.intention(state),
            41 => self.no_intention(state),
            42 => self.service_intentions(state),
            _ => self.rare(),
        }
    }

    fn bootstrap(&mut self) -> Command {
        let mut bootstrap = bootstrap();
        self.spoil(&mut bootstrap.member.node, &[NodeId(0), NodeId(u64::MAX), NodeId(1 << 32)]);
        self.spoil(&mut bootstrap.member.supports, &[FeatureLevel(0), FeatureLevel(u32::MAX)]);
        self.spoil(&mut bootstrap.feature_level, &[FeatureLevel(0), FeatureLevel(u32::MAX)]);
        self.spoil(&mut bootstrap.recovery, &[None, Some("x".repeat(1 << 12))]);
        self.spoil(&mut bootstrap.server_root.not_after, &[Timestamp(0), Timestamp(u64::MAX)]);
        self.spoil(&mut bootstrap.cluster, &[Uuid::from_u128(8)]);
        self.spoil(&mut bootstrap.config, &[self::config(Duration::MAX), self::config(Duration::ZERO)]);
        Command::Bootstrap(Box::new(bootstrap))
    }

    fn rare(&mut self) -> Command {
        let (expected, level) = (FeatureLevel(self.of(&[0, 1, 2, 3])), FeatureLevel(self.of(&[0, 1, 2, 3])));
        let raise = Command::RaiseFeatureLevel { expected, level };
        let begin = self.bootstrap();
        let (secret, node) = (digest(self.of(&["agent 1", "agent 2"])), name(self.of(&["n1", "n2"])));
        let mut expires_at = self.now.plus(DAY);
        self.spoil(&mut expires_at, &[Timestamp(0), Timestamp(u64::MAX)]);
        let (consumed, created) = (None, Revision(0));
        let token = AgentToken { secret, node: node.clone(), expires_at, consumed, created };
        let admit = Command::AdmitAgent { secret, node: node.clone(), public_key: digest(self.of(&["x", "y"])) };
        let expected = self.expected(None);
        let remove = Command::RemoveAgent { node, expected };
        let acknowledge = self.acknowledgement();
        let issuer = key_id(self.of(&["issuer a", "issuer b", "x"]));
        let revoke = Command::RevokeIssuer { issuer, reason: String::new(), is_forced: self.once_in(2) };
        self.of(&[raise, begin, Command::CreateAgentToken(token), admit, remove, acknowledge, revoke])
    }

    fn acknowledgement(&mut self) -> Command {
        let (node, bundle) = (NodeId(self.below(5) as u64), Revision(self.below(40) as u64));
        let count = self.below(3) as u64;
        let named = (0..count).map(|number| name(&format!("n{number}"))).collect();
        let mut lagging = LaggingAgents { count, named };
        self.spoil(&mut lagging.named, &[vec![name("n1"); 4], vec![name("n1"); LAGGING_NAMED_MAX + 1]]);
        Command::AcknowledgeBundle { node, bundle, lagging }
    }

    fn issuance(&mut self, state: &State) -> Issuance {
        let now = self.now;
        let service_name = self.of(&SERVICES);
        let mut it = issuance(self.below(200) as u64, service_name, now);
        let active = state.roots(Ca::Mesh).active().map(|root| root.made.id);
        let is_usable = |issuer: &Issuer| issuer.phase == IssuerPhase::Live && Some(issuer.root) == active;
        let any = self.once_in(8);
        let issuers = state.issuers().filter(|issuer| any || is_usable(issuer));
        let issuers: Vec<_> = issuers.map(|issuer| (issuer.id, issuer.not_before)).collect();
        if !issuers.is_empty() {
            let (issuer, not_before) = self.of(&issuers);
            it.issuer = issuer;
            it.not_before = it.not_before.max(not_before);
        }
        if self.once_in(3) {
            it.grant = Arc::new(Grant::Token(accessor(self.below(6) as u128)));
        }
        if self.once_in(2) {
            let keepers = [Keeper::Server(NodeId(1)), Keeper::Login(accessor(1)), Keeper::Agent(name("n1"))];
            it.holder = Arc::new(Holder { keeper: self.of(&keepers), slot: self.of(&["", "one"]).into() });
        }
        let times = [Timestamp(0), Timestamp(u64::MAX), now, now.plus(DAY * 4), now.minus(DAY)];
        self.spoil(&mut it.not_before, &times);
        self.spoil(&mut it.not_after, &times);
        self.spoil(&mut it.not_after, &[now.plus(HOUR), now.plus(DAY * 2), now.plus(Duration::from_millis(1))]);
        self.spoil(&mut it.deadline, &times);
        self.spoil(&mut it.serial, &[Serial([0; 20]), Serial([0xff; 20]), collision(1), collision(2), collision(3)]);
        self.spoil(&mut it.certificate, &[digest("x")]);
        self.spoil(&mut it.issuer, &[key_id("x")]);
        let long = Arc::new(Identity::LinkerdDns("x".repeat(1 << 12).into()));
        self.spoil(&mut it.identity, &[service("dc2", "web"), long]);
        let review = Arc::new(Review { method: name("k8s"), digest: digest("review") });
        self.spoil(&mut it.grant, &[Arc::new(Grant::Review(review)), Arc::new(Grant::Agent(name("n1")))]);
        let keeper = Keeper::Server(NodeId(u64::MAX));
        self.spoil(&mut it.holder, &[Arc::new(Holder { keeper, slot: "x".repeat(1 << 12).into() })]);
        it
    }

    fn expected(&mut self, found: Option<Revision>) -> Revision {
        let mut expected = found.unwrap_or_default();
        self.spoil(&mut expected, &[Revision(0), Revision(1), Revision(u64::MAX)]);
        expected
    }

    fn token(&mut self, state: &State) -> Command {
        let mut token = token(self.below(6) as u128);
        let found = state.acl().token(token.accessor, self.now).cloned();
        let expected = self.expected(found.as_ref().map(|found| found.modified));
        if self.once_in(3) {
            token.policies = vec![PolicyId::GLOBAL_MANAGEMENT];
        }
        for _ in 0..self.below(3) {
            let datacenters = if self.once_in(3) { vec![name(self.of(&["dc1", "dc2"]))] } else { Vec::new() };
            token.service_identities.push(ServiceIdentity { service: name(self.of(&SERVICES)), datacenters });
        }
        if self.once_in(3) {
            token.policies.push(policy_id(self.below(3) as u128));
        }
        let ends = [None, Some(self.now.plus(HOUR)), Some(Timestamp(u64::MAX)), Some(Timestamp(0))];
        token.expires_at = found.and_then(|found| found.expires_at);
        self.spoil(&mut token.expires_at, &ends);
        self.spoil(&mut token.secret, &[digest("token 1"), digest("x")]);
        self.spoil(&mut token.roles, &[vec![RoleId(Uuid::nil())]]);
        self.spoil(&mut token.description, &["x".repeat(1 << 12)]);
        self.spoil(&mut token.accessor, &[carrack_authority::acl::AccessorId::ANONYMOUS]);
        Command::PutToken { expected, token }
    }

    fn policy(&mut self, state: &State) -> Command {
        let mut policy = policy(self.below(3) as u128);
        let found = state.acl().policy(policy.id).map(|found| found.modified);
        let expected = self.expected(found);
        self.spoil(&mut policy.name, &["policy-1".into(), "global-management".into(), "x".repeat(1 << 12)]);
        self.spoil(&mut policy.source, &["x".repeat(1 << 17), "key \"\" {}".into()]);
        Command::PutPolicy { expected, policy }
    }

    fn row(&mut self, destination: &str, source: &str) -> Intention {
        let mut row = intention(source, destination, self.of(&[Action::Allow, Action::Deny]));
        if self.once_in(4) {
            row.effect = Effect::Permissions(vec![permission(Action::Allow, "/"), permission(Action::Deny, "/x")]);
        }
        if self.once_in(4) {
            row.legacy_id = Some(Uuid::from_u128(self.below(4) as u128));
        }
        self.spoil(&mut row.effect, &[Effect::Permissions(Vec::new()), Effect::Action(Action::Deny)]);
        self.spoil(&mut row.description, &["x".repeat(1 << 12), "what for".into()]);
        self.spoil(&mut row.destination, &[party("*"), party("other")]);
        row
    }

    fn intention(&mut self, state: &State) -> Command {
        let (destination, source) = (self.of(&PARTIES), self.of(&PARTIES));
        let row = self.row(destination, source);
        let found = state.intentions().exact(&row.destination, &row.source).map(|found| found.modified);
        Command::PutIntention { expected: self.expected(found), intention: Box::new(row) }
    }

    fn service_intentions(&mut self, state: &State) -> Command {
        let destination = self.of(&PARTIES);
        let sources = PARTIES.iter().filter(|_| self.once_in(2)).copied().collect::<Vec<_>>();
        let intentions = sources.into_iter().map(|source| self.row(destination, source)).collect();
        let destination = party(destination);
        let expected = self.expected(Some(state.destination_revision(&destination)));
        let expected = self.of(&[None, Some(expected)]);
        Command::PutServiceIntentions { expected, destination, intentions }
    }

    fn no_intention(&mut self, state: &State) -> Command {
        let (destination, source) = (party(self.of(&PARTIES)), party(self.of(&PARTIES)));
        if self.once_in(2) {
            return Command::DeleteIntention { destination, source };
        }
        let expected = self.expected(Some(state.destination_revision(&destination)));
        let expected = self.of(&[None, Some(expected)]);
        Command::DeleteServiceIntentions { expected, destination }
    }

    fn bootstrap_acl(&mut self, state: &State) -> Command {
        let reset = self.of(&[None, Some(state.acl().bootstrapped().0), Some(1)]);
        let number = self.below(3) as u128;
        let mut token = Token { policies: vec![PolicyId::GLOBAL_MANAGEMENT], ..token(number) };
        self.spoil(&mut token.policies, &[Vec::new()]);
        Command::BootstrapAcl { token, reset }
    }

    fn join_token(&mut self) -> JoinToken {
        let mut token = join_token(self.of(&SERVERS), self.now.plus(DAY));
        self.spoil(&mut token.secret, &[digest("join a"), digest("join b")]);
        self.spoil(&mut token.expires_at, &[Timestamp(0), Timestamp(u64::MAX), self.now]);
        self.spoil(&mut token.consumed, &[Some((digest("x"), NodeId(1)))]);
        token
    }

    fn admission(&mut self, state: &State) -> AdmitServer {
        let mut server = admit(self.of(&SERVERS));
        // A server that was removed comes back with what it had.
        if let Some(removed) = state.removed_members().next()
            && self.once_in(4)
        {
            server.store = removed.store;
        }
        self.spoil(&mut server.secret, &[digest("join a"), digest("join b")]);
        self.spoil(&mut server.store, &[store("x"), store("a"), store("b")]);
        self.spoil(&mut server.supports, &[FeatureLevel(0), FeatureLevel(u32::MAX)]);
        self.spoil(&mut server.public_key, &[digest("x")]);
        self.spoil(&mut server.csr, &[der(""), der(&"x".repeat(1 << 14))]);
        server
    }

    fn server(&mut self) -> Command {
        let node = NodeId(self.below(5) as u64);
        let supports = FeatureLevel(self.of(&[1, 2, 3]));
        Command::AnnounceServer { node, addresses: addresses(self.of(&SERVERS)), supports }
    }

    fn server_certificate(&mut self, state: &State) -> Command {
        let members: Vec<_> = state.members().cloned().collect();
        let member = self.of(&members);
        let of = self.of(&SERVERS);
        if self.once_in(2) {
            let (csr, public_key) = (der(of), digest(&format!("key {of}")));
            let request = ServerCertificateRequest { csr, public_key, revision: Revision(u64::MAX) };
            return Command::RequestServerCertificate { node: member.node, request };
        }
        let expected = self.expected(member.request.as_ref().map(|request| request.revision));
        let mut certificate = ServerCertificate {
            certificate: der(of),
            public_key: member.request.as_ref().map_or(digest("x"), |request| request.public_key),
            root: key_id("server root"),
            not_before: self.now,
            not_after: self.now.plus(DAY * 30),
        };
        self.spoil(&mut certificate.public_key, &[digest("x")]);
        self.spoil(&mut certificate.root, &[key_id("x")]);
        self.spoil(&mut certificate.not_after, &[Timestamp(0), Timestamp(u64::MAX)]);
        Command::RecordServerCertificate { node: member.node, expected, certificate }
    }

    fn removal(&mut self, state: &State) -> Command {
        let leaving = state.members().find(|member| member.is_leaving).map(|member| member.node);
        let any = NodeId(self.below(5) as u64);
        if leaving.is_none() && state.member(any).is_some() && self.once_in(2) {
            return Command::RequestRemoval { node: any };
        }
        let node = leaving.unwrap_or(any);
        let expected = self.expected(state.member(node).map(|member| member.modified));
        Command::RemoveServer { node, expected }
    }

    fn sealed(&mut self, state: &State) -> SealedKey {
        let recovery = Some("age1recovery".into());
        let mut sealed = SealedKey { ciphertext: der("sealed"), slots: state.sealing_slots(), recovery };
        self.spoil(&mut sealed.slots, &[Vec::new(), vec![(NodeId(9), "age1x".into())]]);
        self.spoil(&mut sealed.recovery, &[None]);
        sealed
    }

    fn publish(&mut self, state: &State) -> Command {
        let ca = if self.once_in(8) { Ca::Server } else { Ca::Mesh };
        let mut root = new_root(self.of(&ROOTS), START.minus(DAY), Some(self.sealed(state)));
        self.spoil(&mut root.not_after, &[Timestamp(0), Timestamp(u64::MAX), root.not_before]);
        self.spoil(&mut root.chain, &[vec![der("x"); 9]]);
        self.spoil(&mut root, &[NewRoot { certificate: der(""), ..new_root("root 1", START, None) }]);
        Command::PublishRoot { ca, root }
    }

    fn rotation(&mut self, state: &State) -> Command {
        let Some(rotation) = state.rotation().cloned() else {
            let mut request = rotation_from("");
            request.expected_active = state.roots(Ca::Mesh).active().unwrap().made.id;
            self.spoil(&mut request.expected_active, &[key_id("x")]);
            request.is_bridged = self.once_in(2);
            request.pauses_before_activation = self.once_in(4);
            let (of, sealed) = (self.of(&ROOTS), self.sealed(state));
            let root = new_root(of, START.minus(DAY), Some(sealed));
            if self.once_in(4) {
                request.wanted = WantedRoot::Supplied(Box::new(root));
            }
            let retired = state.roots(Ca::Mesh).bundle().into_iter().find(|root| root.phase == RootPhase::Retired);
            let retired = retired.map_or(key_id("x"), |root| root.made.id);
            let expected = self.expected(state.roots(Ca::Mesh).find(&retired).map(|root| root.modified));
            let last = state.last_rotation().map_or(Revision(1), |last| last.rotation.id);
            let is_forced = self.once_in(2);
            return match self.below(8) {
                0 => Command::PruneRoot { root: retired, expected },
                1 => Command::TaintRoot { root: retired, reason: "why".into() },
                2 => Command::RevokeRoot { root: retired, reason: String::new(), is_forced },
                3 => Command::RollBack { rotation: last },
                _ => Command::StartRotation(Box::new(request)),
            };
        };
        let (id, expected) = (rotation.id, self.expected(Some(rotation.modified)));
        let Some(root) = rotation.root else {
            let (of, sealed) = (self.of(&ROOTS), self.sealed(state));
            let root = Box::new(new_root(of, START.minus(DAY), Some(sealed)));
            return Command::PublishRotationRoot { rotation: id, expected, root };
        };
        let controls = [RotationControl::Pause, RotationControl::Resume, RotationControl::Force];
        match self.below(6) {
            0 => Command::RollBack { rotation: id },
            1 => Command::ControlRotation { rotation: id, control: self.of(&controls) },
            2 => Command::FinishRotation { rotation: id, expected },
            3 => self.activate(state),
            _ => {
                let new = state.roots(Ca::Mesh).find(&root).unwrap();
                let expected = self.expected(Some(new.modified));
                let active = state.roots(Ca::Mesh).active().unwrap();
                let mut not_after = active.made.not_after.min(new.made.not_after);
                self.spoil(&mut not_after, &[self.now, Timestamp(u64::MAX)]);
                let (certificate, signed_by) = (der("bridge"), active.made.id);
                let bridge = Bridge { certificate, signed_by, not_before: active.made.not_before, not_after };
                Command::BridgeRoot { root, expected, bridge: Box::new(bridge) }
            }
        }
    }

    fn activate(&mut self, state: &State) -> Command {
        let ca = if self.once_in(8) { Ca::Server } else { Ca::Mesh };
        let mut root = key_id(self.of(&ROOTS));
        let prepared = |it: &&Arc<Root>| it.phase == RootPhase::Prepared;
        if let Some(found) = state.roots(ca).bundle().iter().find(prepared) {
            root = found.made.id;
        }
        let expected = self.expected(state.roots(ca).find(&root).map(|root| root.modified));
        let mut expected_active = state.roots(ca).active().map(|root| root.made.id);
        self.spoil(&mut expected_active, &[None, Some(key_id("x"))]);
        Command::ActivateRoot { ca, root, expected, expected_active }
    }

    fn reseal(&mut self, state: &State) -> Command {
        let ca = if self.once_in(3) { Ca::Server } else { Ca::Mesh };
        let root = key_id(self.of(&ROOTS));
        let expected = self.expected(state.roots(ca).find(&root).map(|root| root.modified));
        Command::ResealRoot { ca, root, expected, sealed: self.sealed(state) }
    }

    fn issuer_request(&mut self, state: &State) -> Command {
        let active = state.roots(Ca::Mesh).bundle();
        let active: Vec<_> = active.into_iter().filter(|root| root.phase != RootPhase::Retired).collect();
        let mut request = issuer_request(1, "root 1", &format!("issuer {}", self.below(12)));
        if !active.is_empty() {
            request.root = self.of(&active).made.id;
        }
        self.spoil(&mut request.node, &[NodeId(0), NodeId(2), NodeId(u64::MAX)]);
        self.spoil(&mut request.root, &[key_id("x")]);
        self.spoil(&mut request.csr, &[der(&"x".repeat(1 << 14))]);
        Command::RequestIssuer(request)
    }

    fn signed_issuer(&mut self, state: &State) -> Command {
        let requests: Vec<_> = state.issuer_requests().cloned().collect();
        if requests.is_empty() {
            return self.issuer_request(state);
        }
        let request = self.of(&requests);
        let expected = self.expected(Some(request.revision));
        let mut signed = SignedIssuer {
            certificate: der(&format!("issuer {}", request.key)),
            ..signed_issuer(request.node.0, expected.0, self.now.minus(HOUR))
        };
        self.spoil(&mut signed.not_before, &[Timestamp(0), Timestamp(u64::MAX), self.now]);
        self.spoil(&mut signed.not_after, &[Timestamp(0), Timestamp(u64::MAX), self.now.plus(HOUR)]);
        self.spoil(&mut signed.node, &[NodeId(7)]);
        Command::RecordIssuer(signed)
    }

    fn configuration(&mut self, state: &State) -> Command {
        let expected = self.expected(Some(state.ca_config().modified));
        let config = config(self.of(&[DAY * 3, DAY, HOUR, Duration::ZERO, Duration::MAX]));
        Command::SetCaConfig { expected, config, rotation_period: None, rotation: None }
    }
}

fn config(leaf_ttl: Duration) -> CaConfig {
    CaConfig { leaf_ttl, ..CaConfig::default() }
}

/// Serials that begin alike.
fn collision(last: u8) -> Serial {
    let mut bytes = [7; 20];
    bytes[19] = last;
    Serial(bytes)
}
