//! Intentions in the order of their sources, as an agent keeps those of a destination: in as few bytes as they have, and those about one
//! source are found without a look at the others, of which there may be ten thousand.

use super::{Intention, Party};
use crate::spiffe::Name;

/// Intentions that lie in the order of their sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntentionsBySource(Box<[Intention]>);

impl IntentionsBySource {
    /// Puts them in order.
    pub fn new(mut intentions: Vec<Intention>) -> Self {
        intentions.sort_by(|one, other| one.source.cmp(&other.source));
        Self(intentions.into())
    }

    /// Those about this source: its own, and those of every source.
    pub fn about(&self, source: &Name) -> impl Iterator<Item = &Intention> + Clone {
        self.of(&Party::Service(source.clone())).iter().chain(self.of(&Party::Any))
    }

    fn of(&self, source: &Party) -> &[Intention] {
        let start = self.0.partition_point(|intention| intention.source < *source);
        let end = start + self.0[start..].partition_point(|intention| intention.source == *source);
        &self.0[start..end]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        id::Revision,
        intention::{Action, Effect},
        time::Timestamp,
    };

    fn row(source: &str, destination: &str) -> Intention {
        let party = |text: &str| Party::parse("party", text).unwrap();
        Intention {
            destination: party(destination),
            source: party(source),
            effect: Effect::Action(Action::Allow),
            jwt: None,
            description: String::new(),
            meta: BTreeMap::new(),
            legacy_id: None,
            created_at: Timestamp(1),
            updated_at: Timestamp(1),
            created: Revision(1),
            modified: Revision(1),
        }
    }

    #[test]
    fn those_about_a_source_are_all_that_name_it_or_every_source() {
        let pairs = [("web", "db"), ("*", "db"), ("api", "db"), ("*", "*"), ("web", "*"), ("webs", "db"), ("we", "db")];
        let rows: Vec<Intention> = pairs.iter().map(|(source, destination)| row(source, destination)).collect();
        let by_source = IntentionsBySource::new(rows.clone());
        for source in ["web", "api", "we", "other", "a", "zz"] {
            let source = Name::parse("source", source).unwrap();
            let mut expected: Vec<&Intention> = rows.iter().filter(|row| row.source.contains(&source)).collect();
            let mut found: Vec<&Intention> = by_source.about(&source).collect();
            for rows in [&mut expected, &mut found] {
                rows.sort_by_key(|row| row.order());
            }
            assert_eq!(found, expected, "{source}");
        }
        assert_eq!(IntentionsBySource::default().about(&Name::parse("source", "web").unwrap()).count(), 0);
    }
}
