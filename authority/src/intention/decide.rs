//! Whether a source may reach a destination: one pure function, with its reason in Consul's words and what it went past.
//!
//! Of the intentions about both the one of the highest precedence decides; among several of one precedence deny beats allow. An L7
//! intention is asked about the request: its first permission that fits decides, and if none fits, the default does. Without a request,
//! or with one that can be read in two ways, it denies.

use std::{fmt, iter};

use super::{
    Action, Ambiguous, Effect, Intention, Pattern, Permission, Request,
    permission::{HeaderTest, PathTest, ValueTest},
    request::Parts,
};
use crate::spiffe::Name;

/// What decides where no intention does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultPolicy {
    /// `DefaultIntentionPolicy`, which is set.
    Intentions(Action),
    /// What ACLs do with what no rule names.
    Acl(Action),
}

impl DefaultPolicy {
    /// What it says.
    pub const fn action(self) -> Action {
        match self {
            Self::Intentions(action) | Self::Acl(action) => action,
        }
    }
}

/// How an L7 intention came to its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum L7Verdict {
    /// There was no request to look at.
    NoRequest,
    /// The request's JWT does not say what the intention requires.
    JwtMissing,
    /// The request can be read in two ways.
    Ambiguous(Ambiguous),
    /// This permission, from 0, cannot be compared with the request: the header that it names came more than once, or its regular
    /// expression is one that this build does not take.
    Unclear(usize),
    /// This permission, from 0, is the first that fits.
    Permission(usize),
    /// The intention is an action that holds because the request's JWT says what is required.
    JwtPresent,
    /// No permission fits: the default decided.
    NoneFits(DefaultPolicy),
}

/// Who decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decider<'a> {
    /// An intention that is about connections.
    L4(&'a Intention),
    /// An intention that is about requests.
    L7(&'a Intention, L7Verdict),
    /// Nothing is about source and destination.
    Default(DefaultPolicy),
}

/// A decision and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Whether the source may.
    pub is_allowed: bool,
    /// Who decided.
    pub decider: Decider<'a>,
    /// The other intentions about source and destination, in the order of precedence.
    pub beaten: Vec<&'a Intention>,
}

impl<'a> Decision<'a> {
    /// The intention that decided, or was asked first.
    pub const fn intention(&self) -> Option<&'a Intention> {
        match self.decider {
            Decider::L4(intention) | Decider::L7(intention, _) => Some(intention),
            Decider::Default(_) => None,
        }
    }

    /// The reason, in Consul's words.
    pub fn reason(&self) -> String {
        self.decider.to_string()
    }

    /// More than the reason: what of an L7 intention decided. Empty where the reason says all.
    pub fn detail(&self) -> String {
        match &self.decider {
            Decider::L7(intention, verdict) => verdict.explain(intention),
            _ => String::new(),
        }
    }
}

impl fmt::Display for Decider<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::L4(intention) => write!(f, "Matched L4 intention: {intention}"),
            Self::L7(intention, _) => write!(f, "Matched L7 intention: {intention}"),
            Self::Default(DefaultPolicy::Intentions(_)) => f.write_str("Default intention policy"),
            Self::Default(DefaultPolicy::Acl(_)) => f.write_str("Default behavior configured by ACLs"),
        }
    }
}

impl L7Verdict {
    fn explain(&self, intention: &Intention) -> String {
        let of = intention.permissions().len();
        match self {
            Self::NoRequest => "it is about requests, and there was none to look at: denied".into(),
            Self::JwtMissing => "the request has no JWT that says what the intention requires: denied".into(),
            Self::Ambiguous(why) => format!("{why}: denied"),
            Self::Unclear(place) => {
                let permission = intention.permissions().get(*place);
                let why = match permission.and_then(Permission::pattern_not_taken) {
                    Some(pattern) => {
                        format!("this version does not take its regular expression `{}`", pattern.as_str())
                    }
                    None => "a header that it names came more than once".into(),
                };
                format!("permission {} of {of} cannot be compared with the request, {why}: denied", place + 1)
            }
            Self::Permission(place) => {
                let action = intention.permissions().get(*place).map_or(Action::Deny, |permission| permission.action);
                format!("permission {} of {of} fits first: {action}", place + 1)
            }
            Self::JwtPresent => "the request's JWT says what the intention requires".into(),
            Self::NoneFits(default) => {
                format!("none of {of} permissions fits: {} ({})", Decider::Default(*default), default.action())
            }
        }
    }
}

