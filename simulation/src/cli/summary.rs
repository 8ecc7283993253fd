//! What many seeds came to, as tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use tokio::time::Instant;

use crate::{
    marks::Mark,
    world::{Report, shared::Counts},
};

/// See the module.
pub(super) struct Summary {
    began: Instant,
    seeds: u64,
    failed: u64,
    simulated: Duration,
    events: u64,
    counts: Counts,
    marks: BTreeMap<Mark, u64>,
    violations: BTreeMap<String, BTreeSet<u64>>,
}

impl Summary {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            seeds: 0,
            failed: 0,
            simulated: Duration::ZERO,
            events: 0,
            counts: Counts::default(),
            marks: BTreeMap::new(),
            violations: BTreeMap::new(),
        }
    }

    /// Adds a seed; how fast it goes so far.
    pub(super) fn add(&mut self, report: &Report) -> String {
        self.seeds += 1;
        self.failed += u64::from(!report.violations.is_empty());
        self.simulated += Duration::from_micros(report.simulated_micros);
        self.events += report.events;
        self.counts.add(&report.counts);
        report.marks.iter().for_each(|mark| *self.marks.entry(*mark).or_default() += 1);
        for violation in &report.violations {
            self.violations.entry(violation.invariant.clone()).or_default().insert(report.seed);
        }
        format!("{:.0}x real time, {} failed", self.speed(), self.failed)
    }

    pub(super) fn failures(&self) -> usize {
        usize::try_from(self.failed).unwrap_or(usize::MAX)
    }

    /// The situations that no seed hit.
    pub(super) fn missed_marks(&self) -> Vec<&'static str> {
        Mark::ALL.iter().filter(|mark| !self.marks.contains_key(mark)).map(|mark| mark.name()).collect()
    }

    fn speed(&self) -> f64 {
        self.simulated.as_secs_f64() / self.began.elapsed().as_secs_f64().max(1e-3)
    }

    #[expect(clippy::print_stdout, reason = "this is a command line")]
    pub(super) fn print(&self) {
        println!(
            "{} seeds, {} failed; {:.0} simulated seconds in {:.0} s ({:.0}x real time); {} events, {} applied entries checked, {} handshakes",
            self.seeds,
            self.failed,
            self.simulated.as_secs_f64(),
            self.began.elapsed().as_secs_f64(),
            self.speed(),
            self.events,
            self.counts.applied,
            self.counts.handshakes,
        );
        println!("{}", self.operations());
        println!(
            "{}",
            table(
                ["fault", "times"],
                self.counts.faults.iter().map(|(class, times)| [class.clone(), times.to_string()])
            )
        );
        let marks = Mark::ALL
            .iter()
            .map(|mark| [mark.name().to_owned(), self.marks.get(mark).copied().unwrap_or(0).to_string()]);
        println!("{}", table(["situation", "seeds"], marks));
        if !self.violations.is_empty() {
            let rows = self.violations.iter().map(|(invariant, seeds)| {
                [invariant.clone(), seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")]
            });
            println!("{}", table(["does not hold", "seeds"], rows));
        }
    }

    fn operations(&self) -> Table {
        let kinds: BTreeSet<&String> = self.counts.operations.keys().chain(self.counts.failures.keys()).collect();
        let count = |table: &BTreeMap<String, u64>, kind: &String| table.get(kind).copied().unwrap_or(0).to_string();
        let rows = kinds
            .into_iter()
            .map(|kind| [kind.clone(), count(&self.counts.operations, kind), count(&self.counts.failures, kind)]);
        table(["operation", "done", "refused or unknown"], rows)
    }
}

fn table<const COLUMNS: usize>(head: [&str; COLUMNS], rows: impl Iterator<Item = [String; COLUMNS]>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(head);
    rows.for_each(|row| {
        table.add_row(row);
    });
    table
}
