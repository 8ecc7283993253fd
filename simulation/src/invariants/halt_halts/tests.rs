//! Halts decided, heard, heard late and not heard: what is good, and what is found.

use std::time::Duration;

use carrack_authority::{
    State,
    ca_config::CaConfig,
    federation::{CaTable, Cursor, RemoteIssuer, Switches},
    id::{KeyId, NodeId},
    key::Der,
    root::RootPhase,
    spiffe::Name,
};

use super::*;
use crate::invariants::testing::{
    Trial, applied, issuance, received,
    roots::{root, state},
    stamped,
};

/// The secondary `dc2`.
const SECONDARY: usize = 1;
/// The bound of the worlds here.
const MOST: Duration = Duration::from_secs(60);
/// The time of the entry with an index here.
const EACH: Duration = Duration::from_secs(1);

/// A world whose datacenters decide one entry after the other.
struct Story {
    trial: Trial,
    invariant: HaltHalts,
}

impl Story {
    fn new(halt_staleness_max: Option<Duration>) -> Self {
        let mut trial = Trial::new();
        trial.shared.scenario.federation.halt_staleness_max = halt_staleness_max;
        Self { trial, invariant: HaltHalts::default() }
    }

    /// An entry so many seconds after the beginning, by every clock.
    fn decide(&mut self, datacenter: usize, second: u64, (command, outcome): (Command, Outcome)) -> &mut Self {
        self.trial.shared.clock.set(EACH * u32::try_from(second).unwrap());
        let stamp = self.trial.shared.clock.now();
        let mut entry = applied("a", second, std::slice::from_ref(&command), std::slice::from_ref(&outcome));
        entry.after = stamped(second, stamp.0);
        self.invariant.decided(&self.trial.scene_of(datacenter), &entry);
        self
    }
}

fn decide(entries: &[(Command, Outcome)]) -> Story {
    let mut story = Story::new(None);
    for (index, entry) in entries.iter().enumerate() {
        story.decide(PRIMARY, index as u64, entry.clone());
    }
    story
}

fn record(serial: u8) -> (Command, Outcome) {
    (Command::RecordIssuance(issuance(serial)), Outcome::Recorded { sequence: serial.into() })
}

fn halt(halted: bool) -> (Command, Outcome) {
    (Command::SetHalt { halted }, Outcome::Done)
}

fn sign_for_another() -> (Command, Outcome) {
    let issuer = RemoteIssuer {
        id: KeyId([5; 20]),
        datacenter: Name::parse("datacenter", "dc2").unwrap(),
        node: NodeId(1),
        root: KeyId([6; 20]),
        certificate: Der::from(&[1][..]),
        not_before: Timestamp(0),
        not_after: Timestamp(1),
        created: Revision(0),
    };
    (Command::RecordRemoteIssuer(Box::new(issuer)), Outcome::Done)
}

/// A secondary hears everything up to a revision of the primary; `halted`: and what it has switched.
fn hear(revision: u64, halted: Option<bool>) -> (Command, Outcome) {
    let change = halted.map_or(Change::Nothing, |is_halted| {
        let trust_domain = "x.example".parse().unwrap();
        let ca = CaTable { trust_domain, config: CaConfig::default(), roots: Vec::new(), activation: 0 };
        Change::CaAndSwitches(Box::new(ca), Switches { is_halted, tainted: Vec::new() })
    });
    let to = Cursor { revision: Revision(revision), ..Cursor::default() };
    let (primary, from) = (uuid::Uuid::nil(), Cursor::default());
    let followed = Followed { primary, table: Table::Ca, from, to, change, is_all: true };
    (Command::FollowPrimary(Box::new(followed)), Outcome::Done)
}

#[test]
fn a_record_before_and_after_a_halt_and_a_retry_in_it_are_good() {
    decide(&[record(1), halt(true), record(1), halt(false), record(2)]).trial.expect_good();
}

