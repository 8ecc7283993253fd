//! Intentions are read: listed, matched, checked, explained. A blocking query waits for the destinations that it names and for `*`, and
//! for no other.

use std::collections::{BTreeMap, BTreeSet};

use axum::response::Response;
use carrack_authority::{
    WatchKey,
    intention::{
        Decider, Decision, DefaultPolicy, Intention, Party, Request, claims::VerifiedClaims, decide, service_of_path,
    },
    spiffe::Name,
};
use serde::Serialize;
use uuid::Uuid;

use super::{
    access::Right,
    acl_tokens::not_uuid,
    call::{Call, View},
    error::HttpError,
    intention_draft::party,
    intention_shapes::IntentionEntry,
    parameters::parse_uuid,
};

/// The most names of one match: each is waited for by itself.
const MATCHED_NAMES_MAX: usize = 32;
/// The most headers of a request that is explained.
const HEADERS_MAX: usize = 32;
/// Consul's sentence.
pub(super) const NOT_FOUND: &str = "Intention not found";

/// `GET /v1/connect/intentions`
pub(super) async fn list(call: Call) -> Result<Response, HttpError> {
    let (view, index) = call.watched(WatchKey::Intentions).await?;
    let readable = view.state().authorizer(view.token()?);
    let all = view.state().intentions();
    let is_readable = |row: &&Intention| {
        readable.intention_read(row.source.as_str()) || readable.intention_read(row.destination.as_str())
    };
    let mut rows: Vec<&Intention> = all.all().map(|row| &**row).filter(is_readable).collect();
    rows.sort_by(|one, other| one.order().cmp(&other.order()));
    let is_filtered = rows.len() < all.count();
    let entries: Vec<_> = rows.into_iter().map(IntentionEntry::of).collect();
    let answer = call.json(&entries)?.with_index(index).with_freshness(view.freshness).with_filtered(is_filtered);
    Ok(answer.into_response())
}

/// `GET /v1/connect/intentions/match`
pub(super) async fn matching(call: Call) -> Result<Response, HttpError> {
    let is_by_source = match call.parameters.text("by") {
        Some("source") => true,
        Some("destination") => false,
        None => return Err(bad("required query parameter 'by' not set")),
        Some(_) => return Err(bad("'by' parameter must be one of 'source' or 'destination'")),
    };
    let names: Vec<&str> = call.parameters.texts("name").collect();
    if names.is_empty() {
        return Err(bad("required query parameter 'name' not set"));
    }
    if names.len() > MATCHED_NAMES_MAX {
        let text = format!("{} names are asked for, at most {MATCHED_NAMES_MAX} are answered at once", names.len());
        return Err(HttpError::BadRequest(text));
    }
    let parties = names.iter().map(|name| match is_by_source {
        true => service("name", name).map(Party::Service),
        false => party("name", name),
    });
    let parties: Vec<Party> = parties.collect::<Result<_, _>>()?;
    let keys: BTreeSet<WatchKey> = match is_by_source {
        // Which destinations a source has, any write may change.
        true => BTreeSet::from([WatchKey::Intentions]),
        false => parties.iter().map(WatchKey::intentions_of).chain([WatchKey::IntentionsOfAny]).collect(),
    };
    let (view, index) = call.watched_any(&keys.into_iter().collect::<Vec<_>>()).await?;
    let mut matches = BTreeMap::new();
    for (name, party) in names.into_iter().zip(&parties) {
        view.caller.expect(Right::IntentionRead, Some(party.as_str()), view.state())?;
        matches.insert(name, matching_one(&view, is_by_source, party));
    }
    Ok(call.json(&matches)?.with_index(index).with_freshness(view.freshness).into_response())
}

