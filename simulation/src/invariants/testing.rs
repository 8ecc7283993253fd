//! Made-up worlds, logs and servers for the tests of invariants.

pub(super) mod roots;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use carrack_authority::{
    Command, Entry, Outcome, Proposal, State,
    acl::{AccessorId, ServiceIdentity, Token},
    id::{Digest, KeyId, NodeId, Revision, Serial, StoreId},
    issuance::{Grant, Holder, Issuance, Keeper},
    key::Der,
    spiffe::{Identity, Name},
    time::Timestamp,
};
use carrack_proto::stored::{
    self, Kind, Schema,
    v1::{LogEntry, LogId, Membership, Payload, StoreIdentity, Vote},
};
use carrack_raft::{Role, engine::Slot};

use super::{
    Invariant, Scene,
    seen::{Applied, Told, digest_of},
    stores::{Reign, Stores},
    view::View,
};
use crate::{
    disk::DiskEvent,
    scenario::Scenario,
    trace::Keep,
    world::{PRIMARY, clock::WorldClock, shared::Shared},
};

/// A world without servers that an invariant can be tried in.
pub(super) struct Trial {
    pub(super) shared: Shared,
    pub(super) stores: Stores,
    pub(super) views: BTreeMap<String, View>,
}

impl Trial {
    pub(super) fn new() -> Self {
        let shared =
            Shared::new(Scenario::derive(1), WorldClock::default(), BTreeMap::new(), BTreeMap::new(), Keep::Last);
        Self { shared, stores: Stores::default(), views: BTreeMap::new() }
    }

    pub(super) fn scene(&self) -> Scene<'_> {
        self.scene_of(PRIMARY)
    }

    /// What is seen when something happened in a datacenter.
    pub(super) fn scene_of(&self, datacenter: usize) -> Scene<'_> {
        Scene { shared: &self.shared, datacenter, stores: &self.stores, views: &self.views }
    }

    /// Lets the stores and the invariant see an event.
    pub(super) fn disk(&mut self, invariant: &mut dyn Invariant, host: &str, event: &DiskEvent) {
        self.stores.follow(host, event, None);
        invariant.disk(&self.scene(), host, event);
    }

    /// Lets the invariant look at a server.
    pub(super) fn look(&mut self, invariant: &mut dyn Invariant, host: &str, view: View) {
        self.views.insert(host.to_owned(), view.clone());
        invariant.looked(&self.scene(), host, &view);
    }

    /// The names of the invariants that do not hold.
    pub(super) fn broken(&self) -> Vec<String> {
        self.shared.violations().into_iter().map(|violation| violation.invariant).collect()
    }

    pub(super) fn expect_good(&self) {
        assert_eq!(self.shared.violations(), []);
    }

    pub(super) fn expect_broken(&self, name: &str) {
        assert!(self.broken().iter().any(|broken| broken == name), "{name} holds: {:?}", self.shared.violations());
    }
}

pub(super) fn reign(term: u64, leader: u64) -> Reign {
    Reign { term, leader }
}

/// The event that tells whose log it is.
pub(super) fn identity(node: u64) -> DiskEvent {
    let identity = StoreIdentity { store: StoreId([1; 16]), node };
    let bytes = stored::encode(Kind::StoreIdentity, Schema::FIRST, &identity).unwrap();
    DiskEvent::Put { slot: Slot::Identity, bytes: bytes.into() }
}

/// An entry whose content is a number.
pub(super) fn append(index: u64, reign: Reign, content: u64) -> DiskEvent {
    log(index, reign, Payload::Commands(content.to_be_bytes().to_vec().into()))
}

/// An entry that sets the voters.
pub(super) fn set_voters(index: u64, reign: Reign, voters: &[&[u64]]) -> DiskEvent {
    let voters = voters.iter().map(|set| set.iter().copied().collect()).collect();
    log(index, reign, Payload::Membership(Membership { voters, members: BTreeMap::new() }))
}

fn log(index: u64, reign: Reign, payload: Payload) -> DiskEvent {
    let entry = LogEntry { id: LogId { term: reign.term, leader: reign.leader, index }, payload };
    let bytes = stored::encode(Kind::LogEntry, Schema::FIRST, &entry).unwrap();
    DiskEvent::Appended { index, bytes: bytes.into() }
}

