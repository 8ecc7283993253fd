//! Answers: JSON as Consul prints it, and the headers that its clients read.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{error::HttpError, parameters::Consistency};

/// The index that a blocking query names next.
pub const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
const KNOWN_LEADER: HeaderName = HeaderName::from_static("x-consul-knownleader");
const LAST_CONTACT: HeaderName = HeaderName::from_static("x-consul-lastcontact");
const EFFECTIVE_CONSISTENCY: HeaderName = HeaderName::from_static("x-consul-effective-consistency");
const FILTERED: HeaderName = HeaderName::from_static("x-consul-results-filtered-by-acls");
const DEFAULT_POLICY: HeaderName = HeaderName::from_static("x-consul-default-acl-policy");
const CACHE: HeaderName = HeaderName::from_static("x-cache");
const ROTATION: HeaderName = HeaderName::from_static("x-carrack-rotation");

/// The hash that a blocking query names next, of what has no index or is asked by its content.
pub const CONTENT_HASH: HeaderName = HeaderName::from_static("x-consul-contenthash");
/// How many hexadecimal digits a content's hash has: as Consul's.
const HASH_DIGITS: usize = 16;

/// JSON that clients print for people has this indent in Consul.
const INDENT: &[u8] = b"    ";

/// An answer that is still being put together.
#[derive(Debug)]
pub struct Answer(Response);

/// What Consul says about how fresh an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// How fresh it had to be.
    pub consistency: Consistency,
    /// Whether a leader is known.
    pub is_leader_known: bool,
    /// How long ago this server heard from it.
    pub last_contact: Duration,
}

impl Freshness {
    /// For how long something may have changed unheard: not at all while a leader is heard.
    pub fn staleness(&self) -> Duration {
        if self.is_leader_known { Duration::ZERO } else { self.last_contact }
    }
}

impl Answer {
    /// A value as JSON.
    pub fn json<T: Serialize>(value: &T, is_pretty: bool) -> Result<Self, HttpError> {
        let body = to_json(value, is_pretty).map_err(|error| HttpError::Internal(error.to_string()))?;
        Ok(Self::of("application/json", body))
    }

    /// Text of a media type.
    pub fn of(media_type: &'static str, body: impl Into<Body>) -> Self {
        let mut response = Response::new(body.into());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        Self(response)
    }

    /// Nothing but success.
    pub fn empty() -> Self {
        Self(Response::new(Body::empty()))
    }

    /// Another status than 200.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        *self.0.status_mut() = status;
        self
    }

    /// The index of what was read. It is never zero: a client would not block on it.
    pub fn with_index(self, index: u64) -> Self {
        self.with(INDEX, HeaderValue::from(index.max(1)))
    }

    /// The hash of its content.
    pub fn with_hash(self, hash: &str) -> Self {
        self.with(CONTENT_HASH, HeaderValue::from_str(hash).expect("hexadecimal digits are a header's value"))
    }

    /// How fresh it is.
    pub fn with_freshness(self, freshness: Freshness) -> Self {
        let last_contact = u64::try_from(freshness.last_contact.as_millis()).unwrap_or(u64::MAX);
        self.with(KNOWN_LEADER, truth(freshness.is_leader_known))
            .with(LAST_CONTACT, HeaderValue::from(last_contact))
            .with(EFFECTIVE_CONSISTENCY, HeaderValue::from_static(freshness.consistency.effective()))
    }

    /// Whether rows were left out because the token may not see them.
    pub fn with_filtered(self, is_filtered: bool) -> Self {
        self.with(FILTERED, truth(is_filtered))
    }

    /// The rotation that a change of the CA configuration has begun.
    pub fn with_rotation(self, id: u64) -> Self {
        self.with(ROTATION, HeaderValue::from(id))
    }

    /// Whether it came from this agent's cache, and for how long it was there.
    pub fn with_cache(self, age: Option<Duration>) -> Self {
        match age {
            Some(age) => {
                self.with(CACHE, HeaderValue::from_static("HIT")).with(header::AGE, HeaderValue::from(age.as_secs()))
            }
            None => self.with(CACHE, HeaderValue::from_static("MISS")),
        }
    }

    /// Not for caches between here and the client: it holds a secret.
    pub fn with_secret(self) -> Self {
        self.with(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
    }

    /// The answer, put together.
    pub fn into_response(self) -> Response {
        self.0
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers_mut().insert(name, value);
        self
    }
}

/// The hash of a content.
pub fn content_hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let digest = parts.into_iter().fold(Sha256::new(), |digest, part| digest.chain_update(part)).finalize();
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    digits[..HASH_DIGITS].to_owned()
}

/// What every answer says: nothing is allowed by default.
pub fn add_default_policy(response: &mut Response) {
    response.headers_mut().insert(DEFAULT_POLICY, HeaderValue::from_static("deny"));
}

fn truth(is_true: bool) -> HeaderValue {
    HeaderValue::from_static(if is_true { "true" } else { "false" })
}

fn to_json<T: Serialize>(value: &T, is_pretty: bool) -> serde_json::Result<Vec<u8>> {
    if !is_pretty {
        return serde_json::to_vec(value);
    }
    let mut body = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(INDENT);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut body, formatter))?;
    body.push(b'\n');
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_never_zero_and_freshness_is_told_as_consul_does() {
        let freshness = Freshness {
            consistency: Consistency::Default,
            is_leader_known: true,
            last_contact: Duration::from_millis(12),
        };
        let response = Answer::empty().with_index(0).with_freshness(freshness).into_response();
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("x-consul-index"), "1");
        assert_eq!(header("x-consul-knownleader"), "true");
        assert_eq!(header("x-consul-lastcontact"), "12");
        assert_eq!(header("x-consul-effective-consistency"), "leader");
    }
}
