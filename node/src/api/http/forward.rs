//! Requests that another datacenter answers: those with its name in `dc`, and in a secondary the writes of what holds everywhere.
//! The token is not looked at here: it may be one of that datacenter alone, which checks it itself.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::Query,
    http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header, request::Parts},
    response::Response,
};
use carrack_authority::{WatchKey, federation::Table};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};
use tower::ServiceExt;

use super::{
    Edge,
    error::{HttpError, RETRY_AFTER},
    parameters::{Parameters, WAIT_DEFAULT},
    routes::Route,
};
use crate::server::datacenters::{CallError, ForwardedRequest, ForwardedResponse};

/// The most blocking queries that wait for other datacenters at once.
const WAITING_MAX: usize = 256;
/// The most other requests that wait for other datacenters at once: none waits long.
const PROMPT_MAX: usize = 256;
/// The most requests without a token among either: anybody can send them.
const ANONYMOUS_MAX: usize = 32;
/// How long another datacenter may take to answer what does not wait for a change: the slowest is a change of the CA configuration, which
/// waits for a rotation.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);
/// The largest answer that is passed on: a list of ten thousand tokens.
pub(crate) const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a write in the primary waits to be here too, so that its sender reads what he wrote.
const HERE_WITHIN: Duration = Duration::from_secs(5);

/// A secret that no token has.
const NOBODY: &str = "nobody";
const CONSUL_TOKEN: HeaderName = HeaderName::from_static("x-consul-token");

/// The places of requests that wait for other datacenters. Who waits for long takes none of those who do not.
pub(super) struct Forwarding {
    waiting: Semaphore,
    prompt: Semaphore,
    anonymous: Semaphore,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            waiting: Semaphore::new(WAITING_MAX),
            prompt: Semaphore::new(PROMPT_MAX),
            anonymous: Semaphore::new(ANONYMOUS_MAX),
        }
    }
}

impl Forwarding {
    fn places(
        &self,
        waits: bool,
        has_token: bool,
    ) -> Result<(SemaphorePermit<'_>, Option<SemaphorePermit<'_>>), HttpError> {
        let kind = if waits { &self.waiting } else { &self.prompt };
        let anonymous = if has_token { None } else { Some(place(&self.anonymous)?) };
        Ok((place(kind)?, anonymous))
    }
}

fn place(of: &Semaphore) -> Result<SemaphorePermit<'_>, HttpError> {
    of.try_acquire().map_err(|_| HttpError::RateLimited { retry_after: RETRY_AFTER })
}

/// A request as it is passed on, should it be.
pub(super) struct Passage {
    parts: Parts,
    body: Bytes,
}

impl Passage {
    pub(super) fn new(parts: Parts, body: Bytes) -> Self {
        Self { parts, body }
    }

    /// Has the request answered by another datacenter.
    pub(super) async fn to(
        self,
        edge: &Arc<Edge>,
        route: &Route,
        parameters: &Parameters,
        datacenter: &str,
    ) -> Result<Response, HttpError> {
        if !route.is_forwardable {
            return Err(HttpError::BadRequest(format!(
                "`dc` names the datacenter `{}`, but this is about the machine that is asked: ask a server or agent there",
                datacenter.escape_default()
            )));
        }
        let body = match route.passed_on {
            _ if route.method == Method::GET => Bytes::new(),
            Some(passed_on) => passed_on(&self.body)?,
            None => self.body.clone(),
        };
        let waits = parameters.index > 0;
        let _places = edge.forwarding.places(waits, parameters.secret.is_some())?;
        let wait = parameters.wait.filter(|wait| !wait.is_zero()).unwrap_or(WAIT_DEFAULT);
        // The jitter is a sixteenth at most.
        let within = if waits { wait + wait / 8 + ANSWER_WITHIN } else { ANSWER_WITHIN };
        let request = ForwardedRequest {
            method: self.parts.method.clone(),
            path_and_query: self.path_and_query(datacenter)?,
            headers: self.headers(parameters),
            body,
        };
        let is_write = route.method != Method::GET;
        let answered = edge.context.others.call(datacenter, request, within).await;
        let answered = answered.map_err(|error| of_call(error, is_write))?;
        if let Some(table) = route.table.filter(|_| answered.status.is_success()) {
            wait_until_here(edge, table, answered.index).await;
        }
        Ok(response(answered))
    }