fn matching_one(view: &View, is_by_source: bool, party: &Party) -> Vec<IntentionEntry> {
    let intentions = view.state().intentions();
    match party {
        Party::Service(name) if is_by_source => {
            intentions.matching_source(name).into_iter().map(|row| IntentionEntry::of(row)).collect()
        }
        Party::Service(name) => intentions.matching_destination(name).map(|row| IntentionEntry::of(row)).collect(),
        Party::Any => intentions.of_destination(party).map(|row| IntentionEntry::of(row)).collect(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Checked {
    allowed: bool,
}

/// `GET /v1/connect/intentions/check`
pub(super) async fn check(call: Call) -> Result<Response, HttpError> {
    if let Some(kind) = call.parameters.text("source-type").filter(|kind| *kind != "consul") {
        return Err(HttpError::BadRequest(format!("unsupported SourceType: \"{}\"", kind.escape_default())));
    }
    let (source, destination) = (required_service(&call, "source")?, required_service(&call, "destination")?);
    let view = call.view().await?;
    view.caller.expect(Right::ServiceRead, Some(destination.as_str()), view.state())?;
    let rows: Vec<_> = view.state().intentions().about(&source, &destination).collect();
    let default = call.edge.context.default_policy;
    let decision = decide(rows.iter().map(|row| &***row), &source, &destination, None, default);
    let answer = call.json(&Checked { allowed: decision.is_allowed })?.with_freshness(view.freshness);
    Ok(answer.into_response())
}

/// How a decision came about.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Explained {
    allowed: bool,
    /// In Consul's words.
    reason: String,
    /// What of an intention that is about requests decided; empty where the reason says all.
    detail: String,
    /// The intention that decided; `null`: none is about source and destination.
    intention: Option<IntentionEntry>,
    /// The other intentions about both, in the order of precedence.
    beaten: Vec<IntentionEntry>,
    /// What holds where no intention decides: `allow` or `deny`.
    default: &'static str,
    /// Where that comes from: `default_intention_policy` or `acl`.
    default_from: &'static str,
}

impl Explained {
    fn of(decision: &Decision<'_>, default: DefaultPolicy) -> Self {
        let intention = match decision.decider {
            Decider::L4(intention) | Decider::L7(intention, _) => Some(IntentionEntry::of(intention)),
            Decider::Default(_) => None,
        };
        Self {
            allowed: decision.is_allowed,
            reason: decision.reason(),
            detail: decision.detail(),
            intention,
            beaten: decision.beaten.iter().map(|row| IntentionEntry::of(row)).collect(),
            default: default.action().as_str(),
            default_from: match default {
                DefaultPolicy::Intentions(_) => "default_intention_policy",
                DefaultPolicy::Acl(_) => "acl",
            },
        }
    }
}

/// `GET /v1/carrack/intention/explain`
pub(super) async fn explain(call: Call) -> Result<Response, HttpError> {
    let (source, destination) = (required_service(&call, "source")?, required_service(&call, "destination")?);
    let request = request(&call)?;
    let (view, index) = call.watched_any(&WatchKey::intentions_matching(&destination)).await?;
    view.caller.expect(Right::IntentionRead, Some(destination.as_str()), view.state())?;
    let rows: Vec<_> = view.state().intentions().about(&source, &destination).collect();
    let default = call.edge.context.default_policy;
    let decision = decide(rows.iter().map(|row| &***row), &source, &destination, request.as_ref(), default);
    let answer = call.json(&Explained::of(&decision, default))?.with_index(index).with_freshness(view.freshness);
    Ok(answer.into_response())
}

/// The request of `path`, `method` and each `header`; none without a path.
fn request(call: &Call) -> Result<Option<Request>, HttpError> {
    let headers: Vec<&str> = call.parameters.texts("header").collect();
    let Some(path) = call.parameters.text("path") else {
        let is_alone = call.parameters.text("method").is_none() && headers.is_empty();
        return if is_alone {
            Ok(None)
        } else {
            Err(bad("`method` and `header` are of a request, which needs a `path`"))
        };
    };
    if headers.len() > HEADERS_MAX {
        return Err(HttpError::BadRequest(format!("{} headers, at most {HEADERS_MAX} are looked at", headers.len())));
    }
    let pairs = headers.iter().map(|header| header.split_once(':'));
    let pairs: Option<Vec<(&str, &str)>> = pairs.collect();
    let pairs = pairs.ok_or_else(|| bad("a `header` is written as `Name: value`"))?;
    let method = call.parameters.text("method").unwrap_or("GET");
    Ok(Some(Request::new(method, path, pairs, VerifiedClaims::new())))
}

/// `GET /v1/connect/intentions/exact`
pub(super) async fn read_exact(call: Call) -> Result<Response, HttpError> {
    let (source, destination) = pair(&call)?;
    let read = |view: &View| {
        let found = view.state().intentions().exact(&destination, &source);
        // Who may see neither end is not told whether there is one.
        expect_either_end(view, &source, &destination)?;
        found.map(|row| IntentionEntry::of(row)).ok_or_else(|| HttpError::NotFound(NOT_FOUND.into()))
    };
    call.read(WatchKey::intentions_of(&destination), read).await
}

/// `GET /v1/connect/intentions/<uuid>`
pub(super) async fn read(call: Call) -> Result<Response, HttpError> {
    let id = id(&call)?;
    let not_found = || HttpError::NotFound(NOT_FOUND.into());
    let view = call.view().await?;
    let destination = view.state().intentions().of_legacy_id(id).ok_or_else(not_found)?.destination.clone();
    let read = |view: &View| {
        let row = view.state().intentions().of_legacy_id(id).ok_or_else(not_found)?;
        expect_either_end(view, &row.source, &row.destination)?;
        Ok(IntentionEntry::of(row))
    };
    call.read(WatchKey::intentions_of(&destination), read).await
}

/// Consul's: the right to read either end is enough.
fn expect_either_end(view: &View, source: &Party, destination: &Party) -> Result<(), HttpError> {
    let of_source = view.caller.expect(Right::IntentionRead, Some(source.as_str()), view.state());
    of_source.or_else(|_| view.caller.expect(Right::IntentionRead, Some(destination.as_str()), view.state()))
}

/// The source and the destination that the query names.
pub(super) fn pair(call: &Call) -> Result<(Party, Party), HttpError> {
    let read = |name: &'static str| party(name, required(call, name)?);
    Ok((read("source")?, read("destination")?))
}

/// The id that the path names.
pub(super) fn id(call: &Call) -> Result<Uuid, HttpError> {
    parse_uuid(call.variable()).ok_or_else(|| not_uuid("intention's ID"))
}

fn required<'a>(call: &'a Call, name: &str) -> Result<&'a str, HttpError> {
    let text = call.parameters.text(name);
    text.ok_or_else(|| HttpError::BadRequest(format!("required query parameter '{name}' not set")))
}

fn required_service(call: &Call, name: &str) -> Result<Name, HttpError> {
    service(name, required(call, name)?)
}

fn service(what: &str, text: &str) -> Result<Name, HttpError> {
    service_of_path(text).map_err(|error| HttpError::BadRequest(format!("{what} is invalid: {error}")))
}

fn bad(text: &str) -> HttpError {
    HttpError::BadRequest(text.into())
}
