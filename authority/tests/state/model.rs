//! Any commands, on several replicas: the same outcomes, the same state, and what must hold after each of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use carrack_authority::{
    Command, Entry, Outcome, Proposal, State,
    id::{Digest, KeyId, NodeId},
    intention::{Intention, Party},
    issuance::{EMPTY_HEAD, Grant, Holder, Issuance, IssuanceRecord, IssuerCounts, link},
    issuer::IssuerPhase,
    root::{Ca, RootPhase},
    spiffe::{Identity, SpiffePath},
    state::StateRecord,
    time::Timestamp,
};
use proptest::prelude::*;

use crate::{chooser::Chooser, world::issuing};

/// The numbers that one entry is made of.
const NUMBERS: usize = 72;

fn records(state: &State) -> Vec<StateRecord> {
    state.to_records().collect()
}

fn restored(state: &State) -> State {
    State::from_records(records(state)).unwrap()
}

/// What the model knows beside the state.
struct Model {
    /// Every entry, batched as it was committed.
    batched: State,
    /// The same, but one proposal after the other.
    single: State,
    /// Went through its records once or more.
    restored: State,
    head: Digest,
    length: u64,
    nodes: BTreeSet<NodeId>,
    /// What commands came to, and how often.
    marks: BTreeMap<&'static str, u32>,
}

impl Model {
    fn new(state: State) -> Self {
        let nodes = state.members().map(|member| member.node).collect();
        let (single, restored) = (state.clone(), state.clone());
        Self { batched: state, single, restored, head: EMPTY_HEAD, length: 0, nodes, marks: BTreeMap::new() }
    }

    fn apply(&mut self, numbers: &[u16]) {
        let mut chooser = Chooser::new(numbers);
        if chooser.once_in(10) {
            self.restored = restored(&self.restored);
        }
        let stamp = chooser.stamp(self.batched.now());
        let count = 1 + chooser.below(3);
        let proposals = (0..count).map(|_| {
            let proposer = chooser.proposer();
            Proposal { proposer, command: chooser.command(&self.batched) }
        });
        let entry = Entry { stamp, proposals: proposals.collect() };
        let before = self.batched.clone();
        let index = before.index() + 1;
        let applied = self.batched.apply(index, &entry);
        for outcome in &applied.outcomes {
            *self.marks.entry(mark(outcome)).or_default() += 1;
        }
        assert_eq!(applied, self.restored.apply(index, &entry), "another replica decides otherwise");
        let one_by_one: Vec<Outcome> = entry.proposals.iter().map(|one| self.apply_one(index, stamp, one)).collect();
        assert_eq!(applied.outcomes, one_by_one, "a batch decides otherwise than its parts");
        assert_eq!(records(&self.batched), records(&self.restored));
        assert_eq!(records(&self.batched), records(&self.single));
        self.check_rejected(before, &entry, &applied.outcomes);
        self.check_state();
    }

    /// What was rejected changed nothing: without it, all is the same.
    fn check_rejected(&self, mut before: State, entry: &Entry, outcomes: &[Outcome]) {
        let accepted = entry.proposals.iter().zip(outcomes);
        let accepted = accepted.filter(|(_, outcome)| !matches!(outcome, Outcome::Rejected(_)));
        let proposals = accepted.map(|(proposal, _)| proposal.clone()).collect();
        before.apply(entry_index(&self.batched), &Entry { stamp: entry.stamp, proposals });
        assert_eq!(records(&before), records(&self.batched), "a rejected command changed something");
    }

    fn apply_one(&mut self, index: u64, stamp: Timestamp, proposal: &Proposal) -> Outcome {
        let mut before = self.single.clone();
        before.apply(index, &Entry { stamp, proposals: Vec::new() });
        let entry = Entry { stamp, proposals: vec![proposal.clone()] };
        let outcome = self.single.apply(index, &entry).outcomes.remove(0);
        match (&outcome, &proposal.command) {
            (Outcome::Recorded { sequence }, Command::RecordIssuance(issuance)) => {
                self.check_recorded(&before, index, *sequence, proposal.proposer, issuance);
            }
            (Outcome::Admitted { node }, Command::AdmitServer(_)) => {
                let is_new = before.member(*node).is_none();
                assert_eq!(is_new, self.nodes.insert(*node), "the id {node} was given before");
            }
            (Outcome::Done, Command::Bootstrap(bootstrap)) => {
                self.nodes.insert(bootstrap.member.node);
            }
            (Outcome::Recorded { .. } | Outcome::Admitted { .. }, command) => panic!("{command:?} came to {outcome:?}"),
            (Outcome::Done | Outcome::Rejected(_), _) => {}
        }
        outcome
    }

