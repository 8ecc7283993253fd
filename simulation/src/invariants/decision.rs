//! What intentions decide, worked out once more and in another way than the product does: of the four that may be about a pair the
//! most exact one counts, destination before source (Consul's table of precedence).

use std::collections::BTreeMap;

use carrack_authority::{
    State,
    intention::{Effect, Party},
};

/// Every intention, by destination and source; `*` is every service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decisions(BTreeMap<(String, String), bool>);

const ANY: &str = "*";

impl Decisions {
    /// Those of a state. The workloads write none about requests.
    pub fn of(state: &State) -> Self {
        let rows = state.intentions().all().map(|row| {
            let is_allowed = matches!(&row.effect, Effect::Action(action) if action.is_allow());
            ((name(&row.destination), name(&row.source)), is_allowed)
        });
        Self(rows.collect())
    }

    /// One intention.
    #[cfg(test)]
    pub fn one(source: &str, destination: &str, is_allowed: bool) -> Self {
        Self(BTreeMap::from([((destination.to_owned(), source.to_owned()), is_allowed)]))
    }

    /// Whether a connection may be.
    pub fn allows(&self, source: &str, destination: &str, by_default: bool) -> bool {
        let rows = [(destination, source), (destination, ANY), (ANY, source), (ANY, ANY)];
        let mut found = rows.into_iter().filter_map(|(to, from)| self.0.get(&(to.to_owned(), from.to_owned())));
        found.next().copied().unwrap_or(by_default)
    }
}

fn name(party: &Party) -> String {
    party.as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_row_decides_and_without_one_the_default() {
        let rows = [(("db", "web"), true), (("db", ANY), false), ((ANY, "web"), false), ((ANY, ANY), true)];
        let mut decisions = Decisions(rows.map(|((to, from), is)| ((to.to_owned(), from.to_owned()), is)).into());
        assert!(decisions.allows("web", "db", false));
        assert!(!decisions.allows("api", "db", true));
        assert!(!decisions.allows("web", "api", true));
        assert!(decisions.allows("api", "api", false));
        decisions.0.clear();
        assert!(decisions.allows("api", "api", true) && !decisions.allows("api", "api", false));
    }
}
