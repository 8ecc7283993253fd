//! The query parameters and headers that all of Consul's routes share: consistency, blocking, token, datacenter.

use std::{fmt, time::Duration};

use axum::{
    extract::Query,
    http::{HeaderMap, Uri, header},
};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{error::HttpError, span};

/// How long a blocking query waits if it does not say.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(300);
/// How long a blocking query waits at most.
pub const WAIT_MAX: Duration = Duration::from_secs(600);
/// The most parameters: the longest known request has nine.
const PARAMETERS_MAX: usize = 64;
/// The longest query: names and ids are short.
const QUERY_BYTES_MAX: usize = 8 * 1024;
/// The longest secret that is looked at: a UUID has 36 characters.
const SECRET_BYTES_MAX: usize = 64;

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// As the leader has committed it. Consul's default trusts the leader's lease; here it is a read index as well.
    #[default]
    Default,
    /// As the leader has committed it, confirmed by a majority.
    Consistent,
    /// As this server has applied it.
    Stale,
}

impl Consistency {
    /// Consul's value of `X-Consul-Effective-Consistency`.
    pub const fn effective(self) -> &'static str {
        match self {
            Self::Default => "leader",
            Self::Consistent => "consistent",
            Self::Stale => "stale",
        }
    }
}

/// What a request shows as its token's secret: a UUID, or something that is nobody's. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct PresentedSecret(Zeroizing<String>);

impl PresentedSecret {
    /// The UUID, written with hyphens; anything else is no secret.
    pub fn as_uuid(&self) -> Option<Uuid> {
        parse_uuid(&self.0)
    }
}

impl fmt::Debug for PresentedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedSecret(...)")
    }
}

/// A UUID in its one form with hyphens: braces, URNs and bare digits are refused.
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    let is_hyphenated = text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_hyphenated.then(|| Uuid::try_parse(text).ok()).flatten()
}

/// What a request says beside its path and body.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    /// Answer when the index is above this one; zero: at once.
    pub index: u64,
    /// Answer when the content has another hash than this one, whatever its index.
    pub hash: Option<String>,
    /// How long to wait for that.
    pub wait: Option<Duration>,
    /// How fresh the answer must be.
    pub consistency: Consistency,
    /// With `stale`: how old the last word of the leader may be.
    pub max_stale: Option<Duration>,
    /// Of what an agent knows: for how long no server may have been heard. The only directive of `Cache-Control` that means something
    /// here: what is followed needs neither `max-age` nor `must-revalidate`, and Consul too ignores them for it.
    pub stale_if_error: Option<Duration>,
    /// Whether JSON is indented.
    pub is_pretty: bool,
    /// The token.
    pub secret: Option<PresentedSecret>,
    /// The datacenter that shall answer, if it is another one.
    pub other_datacenter: Option<String>,
    others: Vec<(String, String)>,
}