    fn check_recorded(&mut self, before: &State, index: u64, sequence: u64, proposer: NodeId, issuance: &Issuance) {
        if let Some(found) = before.issuances().find(&issuance.serial) {
            assert_eq!((found.sequence, found.issuance.certificate), (sequence, issuance.certificate));
            assert_eq!(self.single.issuances().length(), before.issuances().length());
            return;
        }
        self.length += 1;
        assert_eq!(sequence, self.length, "the sequence has a gap");
        self.head = link(&self.head, sequence, index, before.now(), issuance);
        assert!(!before.is_halted());
        check_dates(before, issuance);
        let issuer = before.issuer(&issuance.issuer).unwrap();
        assert_eq!((issuer.node, issuer.phase), (proposer, IssuerPhase::Live));
        let Grant::Token(accessor) = *issuance.grant else { panic!("{} was taken", issuance.grant) };
        let token = before.acl().token(accessor, before.now()).expect("no leaf is recorded after its token's end");
        let Identity::Spiffe(id) = &*issuance.identity else { panic!("{} was taken", issuance.identity) };
        let cluster = before.cluster().unwrap();
        assert_eq!((&id.trust_domain, id.datacenter()), (&cluster.trust_domain, &cluster.datacenter));
        let SpiffePath::Service { service, .. } = &id.path else { panic!("{id} was taken") };
        assert!(before.authorizer(token).service_write(service.as_str()));
    }

    fn check_state(&self) {
        let state = &self.batched;
        for ca in [Ca::Mesh, Ca::Server] {
            let active = |root: &&Arc<carrack_authority::root::Root>| root.phase == RootPhase::Active;
            assert!(state.roots(ca).bundle().iter().filter(active).count() <= 1);
        }
        let log = state.issuances();
        assert_eq!((log.length(), log.head()), (self.length, self.head));
        let records: Vec<&IssuanceRecord> = log.after(0).collect();
        check_lookups(state, &records);
        check_intentions(state);
        let answered = |key: &KeyId| state.issuer(key).is_some();
        assert!(!state.issuer_requests().any(|request| answered(&request.key)), "an answered request is still there");
        let serials: BTreeSet<_> = records.iter().map(|record| record.issuance.serial).collect();
        assert_eq!(serials.len(), records.len(), "a serial is there twice");
        for member in state.members() {
            assert!(self.nodes.contains(&member.node) && state.removed_member(member.node).is_none());
        }
    }
}

fn mark(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Recorded { .. } => "recorded",
        Outcome::Admitted { .. } => "admitted",
        Outcome::Rejected(rejection) => rejection.code(),
    }
}

fn entry_index(state: &State) -> u64 {
    state.index()
}

fn check_dates(before: &State, issuance: &Issuance) {
    let issuer = before.issuer(&issuance.issuer).unwrap();
    let root = before.roots(Ca::Mesh).find(&issuer.root).unwrap();
    assert_eq!(root.phase, RootPhase::Active);
    assert!(root.made.not_before <= issuer.not_before && issuer.not_before <= issuance.not_before);
    assert!(issuance.not_after <= issuer.not_after && issuer.not_after <= root.made.not_after);
    assert!(issuance.not_before <= before.now() && before.now() < issuance.not_after);
    let ttl = before.ca_config().config.leaf_ttl + carrack_authority::issuance::BACKDATING;
    assert!(issuance.not_after <= issuance.not_before.plus(ttl));
    assert!(before.now() <= issuance.deadline);
}