    /// The path and the query, without the token and with the datacenter that shall answer.
    fn path_and_query(&self, datacenter: &str) -> Result<String, HttpError> {
        let uri = &self.parts.uri;
        let is_kept = |pair: &&str| {
            let name = pair_name(pair);
            !name.is_some_and(|name| name == "token" || name == "dc")
        };
        let kept = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).filter(is_kept);
        let own = format!("dc={datacenter}");
        let query: Vec<&str> = kept.chain([own.as_str()]).collect();
        let text = format!("{}?{}", uri.path(), query.join("&"));
        // The name came from a client: it must not add anything to the query.
        let is_safe = datacenter.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if is_safe {
            Ok(text)
        } else {
            Err(HttpError::NoPath(format!("No path to datacenter `{}`", datacenter.escape_default())))
        }
    }

    fn headers(&self, parameters: &Parameters) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::new();
        for name in [header::CONTENT_TYPE, header::ACCEPT] {
            if let Some(value) = self.parts.headers.get(&name) {
                headers.push((name, value.clone()));
            }
        }
        if let Some(secret) = &parameters.secret {
            // What is no UUID is nobody's token, and may be another system's password: it is not shown around.
            let text = secret.as_uuid().map_or_else(|| NOBODY.to_owned(), |secret| secret.to_string());
            let mut value = HeaderValue::from_str(&text).expect("a UUID is a header's value");
            value.set_sensitive(true);
            headers.push((CONSUL_TOKEN, value));
        }
        headers
    }
}

/// The decoded name of a pair in a query.
fn pair_name(pair: &str) -> Option<String> {
    let uri: Uri = format!("/?{pair}").parse().ok()?;
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&uri).ok()?;
    pairs.into_iter().next().map(|(name, _)| name)
}

fn of_call(error: CallError, is_write: bool) -> HttpError {
    match error {
        CallError::Unknown { .. } => HttpError::NoPath(error.to_string()),
        CallError::Busy(_) => HttpError::RateLimited { retry_after: RETRY_AFTER },
        CallError::OutcomeUnknown(_) if is_write => HttpError::OutcomeUnknown(error.to_string()),
        CallError::Unreachable(_) | CallError::OutcomeUnknown(_) => HttpError::Unavailable(error.to_string()),
    }
}

/// Waits a while until a table of the primary is followed here up to a revision.
async fn wait_until_here(edge: &Edge, table: Table, revision: u64) {
    let deadline = Instant::now() + HERE_WITHIN;
    let replica = &edge.context.replica;
    while Instant::now() < deadline {
        let applied = replica.state();
        // A datacenter that follows nothing is not the one where this is waited for.
        if applied.state.primary().is_none() || applied.state.progress(table).cursor.revision.0 >= revision {
            return;
        }
        let seen = applied.state.modified(&WatchKey::Followed);
        if let Err(error) = replica.wait_for(WatchKey::Followed, seen, deadline).await {
            tracing::debug!(%error, "a write in the primary is not waited for");
            return;
        }
    }
}

/// What is passed on of an answer's headers: those that clients of Consul read.
fn is_passed_on(name: &HeaderName) -> bool {
    let others = [
        header::CONTENT_TYPE,
        header::RETRY_AFTER,
        header::CACHE_CONTROL,
        header::X_CONTENT_TYPE_OPTIONS,
        header::ALLOW,
        header::AGE,
    ];
    let begins = ["x-consul-", "x-carrack-", "x-cache"];
    begins.iter().any(|begin| name.as_str().starts_with(begin)) || others.contains(name)
}

