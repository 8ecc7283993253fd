//! Intentions are written, each row by itself or a whole destination at once, and how their readers are woken: per destination.

use std::{collections::BTreeSet, sync::Arc};

use super::{Change, State, check};
use crate::{
    federation::{Page, Table},
    id::Revision,
    intention::{
        Effect, Intention, IntentionKey, Intentions, Party,
        bounds::{self, DESTINATION_BYTES_MAX, INTENTIONS_MAX, SERVICE_INTENTIONS_BYTES_MAX},
    },
    outcome::{Outcome, Rejection, WatchKey},
    planted::{self, Bug},
    spiffe::Name,
};

/// What is said of intentions where only the primary may write them.
const WHAT: &str = "an intention";

impl State {
    /// The intentions.
    pub const fn intentions(&self) -> &Intentions {
        &self.intentions
    }

    /// The entry that changed the intentions of exactly this destination last; zero: it has none.
    pub fn destination_revision(&self, destination: &Party) -> Revision {
        match self.intentions.has_destination(destination) {
            true => self.modified(&WatchKey::intentions_of(destination)),
            false => Revision::default(),
        }
    }

    /// The entry that changed last which intentions a connection to this service may meet.
    pub fn match_revision(&self, destination: &Name) -> Revision {
        WatchKey::intentions_matching(destination).iter().map(|key| self.modified(key)).max().unwrap_or_default()
    }

    pub(super) fn put_intention(
        &mut self,
        change: &mut Change,
        expected: Revision,
        intention: &Intention,
    ) -> Result<Outcome, Rejection> {
        self.only_in_primary(WHAT)?;
        let mut intention = intention.clone();
        // What a JWT must say, a destination says: a row that comes by itself is no way around it.
        if let Some(other) = self.intentions.of_destination(&intention.destination).next() {
            intention.jwt.clone_from(&other.jwt);
        }
        let Some(intention) = self.with_former(change, &intention) else { return Ok(Outcome::Done) };
        check::unchanged(what(&intention), expected, intention.modified)?;
        if intention.modified == Revision::default() {
            check::room("intentions", self.intentions.count(), INTENTIONS_MAX)?;
        }
        self.check_room_at_destination(&intention)?;
        self.check_intention(change, &intention)?;
        self.write_intention(change, intention);
        Ok(Outcome::Done)
    }