/// Every lookup and every count is what going through all records gives.
fn check_lookups(state: &State, records: &[&IssuanceRecord]) {
    let log = state.issuances();
    let sequences = |found: Vec<&IssuanceRecord>| found.iter().map(|record| record.sequence).collect::<Vec<_>>();
    let of = |is_meant: &dyn Fn(&Issuance) -> bool| {
        sequences(records.iter().copied().filter(|record| is_meant(&record.issuance)).collect())
    };
    let mut counts: BTreeMap<KeyId, IssuerCounts> = BTreeMap::new();
    let mut current: BTreeMap<(Arc<Holder>, Arc<Identity>), u64> = BTreeMap::new();
    for record in records {
        let issuance = &record.issuance;
        assert_eq!(log.find(&issuance.serial), Some(*record));
        assert_eq!(
            sequences(log.of_identity(&issuance.identity).collect()),
            of(&|it| it.identity == issuance.identity)
        );
        assert_eq!(sequences(log.of_grant(&issuance.grant).collect()), of(&|it| it.grant == issuance.grant));
        assert_eq!(sequences(log.of_issuer(issuance.issuer).collect()), of(&|it| it.issuer == issuance.issuer));
        let count = counts.entry(issuance.issuer).or_default();
        count.unexpired += 1;
        count.last_not_after = count.last_not_after.max(issuance.not_after);
        let key = (issuance.holder.clone(), issuance.identity.clone());
        match record.superseded_by {
            Some(by) => assert!(by > record.sequence && by <= log.length()),
            None => {
                count.current += 1;
                assert_eq!(log.of_holder(&key.0, &key.1), Some(*record));
                assert_eq!(current.insert(key, record.sequence), None, "two current leaves of one holder");
            }
        }
    }
    assert_eq!((log.unexpired(), log.current()), (records.len(), current.len()));
    for issuer in state.issuers() {
        assert_eq!(log.counts(&issuer.id), counts.get(&issuer.id).copied().unwrap_or_default());
    }
}

/// Every way to find intentions gives what going through all of them gives, in the order of precedence.
fn check_intentions(state: &State) {
    let (table, all) = (state.intentions(), state.intentions().all().cloned().collect::<Vec<_>>());
    let sorted = |is_meant: &dyn Fn(&Intention) -> bool| {
        let mut found: Vec<&Arc<Intention>> = all.iter().filter(|row| is_meant(row)).collect();
        found.sort_by(|one, other| one.order().cmp(&other.order()));
        found
    };
    assert_eq!((table.count(), table.after(None).count()), (all.len(), all.len()));
    for row in &all {
        assert_eq!(table.exact(&row.destination, &row.source), Some(row));
        assert_eq!(table.of_key(row.key()), Some(row));
        assert!(row.legacy_id.is_none_or(|id| table.of_legacy_id(id) == Some(row)));
        assert!(row.created <= row.modified && row.modified <= state.destination_revision(&row.destination));
    }
    for name in ["web", "db", "cache", "other"].map(crate::world::name) {
        let party = Party::Service(name.clone());
        assert_eq!(table.of_destination(&party).collect::<Vec<_>>(), sorted(&|row| row.destination == party));
        assert_eq!(
            table.matching_destination(&name).collect::<Vec<_>>(),
            sorted(&|row| row.destination.contains(&name))
        );
        assert_eq!(table.matching_source(&name), sorted(&|row| row.source.contains(&name)));
        let about: Vec<_> = table.about(&name, &crate::world::name("db")).collect();
        assert_eq!(about, sorted(&|row| row.is_about(&name, &crate::world::name("db"))));
    }
}

/// Random entries: enough that everything that can come of a command does.
fn random_entries(seed: u64) -> Vec<Vec<u16>> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut number = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u16::try_from(state >> 48).unwrap()
    };
    (0..80).map(|_| (0..NUMBERS).map(|_| number()).collect()).collect()
}

#[test]
fn the_model_meets_every_outcome() {
    let mut marks: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..60 {
        let mut model = Model::new(if seed % 6 != 0 { issuing() } else { State::default() });
        random_entries(seed).iter().for_each(|numbers| model.apply(numbers));
        for (mark, count) in model.marks {
            *marks.entry(mark).or_default() += count;
        }
    }
    println!("{marks:?}");
    let expected = [
        "acl_bootstrapped",
        "admitted",
        "already_bootstrapped",
        "already_exists",
        "bad_ca_config",
        "built_in",
        "conflict",
        "dates_refused",
        "deadline_passed",
        "done",
        "grant_refused",
        "halted",
        "invalid",
        "issuer_refused",
        "join_token_refused",
        "limit_reached",
        "not_found",
        "recorded",
        "removed",
        "serial_taken",
        "too_old",
        "wrong_phase",
        "wrong_proposer",
        "wrong_recipients",
    ];
    for mark in expected {
        assert!(marks.contains_key(mark), "no command came to `{mark}`: {marks:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_commands_keep_every_replica_equal_and_every_invariant(
        begun in prop::bool::weighted(0.85),
        entries in prop::collection::vec(prop::collection::vec(any::<u16>(), NUMBERS), 1..80),
    ) {
        let mut model = Model::new(if begun { issuing() } else { State::default() });
        for numbers in &entries {
            model.apply(numbers);
        }
    }
}
