//! Which hosts reach which. Faults may overlap: a direction of a link is open again when the last of its faults has ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::world::shared::Shared;

/// From one host to another.
pub(super) type Direction = (String, String);

/// What faults do to links.
pub(super) struct Links {
    shared: Arc<Shared>,
    cut: BTreeMap<Direction, usize>,
    stalled: BTreeSet<String>,
}

impl Links {
    /// Every link is open.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, cut: BTreeMap::new(), stalled: BTreeSet::new() }
    }

    /// What was on its way between an agent and a server is lost, and with it their connection.
    fn disturb(&self, direction: &Direction) {
        let ends = [&direction.0, &direction.1];
        ends.into_iter()
            .filter(|host| self.shared.agents.contains_key(*host))
            .for_each(|host| self.shared.disturb(host));
    }

    /// Cuts directions. Links of a stalled host stay as they are: turmoil cannot hold back and cut one link.
    pub(super) fn cut(&mut self, sim: &turmoil::Sim<'static>, directions: &[Direction]) -> Vec<Direction> {
        let free = |host: &String| !self.stalled.contains(host);
        let directions: Vec<Direction> =
            directions.iter().filter(|(from, to)| free(from) && free(to)).cloned().collect();
        for direction in &directions {
            self.disturb(direction);
            let count = self.cut.entry(direction.clone()).or_default();
            *count += 1;
            if *count == 1 {
                sim.partition_oneway(direction.0.as_str(), direction.1.as_str());
            }
        }
        directions
    }

    /// Ends one fault of each direction.
    pub(super) fn mend(&mut self, sim: &turmoil::Sim<'static>, directions: &[Direction]) {
        for direction in directions {
            self.disturb(direction);
            let Some(count) = self.cut.get_mut(direction) else { continue };
            *count -= 1;
            if *count == 0 {
                self.cut.remove(direction);
                sim.repair_oneway(direction.0.as_str(), direction.1.as_str());
            }
        }
    }

    /// Holds back everything that `host` sends and is sent; whether that was possible.
    pub(super) fn stall(&mut self, sim: &turmoil::Sim<'static>, host: &str, others: &[String]) -> bool {
        let is_cut = self.cut.keys().any(|(from, to)| from == host || to == host);
        if is_cut || !self.stalled.is_empty() {
            return false;
        }
        self.stalled.insert(host.to_owned());
        self.shared.disturb(host);
        others.iter().for_each(|other| sim.hold(host, other.as_str()));
        true
    }

    /// Delivers what was held back.
    pub(super) fn release(&mut self, sim: &turmoil::Sim<'static>, host: &str, others: &[String]) {
        if self.stalled.remove(host) {
            self.shared.disturb(host);
            others.iter().for_each(|other| sim.release(host, other.as_str()));
        }
    }

    /// Opens every direction that a fault has cut.
    pub(super) fn mend_all(&mut self, sim: &turmoil::Sim<'static>) {
        self.cut.keys().for_each(|direction| self.disturb(direction));
        for (from, to) in std::mem::take(&mut self.cut).into_keys() {
            sim.repair_oneway(from.as_str(), to.as_str());
        }
    }
}
