//! The search for an order of the steps. A configuration is what has happened and what the register holds; each is tried
//! once. Unknown steps happen only where the next known one needs them: elsewhere they would change nothing, or can wait.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{ABSENT, Needs, Problem, State, UNNAMED};

/// How a search ended.
pub(super) enum Ending {
    /// There is an order.
    Found,
    /// There is none.
    Impossible {
        /// The operations of the longest order.
        prefix: Vec<usize>,
        /// The operations of which one had to follow.
        stuck: Vec<usize>,
    },
    /// The limit came first.
    GaveUp,
}

/// A step by its place in the problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Known(usize),
    Unknown(usize),
}

#[derive(Clone, Debug)]
struct Configuration {
    /// All known steps before this one have happened.
    first_open: usize,
    /// The known steps behind it that have happened, ascending.
    beyond: Vec<usize>,
    /// The unknown steps that have happened, ascending.
    used: Vec<usize>,
    state: State,
}

impl Configuration {
    fn has(&self, name: Name) -> bool {
        match name {
            Name::Known(step) => step < self.first_open || self.beyond.binary_search(&step).is_ok(),
            Name::Unknown(step) => self.used.binary_search(&step).is_ok(),
        }
    }

    fn happened(&self) -> usize {
        self.first_open + self.beyond.len()
    }

    fn apply(&mut self, name: Name, gives: Option<State>) {
        let (list, step) = match name {
            Name::Known(step) => (&mut self.beyond, step),
            Name::Unknown(step) => (&mut self.used, step),
        };
        let place = list.binary_search(&step).unwrap_or_else(|place| place);
        list.insert(place, step);
        let adjacent = self.beyond.iter().zip(self.first_open..).take_while(|(step, open)| **step == *open).count();
        self.beyond.drain(..adjacent);
        self.first_open += adjacent;
        self.state = gives.unwrap_or(self.state);
    }
}

/// The unknown steps that have happened, those that are interchangeable only as their number.
struct Spent {
    deletes: usize,
    needless_writes: usize,
    others: Vec<usize>,
}

impl Spent {
    /// Whether whatever can follow on `more` can follow on this, because what is unknown need not happen.
    fn is_within(&self, more: &Self) -> bool {
        self.deletes <= more.deletes
            && self.needless_writes <= more.needless_writes
            && self.others.iter().all(|step| more.others.binary_search(step).is_ok())
    }
}

/// The configurations that were tried.
#[derive(Default)]
struct Tried(BTreeMap<(usize, Vec<usize>, State), Vec<Spent>>);

impl Tried {
    /// Adds a configuration, unless one from which as much can follow was tried.
    fn insert(&mut self, next: &Configuration, spent: Spent) -> bool {
        let tried = self.0.entry((next.first_open, next.beyond.clone(), next.state)).or_default();
        let is_new = !tried.iter().any(|less| less.is_within(&spent));
        if is_new {
            tried.retain(|more| !spent.is_within(more));
            tried.push(spent);
        }
        is_new
    }
}

struct Node {
    configuration: Configuration,
    /// The node before it and the steps from there.
    parent: usize,
    steps: Vec<Name>,
    /// A state that open steps need and that cannot come again: nothing is tried from here.
    lost: Option<State>,
}

/// One search.
pub(super) struct Search<'a> {
    problem: &'a Problem,
    writers: BTreeMap<State, Vec<Name>>,
    /// The known steps that need a state.
    needers: BTreeMap<State, Vec<usize>>,
    /// The steps for which it makes a difference whether a state is there.
    carers: BTreeMap<State, Vec<Name>>,
    nodes: Vec<Node>,
    tried: Tried,
}

