//! Stories told by commands, with what came of each: `UPDATE_EXPECT=1` writes them anew, then read the difference.

use std::{fmt::Write, time::Duration};

use carrack_authority::{
    Command, Entry, Outcome, Proposal, State,
    id::NodeId,
    root::{Ca, RootPhase},
    time::Timestamp,
};

use crate::world::START;

/// One story: a state, its clock, and what was written down so far.
pub(crate) struct Transcript {
    pub(crate) state: State,
    pub(crate) now: Timestamp,
    text: String,
}

impl Transcript {
    pub(crate) fn new(state: State) -> Self {
        Self { state, now: START, text: String::new() }
    }

    pub(crate) fn title(&mut self, title: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        writeln!(self.text, "{gap}# {title}").unwrap();
    }

    /// Lets time pass; the next entry carries it.
    pub(crate) fn wait(&mut self, duration: Duration) {
        self.now = self.now.plus(duration);
        writeln!(self.text, "  ... {} s later", duration.as_secs()).unwrap();
    }

    /// Server 1 proposes a command.
    pub(crate) fn step(&mut self, what: &str, command: Command) -> Outcome {
        self.step_of(1, what, command)
    }

    /// A server proposes a command, in an entry of its own.
    pub(crate) fn step_of(&mut self, proposer: u64, what: &str, command: Command) -> Outcome {
        let before = records(&self.state);
        let entry = Entry { stamp: self.now, proposals: vec![Proposal { proposer: NodeId(proposer), command }] };
        let mut applied = self.state.apply(self.state.index() + 1, &entry);
        let outcome = applied.outcomes.remove(0);
        let from = if proposer == 1 { String::new() } else { format!(" (by server {proposer})") };
        let came = match &outcome {
            Outcome::Done if records(&self.state) == before => "done: nothing changed".into(),
            Outcome::Done => format!("done: {:?}", applied.touched),
            Outcome::Recorded { sequence } => format!("recorded as {sequence}"),
            Outcome::Admitted { node } => format!("admitted as server {node}"),
            Outcome::Rejected(rejection) => format!("REFUSED [{}] {rejection}", rejection.code()),
        };
        writeln!(self.text, "{} {what}{from}\n    {came}", self.state.index()).unwrap();
        outcome
    }

    /// Writes down what the state says now.
    pub(crate) fn show(&mut self) {
        let state = &self.state;
        let mut lines = Vec::new();
        for member in state.members() {
            let leaving = if member.is_leaving { ", leaving" } else { "" };
            let certificate = if member.certificate.is_some() { "certificate" } else { "no certificate" };
            lines.push(format!("server {} `{}`: {certificate}{leaving}", member.node, member.name));
        }
        lines.extend(state.removed_members().map(|gone| format!("server {} `{}`: removed", gone.node, gone.name)));
        for (ca, name) in [(Ca::Server, "server"), (Ca::Mesh, "mesh")] {
            let phases = state.roots(ca).bundle().iter().map(|root| root.phase.as_str()).collect::<Vec<_>>();
            assert!(state.roots(ca).bundle().iter().filter(|root| root.phase == RootPhase::Active).count() <= 1);
            lines.push(format!("{name} roots: {phases:?}, activation {}", state.roots(ca).activation()));
        }
        for issuer in state.issuers() {
            let counts = state.issuances().counts(&issuer.id);
            let (current, unexpired) = (counts.current, counts.unexpired);
            let (node, phase) = (issuer.node, issuer.phase);
            lines
                .push(format!("issuer of server {node}: {phase:?}, {current} current of {unexpired} unexpired leaves"));
        }
        let log = state.issuances();
        let (length, unexpired, current) = (log.length(), log.unexpired(), log.current());
        lines.push(format!(
            "issuance log: {length} long, {unexpired} unexpired, {current} current, head {}",
            log.head()
        ));
        for record in log.after(0) {
            let superseded = record.superseded_by.map(|by| format!(", superseded by {by}")).unwrap_or_default();
            let (sequence, identity, holder) = (record.sequence, &record.issuance.identity, &record.issuance.holder);
            lines.push(format!("  {sequence} {identity} for {holder}{superseded}"));
        }
        for line in lines {
            writeln!(self.text, "  | {line}").unwrap();
        }
    }

    pub(crate) fn check(&self, name: &str) {
        let path = format!("{}/tests/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        expect_test::expect_file![path].assert_eq(&self.text);
    }
}

/// Everything but the head, whose index and time each entry moves.
fn records(state: &State) -> Vec<carrack_authority::state::StateRecord> {
    state.to_records().skip(1).collect()
}
