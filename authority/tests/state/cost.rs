//! What a record costs: memory and time, printed and not asserted. The goals are below 400 bytes and a few microseconds. That a write does
//! not grow with what it does not touch is asserted, with a wide margin.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use carrack_authority::{
    Command, Entry, Outcome, Proposal, State,
    acl::{ServiceIdentity, Token},
    id::{NodeId, Revision},
    intention::Action,
    issuance::{Grant, Holder, Issuance, Keeper},
};

use crate::world::{
    START, accessor, digest, intention, issuance, issuing, name, propose, put_intention, serial, token,
};

/// An unoptimised build only shows that it runs.
const RECORDS: u64 = if cfg!(debug_assertions) { 5_000 } else { 250_000 };
const SERVICES: u64 = 1000;

#[expect(clippy::disallowed_methods, reason = "the time itself is what this prints")]
fn now() -> Instant {
    Instant::now()
}

fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
}

#[expect(clippy::print_stdout, reason = "printing is what it is for")]
/// Applies issuances in entries of 64, each made just before, as they come from the log: nothing in them is shared.
fn measure(what: &str, state: &mut State, issuances: impl Iterator<Item = Issuance>) {
    let (before, mut spent, mut count) = (resident_bytes(), Duration::ZERO, 0_u64);
    let commands =
        issuances.map(|issuance| Proposal { proposer: NodeId(1), command: Command::RecordIssuance(issuance) });
    let mut commands = commands.peekable();
    while commands.peek().is_some() {
        let entry = Entry { stamp: START, proposals: commands.by_ref().take(64).collect() };
        let start = now();
        let applied = state.apply(state.index() + 1, &entry);
        spent += start.elapsed();
        count += entry.proposals.len() as u64;
        let is_recorded = |outcome: &Outcome| matches!(outcome, Outcome::Recorded { .. });
        assert!(applied.outcomes.iter().all(is_recorded), "{:?}", applied.outcomes[0]);
    }
    let each = spent.as_nanos() / u128::from(count);
    let bytes = resident_bytes().saturating_sub(before) / count;
    println!("{what}: {count} records, {each} ns and {bytes} resident bytes a record");
}

/// One of [`SERVICES`] services, each with many holders.
fn shared(number: u64) -> Issuance {
    let holder = Holder { keeper: Keeper::Server(NodeId(1)), slot: format!("{}", number / SERVICES).into() };
    Issuance { holder: Arc::new(holder), ..issuance(number, &format!("service-{}", number % SERVICES), START) }
}

#[test]
fn memory_and_time_of_a_record() {
    let mut services = issuing();
    measure("1,000 services, 250 holders, one token", &mut services, (0..RECORDS).map(shared));
    measure(
        "the same again: each supersedes one",
        &mut services,
        (0..RECORDS).map(|number| Issuance {
            serial: serial(RECORDS + number),
            certificate: digest(&format!("second {number}")),
            ..shared(number)
        }),
    );
    let mut keys = issuing();
    measure(
        "1,000 services, a holder for each leaf, one token",
        &mut keys,
        (0..RECORDS).map(|number| {
            let holder = Holder { keeper: Keeper::Login(accessor(1)), slot: format!("{number:016x}").into() };
            Issuance { holder: Arc::new(holder), ..shared(number) }
        }),
    );
    let mut own = issuing();
    let each = (0..RECORDS).map(|number| issuance(number, &format!("service-{number}"), START));
    measure("a service and a holder for each, one token", &mut own, each);
    let records: Vec<_> = own.to_records().collect();
    drop((own, keys, services));
    let start = now();
    let restored = State::from_records(records).unwrap();
    println!("restored {} records in {:?}", restored.issuances().unexpired(), start.elapsed());
}

#[test]
fn time_of_a_record_by_grant() {
    let mut state = issuing();
    for number in 0..SERVICES {
        let service = ServiceIdentity { service: name(&format!("service-{number}")), datacenters: Vec::new() };
        let token = Token { service_identities: vec![service], ..token(100 + u128::from(number)) };
        assert_eq!(propose(&mut state, START, Command::PutToken { expected: Revision(0), token }), Outcome::Done);
    }
    let of_service = |number: u64| {
        let grant = Arc::new(Grant::Token(accessor(100 + u128::from(number % SERVICES))));
        Issuance { grant, ..shared(number) }
    };
    measure("1,000 tokens with a service identity each", &mut state.clone(), (0..RECORDS).map(of_service));
    let before = state.clone();
    measure("a management token, an older state kept", &mut state, (0..RECORDS).map(shared));
    drop(before);
}

/// A destination with this many sources.
fn with_sources(count: usize) -> State {
    let mut state = issuing();
    for number in 0..count {
        let put = put_intention(0, intention(&format!("service-{number}"), "db", Action::Allow));
        assert_eq!(propose(&mut state, START, put), Outcome::Done);
    }
    state
}

/// How long the fastest of some rounds took, each: new sources of the destination are written, each in an entry of its own. An older
/// view is kept, as a snapshot does.
fn written(state: &State, writes: u32) -> Duration {
    let rounds = (0..5).map(|_| {
        let mut state = state.clone();
        let commands =
            (0..writes).map(|number| put_intention(0, intention(&format!("new-{number}"), "db", Action::Deny)));
        let commands: Vec<Command> = commands.collect();
        let start = now();
        for command in commands {
            assert_eq!(propose(&mut state, START, command), Outcome::Done);
        }
        start.elapsed() / writes
    });
    rounds.min().unwrap()
}

/// Consul writes all sources of a destination for each one that changes.
#[test]
fn a_write_of_an_intention_costs_the_same_with_one_or_10_000_sources() {
    let (few, many) = (with_sources(1), with_sources(10_000));
    let (few, many) = (written(&few, 500), written(&many, 500));
    println!("a write of an intention: {few:?} with 1 source, {many:?} with 10,000");
    // Trees of 1 and of 10,000 differ by a level or two; a rewrite of the whole would be a thousand times as long.
    assert!(many < few * 10, "{many:?} with 10,000 sources, {few:?} with one");
    let one = with_sources(10_000);
    let start = now();
    let mut decided = 0;
    for number in 0..1000 {
        let source = name(&format!("service-{number}"));
        decided += one.intentions().about(&source, &name("db")).count();
    }
    println!("found among 10,000 sources: {:?} each", start.elapsed() / 1000);
    assert_eq!(decided, 1000);
}