impl Parameters {
    /// Reads query and headers. `datacenter` is ours.
    pub fn read(uri: &Uri, headers: &HeaderMap, datacenter: &str) -> Result<Self, HttpError> {
        let bad = |text: &str| HttpError::BadRequest(text.into());
        if uri.query().is_some_and(|query| query.len() > QUERY_BYTES_MAX) {
            return Err(bad("the query has more than 8192 bytes"));
        }
        let Query(pairs) =
            Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|_| bad("the query cannot be decoded"))?;
        if pairs.len() > PARAMETERS_MAX {
            return Err(bad("the query has more than 64 parameters"));
        }
        let mut read = Self { others: pairs, ..Self::default() };
        read.other_datacenter = read.text("dc").filter(|dc| *dc != datacenter).map(str::to_owned);
        read.refuse_unoffered()?;
        read.index = match read.text("index") {
            Some(text) => text.parse().map_err(|_| bad("Invalid index"))?,
            None => 0,
        };
        let wait = read.text("wait").map(|text| span::parse(text).ok_or_else(|| bad("Invalid wait time")));
        read.wait = wait.transpose()?.map(|wait| wait.min(WAIT_MAX));
        let max_stale =
            read.text("max_stale").map(|text| span::parse(text).ok_or_else(|| bad("Invalid max_stale value")));
        read.max_stale = max_stale.transpose()?;
        read.consistency = read.read_consistency()?;
        read.hash = read.text("hash").map(str::to_owned);
        read.stale_if_error = stale_if_error(headers)?;
        read.is_pretty = read.has("pretty");
        read.secret = read.take_secret(headers);
        Ok(read)
    }

    fn refuse_unoffered(&self) -> Result<(), HttpError> {
        for (name, default) in [("ns", "default"), ("partition", "default"), ("peer", "local")] {
            if let Some(value) = self.text(name).filter(|value| *value != default) {
                let value = value.escape_default();
                return Err(HttpError::BadRequest(format!(
                    "Invalid query parameter: \"{name}\" - `{value}`: namespaces, partitions and peers are not here"
                )));
            }
        }
        if self.text("filter").is_some() {
            return Err(HttpError::BadRequest(
                "Invalid query parameter: \"filter\": expressions are not offered here; leave it out, and choose among the rows of the answer"
                    .into(),
            ));
        }
        if self.has("expanded") && self.text("expanded") != Some("false") {
            return Err(HttpError::NotImplemented("the query parameter `expanded` is not offered here".into()));
        }
        Ok(())
    }

    fn read_consistency(&self) -> Result<Consistency, HttpError> {
        let is_stale = self.has("stale") || self.max_stale.is_some();
        match (is_stale, self.has("consistent")) {
            (true, true) => {
                let text = "Cannot specify ?stale with ?consistent, conflicting semantics.";
                Err(HttpError::BadRequest(text.into()))
            }
            (true, false) if self.has("leader") => {
                Err(HttpError::BadRequest("Cannot specify ?stale with ?leader, conflicting semantics.".into()))
            }
            (true, false) => Ok(Consistency::Stale),
            (false, true) => Ok(Consistency::Consistent),
            (false, false) => Ok(Consistency::Default),
        }
    }

    /// `?token=`, then `X-Consul-Token`, then `Authorization: Bearer`; an empty one counts as none, as with Consul.
    fn take_secret(&mut self, headers: &HeaderMap) -> Option<PresentedSecret> {
        let (tokens, others) = std::mem::take(&mut self.others).into_iter().partition(|(name, _)| name == "token");
        self.others = others;
        let tokens: Vec<(String, String)> = tokens;
        let mut tokens = tokens.into_iter().map(|(_, secret)| Zeroizing::new(secret));
        let of_query = tokens.next().filter(|secret| !secret.is_empty());
        let of_header = || headers.get("x-consul-token").filter(|value| !value.is_empty()).map(secret_text);
        let bearer = || bearer(headers.get(header::AUTHORIZATION)?.as_bytes());
        let secret = of_query.or_else(of_header).or_else(bearer)?;
        let is_possible = secret.len() <= SECRET_BYTES_MAX;
        Some(PresentedSecret(if is_possible { secret } else { Zeroizing::default() }))
    }

    /// Whether a blocking query waits no longer, as far as its index says: who asks by hash says nothing by it.
    pub fn is_newer(&self, index: u64) -> bool {
        self.hash.is_some() || self.index == 0 || index > self.index
    }

    /// The same by the hash.
    pub fn is_other(&self, hash: &str) -> bool {
        self.hash.as_deref().is_none_or(|asked| asked != hash)
    }

    /// Refuses an answer that is staler than the request takes.
    pub fn take_staleness(&self, staleness: Duration, why: impl FnOnce() -> String) -> Result<(), HttpError> {
        match self.stale_if_error {
            Some(most) if staleness > most => Err(HttpError::Unavailable(format!(
                "what is known here is {} s old, and stale-if-error takes {} s; {}",
                staleness.as_secs(),
                most.as_secs(),
                why()
            ))),
            _ => Ok(()),
        }
    }

    /// The first value of a parameter; an empty one counts as none.
    pub fn text(&self, name: &str) -> Option<&str> {
        let found = self.others.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Every value of a parameter, in their order.
    pub fn texts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.others.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.others.iter().any(|(other, _)| other == name)
    }

    /// A parameter that is yes or no, in the forms that Go reads.
    pub fn flag(&self, name: &str) -> Result<bool, HttpError> {
        match self.text(name) {
            None => Ok(false),
            Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(true),
            Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(false),
            Some(_) => {
                let text = format!("The {name} query parameter must be a boolean value");
                Err(HttpError::BadRequest(text))
            }
        }
    }

    /// A parameter that is a whole number.
    pub fn number(&self, name: &str) -> Result<Option<u64>, HttpError> {
        let parse = |text: &str| text.parse().map_err(|_| HttpError::BadRequest(format!("Invalid {name}")));
        self.text(name).map(parse).transpose()
    }
}

/// Directives are parted by commas, in Consul's examples also by spaces alone.
fn stale_if_error(headers: &HeaderMap) -> Result<Option<Duration>, HttpError> {
    let values = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let directives = values.flat_map(|value| value.split([',', ' '])).filter_map(|directive| directive.split_once('='));
    let mut found = directives.filter(|(name, _)| name.eq_ignore_ascii_case("stale-if-error"));
    let Some((_, seconds)) = found.next() else { return Ok(None) };
    let seconds = seconds.trim_matches('"').parse();
    let bad = |_| HttpError::BadRequest("Invalid stale-if-error in Cache-Control: write a number of seconds".into());
    seconds.map(Duration::from_secs).map(Some).map_err(bad)
}

fn secret_text(value: &axum::http::HeaderValue) -> Zeroizing<String> {
    Zeroizing::new(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn bearer(value: &[u8]) -> Option<Zeroizing<String>> {
    let (scheme, secret) = value.split_at_checked("bearer ".len())?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return None;
    }
    let secret = String::from_utf8_lossy(secret.trim_ascii());
    (!secret.is_empty()).then(|| Zeroizing::new(secret.into_owned()))
}

#[cfg(test)]
mod tests;
