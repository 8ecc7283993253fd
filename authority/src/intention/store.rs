//! The intentions of a datacenter and the ways to find them. What is asked of a destination costs what that destination has.

use std::{ops::Bound, sync::Arc};

use imbl::{OrdMap, OrdSet};
use uuid::Uuid;

use super::{Intention, IntentionKey, Party};
use crate::spiffe::Name;

/// Intentions. Cloning is cheap: the maps are persistent.
#[derive(Clone, Debug, Default)]
pub struct Intentions {
    /// No destination is empty.
    by_destination: OrdMap<Party, Destination>,
    destinations_of: OrdMap<Party, OrdSet<Party>>,
    by_key: OrdMap<IntentionKey, Arc<Intention>>,
    by_legacy_id: OrdMap<Uuid, IntentionKey>,
}

/// What is about one destination.
#[derive(Clone, Debug, Default)]
struct Destination {
    by_source: OrdMap<Party, Arc<Intention>>,
    bytes: usize,
}

impl Intentions {
    pub(crate) fn put(&mut self, intention: Arc<Intention>) {
        let key = intention.key();
        self.delete(key);
        let (destination, source) = (intention.destination.clone(), intention.source.clone());
        if let Some(id) = intention.legacy_id {
            self.by_legacy_id.insert(id, key);
        }
        self.destinations_of.entry(source.clone()).or_default().insert(destination.clone());
        self.by_key.insert(key, intention.clone());
        let found = self.by_destination.entry(destination).or_default();
        found.bytes += intention.bytes();
        found.by_source.insert(source, intention);
    }

    pub(crate) fn delete(&mut self, key: IntentionKey) -> Option<Arc<Intention>> {
        let intention = self.by_key.remove(&key)?;
        let (destination, source) = (&intention.destination, &intention.source);
        if let Some(found) = self.by_destination.get_mut(destination)
            && found.by_source.remove(source).is_some()
        {
            found.bytes -= intention.bytes();
            if found.by_source.is_empty() {
                self.by_destination.remove(destination);
            }
        }
        if let Some(destinations) = self.destinations_of.get_mut(source) {
            destinations.remove(destination);
            if destinations.is_empty() {
                self.destinations_of.remove(source);
            }
        }
        if let Some(id) = intention.legacy_id
            && self.by_legacy_id.get(&id) == Some(&key)
        {
            self.by_legacy_id.remove(&id);
        }
        Some(intention)
    }

    /// The one of exactly this destination and this source.
    pub fn exact(&self, destination: &Party, source: &Party) -> Option<&Arc<Intention>> {
        self.by_destination.get(destination)?.by_source.get(source)
    }

    /// The one of this key.
    pub fn of_key(&self, key: IntentionKey) -> Option<&Arc<Intention>> {
        self.by_key.get(&key)
    }

    /// The one that Consul's deprecated API made under this id.
    pub fn of_legacy_id(&self, id: Uuid) -> Option<&Arc<Intention>> {
        self.of_key(*self.by_legacy_id.get(&id)?)
    }

    /// Those of exactly this destination, in the order of precedence: its config entry.
    pub fn of_destination<'a>(&'a self, destination: &Party) -> impl Iterator<Item = &'a Arc<Intention>> + use<'a> {
        self.by_destination.get(destination).into_iter().flat_map(|found| found.by_source.values())
    }

    /// How many bytes those of exactly this destination have, a few more or less.
    pub fn bytes_of_destination(&self, destination: &Party) -> usize {
        self.by_destination.get(destination).map_or(0, |found| found.bytes)
    }

    /// Whether there is any of exactly this destination.
    pub fn has_destination(&self, destination: &Party) -> bool {
        self.by_destination.contains_key(destination)
    }

    /// Every destination that has some.
    pub fn destinations(&self) -> impl Iterator<Item = &Party> {
        self.by_destination.keys()
    }

    /// Those that a connection to this service may meet, in the order of precedence: its own, then those of every destination.
    pub fn matching_destination<'a>(
        &'a self,
        destination: &Name,
    ) -> impl Iterator<Item = &'a Arc<Intention>> + use<'a> {
        self.of_destination(&Party::Service(destination.clone())).chain(self.of_destination(&Party::Any))
    }

    /// Those that a connection from this service may meet, in the order of precedence.
    pub fn matching_source(&self, source: &Name) -> Vec<&Arc<Intention>> {
        let sources = [Party::Service(source.clone()), Party::Any];
        let found = sources.iter().flat_map(|source| {
            let destinations = self.destinations_of.get(source).into_iter().flatten();
            destinations.filter_map(move |destination| self.exact(destination, source))
        });
        let mut found: Vec<_> = found.collect();
        found.sort_by(|one, other| one.order().cmp(&other.order()));
        found
    }

    /// Those about both, in the order of precedence: all that [`decide`](super::decide) needs, at most four.
    pub fn about<'a>(
        &'a self,
        source: &Name,
        destination: &Name,
    ) -> impl Iterator<Item = &'a Arc<Intention>> + use<'a> {
        let source = Party::Service(source.clone());
        let destinations = [Party::Service(destination.clone()), Party::Any];
        destinations.into_iter().flat_map(move |destination| {
            let exact = self.exact(&destination, &source);
            exact.into_iter().chain(self.exact(&destination, &Party::Any))
        })
    }

    /// Every one, by destination, each in the order of precedence.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Intention>> {
        self.by_destination.values().flat_map(|found| found.by_source.values())
    }

    /// Every one after a key, by key.
    pub fn after(&self, key: Option<IntentionKey>) -> impl Iterator<Item = &Arc<Intention>> {
        let start = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_key.range((start, Bound::Unbounded)).map(|(_, intention)| intention)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_key.len()
    }
}