fn response(answered: ForwardedResponse) -> Response {
    let mut response = Response::new(Body::from(answered.body));
    *response.status_mut() = answered.status;
    for (name, mut value) in answered.headers {
        if is_passed_on(&name) {
            value.set_sensitive(false);
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Answers a request that another datacenter's server has passed on, as it would be answered here.
pub(crate) async fn answer_forwarded(edge: &Edge, router: &Router, request: ForwardedRequest) -> ForwardedResponse {
    let uri: Result<Uri, _> = request.path_and_query.parse();
    let Ok(uri) = uri else { return plain(StatusCode::BAD_REQUEST, "the path cannot be decoded") };
    let table = super::routes::written_table(&request.method, uri.path());
    let mut forwarded = Request::new(Body::from(request.body));
    *forwarded.method_mut() = request.method;
    *forwarded.uri_mut() = uri;
    for (name, value) in request.headers {
        forwarded.headers_mut().append(name, value);
    }
    let Ok(response) = router.clone().oneshot(forwarded).await;
    let (parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, ANSWER_BYTES_MAX).await else {
        let text = format!("the answer has more than {ANSWER_BYTES_MAX} bytes: ask a server of that datacenter itself");
        return plain(StatusCode::INSUFFICIENT_STORAGE, &text);
    };
    let index = table.map_or(0, |table| edge.context.replica.state().state.table_revision(table).0);
    let headers = parts.headers.iter().filter(|(name, _)| is_passed_on(name));
    let headers = headers.map(|(name, value)| (name.clone(), value.clone())).collect();
    ForwardedResponse { status: parts.status, headers, body, index }
}

fn plain(status: StatusCode, text: &str) -> ForwardedResponse {
    let media_type = (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    ForwardedResponse { status, headers: vec![media_type], body: Bytes::copy_from_slice(text.as_bytes()), index: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(query: &str, token: &str) -> (Passage, Parameters) {
        let request = Request::builder().uri(format!("/v1/acl/tokens?{query}")).header("cookie", "a=b");
        let request = if token.is_empty() { request } else { request.header("x-consul-token", token) };
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let parameters = Parameters::read(&parts.uri, &parts.headers, "dc1").unwrap();
        (Passage::new(parts, Bytes::new()), parameters)
    }

    const SECRET: &str = "3fae8f1c-5c4d-4c39-9ff9-4d4ba1d5d9a6";

    #[test]
    fn a_token_leaves_the_url_and_nothing_else_of_the_headers_goes_along() {
        for query in [format!("token={SECRET}&dc=dc2&pretty"), format!("dc=dc2&%74oken={SECRET}&pretty")] {
            let (passage, parameters) = passage(&query, "");
            assert_eq!(passage.path_and_query("dc2"), Ok("/v1/acl/tokens?pretty&dc=dc2".into()));
            assert_eq!(passage.headers(&parameters), [(CONSUL_TOKEN, HeaderValue::from_static(SECRET))]);
        }
        let (anonymous, parameters) = passage("dc=dc2", "");
        assert_eq!(anonymous.headers(&parameters), []);
    }

    #[test]
    fn what_cannot_be_a_token_of_ours_is_nobodys_there_too() {
        for other in ["a-password", &"x".repeat(100)] {
            let (passage, parameters) = passage("dc=dc2", other);
            assert_eq!(passage.headers(&parameters), [(CONSUL_TOKEN, HeaderValue::from_static(NOBODY))]);
        }
    }

    #[test]
    fn a_datacenters_name_adds_nothing_to_the_query() {
        let (passage, _) = passage("pretty", SECRET);
        for name in ["dc2&stale", "dc2#", "dc2 ", "dc/2", "dc%32"] {
            assert!(matches!(passage.path_and_query(name), Err(HttpError::NoPath(_))), "{name}");
        }
    }

    #[test]
    fn who_waits_for_long_and_who_has_no_token_take_no_place_of_the_others() {
        let forwarding = Forwarding::default();
        let waiting: Vec<_> = (0..WAITING_MAX).map(|_| forwarding.places(true, true).unwrap()).collect();
        assert!(forwarding.places(true, true).is_err());
        let anonymous: Vec<_> = (0..ANONYMOUS_MAX).map(|_| forwarding.places(false, false).unwrap()).collect();
        assert!(forwarding.places(false, false).is_err());
        assert!(forwarding.places(false, true).is_ok(), "a write with a token");
        drop((waiting, anonymous));
        assert!(forwarding.places(true, false).is_ok());
    }
}