/// Decides among the intentions that are about both; the rest is left out, and their order does not matter.
pub fn decide<'a>(
    intentions: impl IntoIterator<Item = &'a Intention>,
    source: &Name,
    destination: &Name,
    request: Option<&Request>,
    default: DefaultPolicy,
) -> Decision<'a> {
    let intentions = intentions.into_iter().filter(|intention| intention.is_about(source, destination));
    let asked = intentions.map(|intention| (intention, ask(intention, request, default)));
    let mut asked: Vec<_> = asked.collect();
    // Of one precedence those that deny come first.
    asked.sort_by_key(|(intention, (action, _))| (intention.order().0, *action, intention.order()));
    let mut asked = asked.into_iter();
    let Some((first, (action, verdict))) = asked.next() else {
        let is_allowed = default.action().is_allow();
        return Decision { is_allowed, decider: Decider::Default(default), beaten: Vec::new() };
    };
    let decider = verdict.map_or(Decider::L4(first), |verdict| Decider::L7(first, verdict));
    Decision { is_allowed: action.is_allow(), decider, beaten: asked.map(|(intention, _)| intention).collect() }
}

/// What one intention says, and how an L7 intention came to it.
fn ask(intention: &Intention, request: Option<&Request>, default: DefaultPolicy) -> (Action, Option<L7Verdict>) {
    if let Effect::Action(action) = &intention.effect
        && (intention.jwt.is_none() || *action == Action::Deny)
    {
        return (*action, None);
    }
    let Some(request) = request else { return (Action::Deny, Some(L7Verdict::NoRequest)) };
    if intention.jwt.as_ref().is_some_and(|jwt| !jwt.is_met_by(request.claims())) {
        return (Action::Deny, Some(L7Verdict::JwtMissing));
    }
    let (action, verdict) = match &intention.effect {
        Effect::Action(action) => (*action, L7Verdict::JwtPresent),
        Effect::Permissions(permissions) => ask_permissions(permissions, request, default),
    };
    (action, Some(verdict))
}

fn ask_permissions(permissions: &[Permission], request: &Request, default: DefaultPolicy) -> (Action, L7Verdict) {
    let parts = match request.parts() {
        Ok(parts) => parts,
        Err(why) => return (Action::Deny, L7Verdict::Ambiguous(why.clone())),
    };
    for (place, permission) in permissions.iter().enumerate() {
        match permission.fits(parts, request) {
            Some(true) => return (permission.action, L7Verdict::Permission(place)),
            Some(false) => {}
            None => return (Action::Deny, L7Verdict::Unclear(place)),
        }
    }
    (default.action(), L7Verdict::NoneFits(default))
}

impl Permission {
    fn pattern_not_taken(&self) -> Option<&Pattern> {
        self.patterns().find(|pattern| !pattern.is_taken())
    }

    /// Whether it fits; `None` if that cannot be said.
    fn fits(&self, parts: &Parts, request: &Request) -> Option<bool> {
        let is_method = self.methods.is_empty() || self.methods.iter().any(|it| it.as_str() == parts.method);
        if !is_method || self.jwt.as_ref().is_some_and(|jwt| !jwt.is_met_by(request.claims())) {
            return Some(false);
        }
        let headers = self.headers.iter().map(|header| header.fits(parts));
        all(iter::once(self.path.fits(&parts.path)).chain(headers))
    }
}

/// One that does not fit is enough; else one of which it cannot be said.
fn all(tests: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut is_clear = true;
    for test in tests {
        match test {
            Some(true) => {}
            Some(false) => return Some(false),
            None => is_clear = false,
        }
    }
    is_clear.then_some(true)
}

impl PathTest {
    fn fits(&self, path: &str) -> Option<bool> {
        match self {
            Self::Any => Some(true),
            Self::Exact(exact) => Some(path == exact),
            Self::Prefix(prefix) => Some(path.starts_with(prefix)),
            Self::Regex(pattern) => pattern.fits(path),
        }
    }
}

impl HeaderTest {
    fn fits(&self, parts: &Parts) -> Option<bool> {
        let values = parts.header(&self.name);
        self.value.fits(values, self.ignores_case).map(|fits| fits != self.is_inverted)
    }
}

impl ValueTest {
    /// A header that came more than once has no one value: which of them its reader takes is not known here.
    fn fits(&self, values: &[String], ignores_case: bool) -> Option<bool> {
        let fold = |text: &str| if ignores_case { text.to_ascii_lowercase() } else { text.to_owned() };
        match (self, values) {
            (Self::Present, values) => Some(!values.is_empty()),
            (_, []) => Some(false),
            (Self::Contains(part), values) => {
                let part = fold(part);
                Some(values.iter().any(|value| fold(value).contains(&part)))
            }
            (Self::Exact(exact), [value]) => Some(fold(value) == fold(exact)),
            (Self::Prefix(prefix), [value]) => Some(fold(value).starts_with(&fold(prefix))),
            (Self::Suffix(suffix), [value]) => Some(fold(value).ends_with(&fold(suffix))),
            (Self::Regex(pattern), [value]) => pattern.fits(value),
            (Self::Exact(_) | Self::Prefix(_) | Self::Suffix(_) | Self::Regex(_), _) => None,
        }
    }
}

#[cfg(test)]
mod tests;