/// A durable vote.
pub(super) fn vote(term: u64, candidate: u64, is_committed: bool) -> DiskEvent {
    let vote = Some(Vote { term, candidate, is_committed });
    let file = stored::v1::HighWater { store: StoreId([1; 16]), vote, last_index: None };
    let bytes = stored::encode(Kind::HighWater, Schema::FIRST, &file).unwrap();
    DiskEvent::FileReplaced { area: "snapshots".into(), name: "high-water".into(), bytes: bytes.into(), is_told: true }
}

/// A follower that has applied and committed everything up to an entry.
pub(super) fn follower(node: u64, term: u64, last: u64) -> View {
    View {
        start: 1,
        node,
        role: Role::Follower,
        term,
        last_log: Some(last),
        committed: Some(last),
        applied: last,
        snapshot: None,
        purged: None,
        membership: None,
        voters: BTreeSet::from([1, 2, 3]),
        is_joint: false,
        log_bytes_in_memory: 0,
        watchers: 0,
        state: State::default(),
    }
}

pub(super) fn leader(node: u64, term: u64, last: u64) -> View {
    View { role: Role::Leader, ..follower(node, term, last) }
}

/// An applied entry with states that do not change.
pub(super) fn applied(host: &str, index: u64, commands: &[Command], outcomes: &[Outcome]) -> Applied {
    let proposals = commands.iter().map(|command| Proposal { proposer: NodeId(1), command: command.clone() });
    let commands = Entry { stamp: Timestamp(index * 1000), proposals: proposals.collect() };
    let digest = digest_of(&commands, outcomes);
    let (before, after) = Default::default();
    let (host, commands, outcomes) = (host.into(), Arc::new(commands), outcomes.into());
    Applied { host, index, commands, outcomes, digest, before, after }
}

/// A state that has applied one entry with a stamp.
pub(super) fn stamped(index: u64, stamp: u64) -> State {
    let mut state = State::default();
    state.apply(index, &Entry { stamp: Timestamp(stamp), proposals: Vec::new() });
    state
}

/// The identity of made-up leaves.
const WEB: &str = "spiffe://x.example/ns/default/dc/dc1/svc/web";

/// An issuance of the service `web`, under the token of [`token_for`].
pub(super) fn issuance(serial: u8) -> Issuance {
    issuance_of(serial, WEB)
}

pub(super) fn issuance_of(serial: u8, identity: &str) -> Issuance {
    Issuance {
        serial: Serial([serial; 20]),
        identity: Arc::new(Identity::Spiffe(identity.parse().unwrap())),
        grant: Arc::new(Grant::Token(AccessorId(uuid::Uuid::from_u128(1000)))),
        public_key: Digest([3; 32]),
        certificate: Digest([serial; 32]),
        not_before: Timestamp(0),
        not_after: Timestamp(1_000_000),
        issuer: KeyId([7; 20]),
        holder: Arc::new(Holder { keeper: Keeper::Server(NodeId(1)), slot: "slot".into() }),
        deadline: Timestamp(9),
    }
}

/// A token that is for a service.
pub(super) fn token_for(service: &str) -> Token {
    let service = Name::parse("service", service).unwrap();
    Token {
        accessor: AccessorId(uuid::Uuid::from_u128(1000)),
        secret: Digest([1; 32]),
        description: String::new(),
        policies: Vec::new(),
        service_identities: vec![ServiceIdentity { service, datacenters: Vec::new() }],
        node_identities: Vec::new(),
        roles: Vec::new(),
        auth_method: None,
        is_local: false,
        expires_at: None,
        created_at: Timestamp(0),
        created: Revision(0),
        modified: Revision(0),
    }
}

/// A received leaf with a real certificate of its own key, which nobody has recorded.
pub(super) fn received(asked_at: u64) -> Told {
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI(WEB.try_into().unwrap())];
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    params.serial_number = Some(rcgen::SerialNumber::from(vec![9; 20]));
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = Der::from(params.self_signed(&key).unwrap().der().as_ref());
    Told::LeafReceived { datacenter: PRIMARY, identity: WEB.into(), certificate, asked_at }
}