#[test]
fn a_record_in_a_halt_is_found() {
    decide(&[record(1), halt(true), record(2)]).trial.expect_broken(NAME);
}

#[test]
fn an_issuer_for_another_datacenter_in_a_halt_is_found() {
    decide(&[sign_for_another(), halt(true), halt(false)]).trial.expect_good();
    decide(&[halt(true), sign_for_another()]).trial.expect_broken(NAME);
}

#[test]
fn a_leaf_that_was_asked_for_in_a_halt_is_found() {
    let Story { trial, mut invariant } = decide(&[halt(true)]);
    invariant.told(&trial.scene(), &Told::HaltAcknowledged { datacenter: 0, is_halted: true });
    invariant.told(&trial.scene(), &received(0));
    trial.expect_good();
    invariant.told(&trial.scene(), &received(1));
    trial.expect_broken(NAME);
}

#[test]
fn a_secondary_records_nothing_from_the_entry_on_that_tells_it_of_a_halt_until_one_tells_of_its_end() {
    let told = |last| {
        let mut story = Story::new(None);
        story.decide(PRIMARY, 1, halt(true)).decide(SECONDARY, 2, record(1)).decide(SECONDARY, 3, hear(1, Some(true)));
        if last == 2 {
            story.decide(PRIMARY, 4, halt(false)).decide(SECONDARY, 5, hear(4, Some(false)));
        }
        story.decide(SECONDARY, 6, record(last));
        story
    };
    told(1).trial.expect_good();
    told(2).trial.expect_good();
    told(3).trial.expect_broken(NAME);
}

#[test]
fn a_secondary_records_within_the_bound_after_it_has_heard_the_primary_and_not_beyond() {
    let bound = (MOST + ISSUE_WITHIN).as_secs();
    let cut_off = |most, recorded_at| {
        let mut story = Story::new(most);
        story.decide(SECONDARY, 1, hear(0, Some(false))).decide(PRIMARY, 2, halt(true));
        story.decide(SECONDARY, recorded_at, record(1));
        story
    };
    cut_off(Some(MOST), 1 + bound).trial.expect_good();
    cut_off(Some(MOST), 2 + bound).trial.expect_broken(NAME);
    cut_off(None, 2 + bound).trial.expect_good();
    // The primary itself hears nobody.
    Story::new(Some(MOST)).decide(PRIMARY, 2 + bound, record(1)).trial.expect_good();
    let mut heard_again = cut_off(Some(MOST), 1 + bound);
    heard_again.decide(PRIMARY, 80, halt(false)).decide(SECONDARY, 90, hear(80, Some(false)));
    heard_again.decide(SECONDARY, 91, record(2)).trial.expect_good();
}

#[test]
fn what_a_secondary_hears_long_after_a_halt_is_not_of_before_it() {
    let heard = |second, revision| {
        let mut story = Story::new(Some(MOST));
        story.decide(SECONDARY, 1, hear(0, Some(false))).decide(PRIMARY, 2, halt(true));
        story.decide(SECONDARY, second, hear(revision, None));
        story
    };
    heard(30, 0).trial.expect_good();
    heard(40, 2).trial.expect_good();
    heard(40, 0).trial.expect_broken(NAME);
}

#[test]
fn a_state_that_is_not_as_halted_as_decided_is_found() {
    let Story { trial, mut invariant } = decide(&[]);
    let mut entry = applied("a", 1, &[Command::SetHalt { halted: true }], &[Outcome::Done]);
    entry.after = State::default();
    invariant.decided(&trial.scene(), &entry);
    trial.expect_good();
    let roots = [root(KeyId([1; 20]), RootPhase::Active, 1, 1), root(KeyId([2; 20]), RootPhase::Retired, 0, 2)];
    entry.after = state(roots, Vec::new());
    invariant.decided(&trial.scene(), &entry);
    trial.expect_broken(NAME);
}