    pub(super) fn delete_intention(
        &mut self,
        change: &mut Change,
        destination: &Party,
        source: &Party,
    ) -> Result<Outcome, Rejection> {
        self.only_in_primary(WHAT)?;
        if let Some(found) = self.intentions.exact(destination, source) {
            let key = found.key();
            self.forget_intention(change, key);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn put_service_intentions(
        &mut self,
        change: &mut Change,
        expected: Option<Revision>,
        destination: &Party,
        intentions: &[Intention],
    ) -> Result<Outcome, Rejection> {
        self.only_in_primary(WHAT)?;
        check_whole(destination, intentions)?;
        let sources: BTreeSet<&Party> = intentions.iter().map(|intention| &intention.source).collect();
        let gone = self.intentions.of_destination(destination).filter(|found| !sources.contains(&found.source));
        let gone: Vec<IntentionKey> = gone.map(|found| found.key()).collect();
        let put: Vec<Intention> =
            intentions.iter().filter_map(|intention| self.with_former(change, intention)).collect();
        if gone.is_empty() && put.is_empty() {
            return Ok(Outcome::Done);
        }
        self.check_expected(destination, expected)?;
        let new = put.iter().filter(|intention| intention.modified == Revision::default()).count();
        check::at_most("intentions", self.intentions.count() + new - gone.len(), INTENTIONS_MAX)?;
        for intention in &put {
            if intention.modified == change.revision() {
                return Err(change.written_here(what(intention)));
            }
            self.check_intention(change, intention)?;
        }
        // In this order the destination is never without any.
        for intention in put {
            self.write_intention(change, intention);
        }
        for key in gone {
            self.forget_intention(change, key);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn delete_service_intentions(
        &mut self,
        change: &mut Change,
        expected: Option<Revision>,
        destination: &Party,
    ) -> Result<Outcome, Rejection> {
        self.only_in_primary(WHAT)?;
        self.check_expected(destination, expected)?;
        let gone: Vec<IntentionKey> = self.intentions.of_destination(destination).map(|found| found.key()).collect();
        for key in gone {
            self.forget_intention(change, key);
        }
        Ok(Outcome::Done)
    }

    /// The intention as it would be there, with the times and revisions of the one before; `None` if that is the same.
    fn with_former(&self, change: &Change, intention: &Intention) -> Option<Intention> {
        let former = self.intentions.exact(&intention.destination, &intention.source);
        let mut intention = intention.clone();
        let first = (change.revision(), Revision::default(), change.now, change.now);
        (intention.created, intention.modified, intention.created_at, intention.updated_at) =
            former.map_or(first, |former| (former.created, former.modified, former.created_at, former.updated_at));
        (former.map(|former| &**former) != Some(&intention)).then_some(intention)
    }

    fn check_expected(&self, destination: &Party, expected: Option<Revision>) -> Result<(), Rejection> {
        let found = self.destination_revision(destination);
        let what = || format!("the destination `{destination}`");
        expected.map_or(Ok(()), |expected| check::unchanged(what(), expected, found))
    }

    /// Everything that could be wrong with a row that is about to be written.
    fn check_intention(&self, change: &Change, intention: &Intention) -> Result<(), Rejection> {
        let key = intention.key();
        if intention.modified == Revision::default() {
            change.check_made_once(&what(intention), key.0)?;
            if self.intentions.of_key(key).is_some() {
                return Err(Rejection::AlreadyExists { what: format!("another intention with the key {}", key.0) });
            }
        }
        let owner = intention.legacy_id.and_then(|id| self.intentions.of_legacy_id(id));
        if owner.is_some_and(|owner| owner.key() != key) {
            return Err(Rejection::AlreadyExists { what: "an intention with this ID".into() });
        }
        check_intention_form(intention)
    }

    /// Agents are told all that is about a destination at once.
    fn check_room_at_destination(&self, intention: &Intention) -> Result<(), Rejection> {
        let former = self.intentions.exact(&intention.destination, &intention.source);
        let others = self.intentions.bytes_of_destination(&intention.destination);
        let others = others - former.map_or(0, |former| former.bytes());
        check::at_most("bytes of the intentions of one destination", others + intention.bytes(), DESTINATION_BYTES_MAX)
    }

    fn write_intention(&mut self, change: &mut Change, mut intention: Intention) {
        (intention.modified, intention.updated_at) = (change.revision(), change.now);
        self.note_for_secondaries(change, Table::Intentions, intention.key().0);
        self.keep_intention(change, intention);
    }

    fn forget_intention(&mut self, change: &mut Change, key: IntentionKey) {
        if let Some(gone) = self.drop_intention(change, key) {
            change.unmake(key.0, gone.modified);
            self.note_for_secondaries(change, Table::Intentions, key.0);
        }
    }

    fn drop_intention(&mut self, change: &mut Change, key: IntentionKey) -> Option<Arc<Intention>> {
        let gone = self.intentions.delete(key)?;
        self.touch_intentions_of(change, &gone.destination);
        Some(gone)
    }

    fn keep_intention(&mut self, change: &mut Change, intention: Intention) {
        let destination = intention.destination.clone();
        self.intentions.put(Arc::new(intention));
        self.touch_intentions_of(change, &destination);
    }

    /// A destination's revision is kept for as long as it has intentions: names that come and go leave nothing behind.
    fn touch_intentions_of(&mut self, change: &mut Change, destination: &Party) {
        let key = WatchKey::intentions_of(destination);
        change.touch(WatchKey::Intentions);
        change.touch(key);
        if planted::is(Bug::OneWakeUpForAll) {
            change.touch(WatchKey::IntentionsOfAny);
        }
        if self.intentions.has_destination(destination) {
            self.modified.insert(key, change.revision());
        } else if key != WatchKey::IntentionsOfAny {
            self.modified.remove(&key);
            change.touch(WatchKey::IntentionsGone);
        }
    }

    pub(super) fn check_followed_intentions(&self, put: &[Intention]) -> Result<(), Rejection> {
        // Those that the primary has deleted meanwhile may still be here while its table is read anew.
        let new = put.iter().filter(|intention| self.intentions.of_key(intention.key()).is_none()).count();
        check::at_most("intentions", self.intentions.count() + new, 2 * INTENTIONS_MAX)?;
        put.iter().try_for_each(check_intention_form)
    }

    pub(super) fn follow_intentions(
        &mut self,
        change: &mut Change,
        page: Option<&Page>,
        put: &[Intention],
        deleted: &[IntentionKey],
    ) {
        let mut gone = deleted.to_vec();
        if let Some(page) = page {
            let heard: BTreeSet<IntentionKey> = put.iter().map(Intention::key).collect();
            let here = self.intentions.after(page.after.map(IntentionKey)).map(|intention| intention.key());
            let here = here.take_while(|key| page.contains(key.0));
            gone.extend(here.filter(|key| !heard.contains(key)));
        }
        // In this order a destination that changes is never without any.
        for heard in put {
            self.follow_intention(change, heard);
        }
        for key in gone {
            self.drop_intention(change, key);
        }
    }

    fn follow_intention(&mut self, change: &mut Change, heard: &Intention) {
        let found = self.intentions.of_key(heard.key());
        let first = (change.revision(), change.revision());
        let (created, modified) = found.map_or(first, |found| (found.created, found.modified));
        let mut intention = Intention { created, modified, ..heard.clone() };
        if found.is_some_and(|found| **found == intention) {
            return;
        }
        intention.modified = change.revision();
        // An ID has one owner in the primary: whoever has it here is another one there, or gone, and a later change says so.
        let owner = intention.legacy_id.and_then(|id| self.intentions.of_legacy_id(id));
        if let Some(other) = owner.map(|owner| owner.key()).filter(|owner| *owner != intention.key()) {
            self.drop_intention(change, other);
        }
        self.keep_intention(change, intention);
    }
}

fn what(intention: &Intention) -> String {
    format!("the intention `{}` => `{}`", intention.source, intention.destination)
}

/// The bounds and the form of an intention, which hold wherever it was written. Its expressions were compiled by whoever proposed it.
pub(super) fn check_intention_form(intention: &Intention) -> Result<(), Rejection> {
    if let Effect::Permissions(permissions) = &intention.effect {
        if permissions.is_empty() {
            return Err(check::invalid(what(intention), "it has neither an action nor permissions"));
        }
        if intention.destination == Party::Any {
            let reason = "Permissions cannot be specified on intentions with wildcarded destinations";
            return Err(check::invalid(what(intention), reason));
        }
    }
    bounds::check(intention).map_err(|error| check::invalid(what(intention), error.to_string()))
}

/// What must hold among the rows of a destination that is written as a whole.
fn check_whole(destination: &Party, intentions: &[Intention]) -> Result<(), Rejection> {
    let wrong = |reason: &str| Err(check::invalid(format!("the destination `{destination}`"), reason));
    if intentions.is_empty() {
        return wrong("At least one source is required");
    }
    if intentions.iter().any(|intention| intention.destination != *destination) {
        return wrong("one of them is of another destination");
    }
    let bytes = intentions.iter().map(Intention::bytes).sum();
    check::at_most("bytes of a whole destination", bytes, SERVICE_INTENTIONS_BYTES_MAX)?;
    let sources: BTreeSet<&Party> = intentions.iter().map(|intention| &intention.source).collect();
    let ids = intentions.iter().filter_map(|intention| intention.legacy_id);
    let distinct: BTreeSet<_> = ids.clone().collect();
    if sources.len() != intentions.len() || distinct.len() != ids.count() {
        return wrong("a source or an ID is there more than once");
    }
    Ok(())
}
