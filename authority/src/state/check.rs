//! Checks that several commands share. None of them changes anything.

use crate::{
    id::{NodeId, Revision},
    key::Der,
    outcome::Rejection,
};

/// Compare-and-set: the record must be as the proposer saw it.
pub(super) fn unchanged(what: impl Into<String>, expected: Revision, found: Revision) -> Result<(), Rejection> {
    if expected == found { Ok(()) } else { Err(Rejection::Conflict { what: what.into(), expected, found }) }
}

/// A command about a server comes from that server alone.
pub(super) fn from_itself(node: NodeId, proposer: NodeId) -> Result<(), Rejection> {
    if node == proposer { Ok(()) } else { Err(Rejection::WrongProposer { node, proposer }) }
}

/// One more of something that has a bound.
pub(super) fn room(what: &str, count: usize, limit: usize) -> Result<(), Rejection> {
    if count < limit { Ok(()) } else { Err(Rejection::LimitReached { what: what.into(), limit: limit as u64 }) }
}

/// A list with a bound.
pub(super) fn at_most(what: &str, count: usize, limit: usize) -> Result<(), Rejection> {
    if count <= limit { Ok(()) } else { Err(Rejection::LimitReached { what: what.into(), limit: limit as u64 }) }
}

/// A text with a bound.
pub(super) fn text(what: &str, value: &str, bytes_max: usize) -> Result<(), Rejection> {
    if value.len() <= bytes_max {
        return Ok(());
    }
    Err(invalid(what, format!("it has {} bytes, at most {bytes_max} are allowed", value.len())))
}

/// An encoded value with a bound.
pub(super) fn der(what: &str, value: &Der, bytes_max: usize) -> Result<(), Rejection> {
    let bytes = value.as_bytes().len();
    let reason = || format!("it has {bytes} bytes, 1 to {bytes_max} are allowed");
    if (1..=bytes_max).contains(&bytes) { Ok(()) } else { Err(invalid(what, reason())) }
}

pub(super) fn not_found(what: impl Into<String>) -> Rejection {
    Rejection::NotFound { what: what.into() }
}

pub(super) fn invalid(what: impl Into<String>, reason: impl Into<String>) -> Rejection {
    Rejection::Invalid { what: what.into(), reason: reason.into() }
}