impl<'a> Search<'a> {
    /// A search for an order of the problem's steps.
    pub(super) fn new(problem: &'a Problem) -> Self {
        let (mut writers, mut needers, mut carers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let known = problem.known.iter().enumerate().map(|(step, known)| (Name::Known(step), known));
        let unknown = problem.unknown.iter().enumerate().map(|(step, unknown)| (Name::Unknown(step), unknown));
        for (name, step) in known.chain(unknown) {
            if let Some(state) = step.gives {
                writers.entry(state).or_insert_with(Vec::new).push(name);
            }
            if let Needs::Exactly(state) | Needs::OtherThan(state) = step.needs {
                carers.entry(state).or_insert_with(Vec::new).push(name);
            }
            if let (Needs::Exactly(state), Name::Known(known)) = (step.needs, name) {
                needers.entry(state).or_insert_with(Vec::new).push(known);
            }
        }
        Self { problem, writers, needers, carers, nodes: Vec::new(), tried: Tried::default() }
    }

    /// Searches depth first.
    pub(super) fn run(mut self, configurations_max: usize) -> Ending {
        let start = Configuration { first_open: 0, beyond: vec![], used: vec![], state: ABSENT };
        self.nodes.push(Node { configuration: start, parent: 0, steps: vec![], lost: None });
        let mut stack = vec![0];
        while let Some(node) = stack.pop() {
            let configuration = self.nodes[node].configuration.clone();
            if configuration.first_open == self.problem.known.len() {
                return Ending::Found;
            }
            // The likeliest successor comes last, so that it is tried first.
            for steps in self.successors(&configuration).into_iter().rev() {
                let (next, lost) = self.after(&configuration, &steps);
                if lost.is_none() && !self.tried.insert(&next, self.spent(&next)) {
                    continue;
                }
                if lost.is_none() {
                    stack.push(self.nodes.len());
                }
                self.nodes.push(Node { configuration: next, parent: node, steps, lost });
            }
            if self.nodes.len() > configurations_max {
                return Ending::GaveUp;
            }
        }
        self.explain()
    }

    fn explain(&self) -> Ending {
        let happened = |node: &usize| (self.nodes[*node].configuration.happened(), std::cmp::Reverse(*node));
        let best = (0..self.nodes.len()).max_by_key(happened).expect("the search has a first node");
        let (mut prefix, mut node) = (Vec::new(), best);
        while node != 0 {
            prefix.extend(self.nodes[node].steps.iter().rev().map(|step| self.step(*step).operation));
            node = self.nodes[node].parent;
        }
        prefix.reverse();
        let Node { configuration, lost, .. } = &self.nodes[best];
        let stuck = match lost {
            Some(state) => self.open_needers(*state, configuration).collect(),
            None => self.candidates(configuration),
        };
        Ending::Impossible { prefix, stuck: stuck.iter().map(|step| self.problem.known[*step].operation).collect() }
    }

    fn step(&self, name: Name) -> &super::model::Step {
        match name {
            Name::Known(step) => &self.problem.known[step],
            Name::Unknown(step) => &self.problem.unknown[step],
        }
    }

    /// The known steps that can come next: those that began before any other open one had ended. The earliest end first.
    fn candidates(&self, configuration: &Configuration) -> Vec<usize> {
        let (mut found, mut horizon) = (Vec::new(), None);
        for (step, known) in self.problem.known.iter().enumerate().skip(configuration.first_open) {
            if horizon.is_some_and(|horizon| horizon < known.begin) {
                break;
            }
            if !configuration.has(Name::Known(step)) {
                horizon = Some(horizon.map_or(known.end, |horizon| known.end.min(horizon)));
                found.push(step);
            }
        }
        found.retain(|step| horizon.is_some_and(|horizon| self.problem.known[*step].begin < horizon));
        found.sort_by_key(|step| self.problem.known[*step].end);
        found
    }

    /// The ways to go on, each ending with one known step.
    fn successors(&self, configuration: &Configuration) -> Vec<Vec<Name>> {
        let candidates = self.candidates(configuration);
        let state = configuration.state;
        let needs = |step: &usize| self.problem.known[*step].needs;
        let is_met = |step: &usize| self.problem.is_met(needs(step), state);
        // A step that changes nothing and can happen now need not wait.
        let free = candidates.iter().find(|step| self.problem.known[**step].gives.is_none() && is_met(step));
        if let Some(free) = free {
            return vec![vec![Name::Known(*free)]];
        }
        let (ready, waiting): (Vec<usize>, Vec<usize>) = candidates.iter().partition(|step| is_met(step));
        let (hidden, ready) = self.split_hidden(&ready, candidates.first().copied());
        let mut ways: Vec<Vec<Name>> =
            ready.iter().map(|step| self.with_hidden(&[Name::Known(*step)], &hidden)).collect();
        let horizon = candidates.first().map(|first| self.problem.known[*first].end);
        let available: Vec<usize> = (0..self.problem.unknown.len())
            .take_while(|unknown| horizon.is_some_and(|horizon| self.problem.unknown[*unknown].begin < horizon))
            .filter(|unknown| !configuration.has(Name::Unknown(*unknown)))
            .collect();
        for step in waiting {
            for chain in self.chains(needs(&step), configuration, &available) {
                let chain: Vec<Name> = chain.into_iter().map(Name::Unknown).chain([Name::Known(step)]).collect();
                ways.push(self.with_hidden(&chain, &hidden));
            }
        }
        ways
    }

    /// The configuration after more steps, and a state that was left although an open step needs it and every step that
    /// gives it has happened.
    fn after(&self, configuration: &Configuration, steps: &[Name]) -> (Configuration, Option<State>) {
        let mut next = configuration.clone();
        let mut left = Vec::with_capacity(steps.len());
        for step in steps {
            left.push(next.state);
            next.apply(*step, self.step(*step).gives);
        }
        let is_past = |state: &State| {
            let mut writers = self.writers.get(state).into_iter().flatten();
            *state != next.state && writers.all(|writer| next.has(*writer))
        };
        let is_lost = |state: &State| is_past(state) && self.open_needers(*state, &next).next().is_some();
        let lost = left.into_iter().find(is_lost);
        next.state = self.plain(next.state, &next);
        (next, lost)
    }

    fn open_needers(&self, state: State, configuration: &Configuration) -> impl Iterator<Item = usize> {
        let needers = self.needers.get(&state).into_iter().flatten().copied();
        needers.filter(|needer| !configuration.has(Name::Known(*needer)))
    }

    /// The state that does for this one: a value that no step cares for any more is as good as one that nobody names.
    fn plain(&self, state: State, configuration: &Configuration) -> State {
        let mut carers = self.carers.get(&state).into_iter().flatten();
        let is_needless = state != ABSENT && carers.all(|carer| configuration.has(*carer));
        if is_needless && !self.problem.has_unseen_revisions { UNNAMED } else { state }
    }

    fn spent(&self, configuration: &Configuration) -> Spent {
        let mut spent = Spent { deletes: 0, needless_writes: 0, others: Vec::new() };
        for &used in &configuration.used {
            let step = &self.problem.unknown[used];
            let gives = step.gives.map(|gives| self.plain(gives, configuration));
            match gives.filter(|_| step.needs == Needs::Anything) {
                Some(ABSENT) => spent.deletes += 1,
                Some(UNNAMED) => spent.needless_writes += 1,
                _ => spent.others.push(used),
            }
        }
        spent
    }

    /// Of the steps that can happen now, those that need not happen on their own, and the others. A write of a value that
    /// nobody names can happen right before the next one that overwrites it, if no conflict could show the difference;
    /// unless the others wait for its end.
    fn split_hidden(&self, ready: &[usize], first: Option<usize>) -> (Vec<usize>, Vec<usize>) {
        let is_hidden = |step: usize| {
            let known = &self.problem.known[step];
            !self.problem.has_vague_needs && known.needs == Needs::Anything && known.gives == Some(UNNAMED)
        };
        let hidden = ready.iter().copied().filter(|step| is_hidden(*step)).collect();
        (hidden, ready.iter().copied().filter(|step| !is_hidden(*step) || Some(*step) == first).collect())
    }

    /// The steps, after those that they overwrite.
    fn with_hidden(&self, steps: &[Name], hidden: &[usize]) -> Vec<Name> {
        let is_overwriting = steps.first().is_some_and(|first| self.step(*first).needs == Needs::Anything);
        let hidden = hidden.iter().map(|step| Name::Known(*step));
        let before = hidden.filter(|hidden| is_overwriting && !steps.contains(hidden));
        before.chain(steps.iter().copied()).collect()
    }

    /// The shortest sequences of unknown steps that lead from a configuration to a state that meets `needs`.
    fn chains(&self, needs: Needs, from: &Configuration, available: &[usize]) -> Vec<Vec<usize>> {
        let mut chains = Vec::new();
        let mut interchangeable = BTreeSet::new();
        for &last in available {
            let step = &self.problem.unknown[last];
            let gives = step.gives.expect("only steps that change something are unknown");
            if !self.problem.is_met(needs, gives) {
                continue;
            }
            // Of deletes, and of writes of values that nobody cares for, the one that began first stands for the others.
            let plain = self.plain(gives, from);
            let is_like_others = step.needs == Needs::Anything && matches!(plain, ABSENT | UNNAMED);
            if is_like_others && !interchangeable.insert(plain) {
                continue;
            }
            if self.problem.is_met(step.needs, from.state) {
                chains.push(vec![last]);
            } else if !matches!(needs, Needs::OtherThan(_)) {
                // One step is enough to leave a state; to reach one, the last step can need others before it.
                let others: Vec<usize> = available.iter().copied().filter(|other| *other != last).collect();
                let before = self.chains(step.needs, from, &others).into_iter();
                chains.extend(before.map(|chain| [chain, vec![last]].concat()));
            }
        }
        chains
    }
}
