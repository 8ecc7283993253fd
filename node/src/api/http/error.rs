//! What goes wrong between a request and its answer, and the one function that makes HTTP of it. The body begins with
//! Consul's text where its clients match on it; the stable machine code is in a header. No text here holds a secret.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use carrack_authority::outcome::Rejection;

use crate::server::desk;

/// The header with the stable machine code of an error.
pub const ERROR_CODE: HeaderName = HeaderName::from_static(desk::ERROR_CODE);
/// How long a client should wait before it asks a busy server again, unless something better is known.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a request has no other answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The request is wrong, whoever sent it.
    #[error("{0}")]
    BadRequest(String),
    /// The body is no JSON object of the expected form.
    #[error("Request decode failed: {0}")]
    BadBody(String),
    /// A field that this route does not know.
    #[error("Request decode failed: {what} has the unknown field `{field}`; known are {known}")]
    UnknownField {
        /// What was read.
        what: &'static str,
        /// The field.
        field: String,
        /// The fields that are known.
        known: String,
    },
    /// The request asks for a feature of Consul that carrack does not have, or not yet.
    #[error("{0}")]
    NotImplemented(String),
    /// The path is one of Consul's that carrack does not offer.
    #[error("{0}")]
    NotOffered(String),
    /// The token's secret is nobody's, or its token has ended.
    #[error("ACL not found")]
    AclNotFound,
    /// The token may not do that.
    #[error("Permission denied: {0}")]
    PermissionDenied(String),
    /// What the request names does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The path exists, not with this method.
    #[error("method {method} not allowed; allowed: {allowed}")]
    MethodNotAllowed {
        /// The method.
        method: String,
        /// Those of the path, as the header `Allow` has them.
        allowed: String,
    },
    /// The body came too slowly.
    #[error("the body did not arrive within {0:?}")]
    BodyTimeout(Duration),
    /// Somebody was faster, or what is there forbids it.
    #[error("{0}")]
    Conflict(String),
    /// The body has too many bytes.
    #[error("Request body too large, max size: {bytes_max} bytes")]
    BodyTooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// The server has enough to do.
    #[error("Rate limit reached, try again later")]
    RateLimited {
        /// When it may have room.
        retry_after: Duration,
    },
    /// No server leads.
    #[error("No cluster leader")]
    NoLeader,
    /// It may have been done or not.
    #[error("the outcome is unknown: {0}; it may have been done, read before you try again")]
    OutcomeUnknown(String),
    /// It was not done, and may work later.
    #[error("{0}")]
    Unavailable(String),
    /// Issuing is halted.
    #[error("issuing is halted; an operator resumes it with `carrack ca unhalt`")]
    Halted,
    /// The primary, which may have halted issuing, was not heard for too long.
    #[error("{0}")]
    HaltUnknown(String),
    /// The replicated state refused.
    #[error("{0}")]
    Rejected(Rejection),
    /// Another datacenter is named that is not known here; Consul's status and sentence.
    #[error("{0}")]
    NoPath(String),
    /// A defect of carrack's.
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<Rejection> for HttpError {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Halted => Self::Halted,
            rejection => Self::Rejected(rejection),
        }
    }
}

impl HttpError {
    /// The status and the stable machine code.
    pub fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::BadBody(_) => (StatusCode::BAD_REQUEST, "bad_body"),
            Self::UnknownField { .. } => (StatusCode::BAD_REQUEST, "unknown_field"),
            Self::NotImplemented(_) => (StatusCode::NOT_IMPLEMENTED, "not_implemented"),
            Self::NotOffered(_) => (StatusCode::NOT_FOUND, "not_offered"),
            Self::AclNotFound => (StatusCode::FORBIDDEN, "acl_not_found"),
            Self::PermissionDenied(_) => (StatusCode::FORBIDDEN, "permission_denied"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::BodyTimeout(_) => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            Self::NoLeader => (StatusCode::SERVICE_UNAVAILABLE, "no_leader"),
            Self::OutcomeUnknown(_) => (StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Self::Halted => (StatusCode::SERVICE_UNAVAILABLE, "halted"),
            Self::HaltUnknown(_) => (StatusCode::SERVICE_UNAVAILABLE, desk::HALT_UNKNOWN),
            Self::Rejected(rejection) => of_rejection(rejection),
            Self::NoPath(_) => (StatusCode::INTERNAL_SERVER_ERROR, "no_path_to_datacenter"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => Some(*retry_after),
            Self::NoLeader | Self::OutcomeUnknown(_) | Self::Unavailable(_) => Some(RETRY_AFTER),
            _ => None,
        }
    }
}

/// A refusal's own code, and the status that fits who is at fault.
fn of_rejection(rejection: &Rejection) -> (StatusCode, &'static str) {
    let status = match rejection {
        Rejection::NotBootstrapped
        | Rejection::DeadlinePassed { .. }
        | Rejection::Halted
        | Rejection::IssuerRefused { .. }
        | Rejection::DatesRefused { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Rejection::NotFound { .. } => StatusCode::NOT_FOUND,
        Rejection::Invalid { .. }
        | Rejection::BadCaConfig(_)
        | Rejection::BuiltIn { .. }
        | Rejection::InSecondary { .. } => StatusCode::BAD_REQUEST,
        Rejection::GrantRefused { .. }
        | Rejection::AclBootstrapped { .. }
        | Rejection::JoinTokenRefused { .. }
        | Rejection::FederationTokenRefused { .. }
        | Rejection::AgentTokenRefused { .. } => StatusCode::FORBIDDEN,
        Rejection::WrongProposer { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        Rejection::AlreadyBootstrapped
        | Rejection::Conflict { .. }
        | Rejection::AlreadyExists { .. }
        | Rejection::LimitReached { .. }
        | Rejection::Removed { .. }
        | Rejection::TooOld { .. }
        | Rejection::WrongRecipients
        | Rejection::WrongPhase { .. }
        | Rejection::SerialTaken { .. } => StatusCode::CONFLICT,
    };
    (status, rejection.code())
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        let mut response = Response::new(Body::from(self.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(ERROR_CODE, HeaderValue::from_static(code));
        if let Some(wait) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if let Self::MethodNotAllowed { allowed, .. } = &self
            && let Ok(allowed) = HeaderValue::from_str(allowed)
        {
            headers.insert(header::ALLOW, allowed);
        }
        response
    }
}

/// `Retry-After` has whole seconds: rounded up, so that no client comes early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_text_that_begins_as_consuls_with_a_code_beside_it() {
        let error = HttpError::PermissionDenied("anonymous token lacks permission 'operator:read'".into());
        assert!(error.to_string().starts_with("Permission denied: anonymous token lacks"));
        let response = error.into_response();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(response.headers()[ERROR_CODE], "permission_denied");
        assert_eq!(HttpError::AclNotFound.to_string(), "ACL not found");
        let bootstrapped = HttpError::from(Rejection::AclBootstrapped { reset_index: 13 });
        assert_eq!(bootstrapped.to_string(), "Permission denied: ACL bootstrap no longer allowed (reset index: 13)");
        assert_eq!(bootstrapped.status_and_code(), (StatusCode::FORBIDDEN, "acl_bootstrapped"));
    }

    #[test]
    fn a_busy_server_says_when_to_come_again() {
        let response = HttpError::RateLimited { retry_after: Duration::from_millis(1200) }.into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(HttpError::NoLeader.into_response().headers()[header::RETRY_AFTER], "1");
    }

    #[test]
    fn a_wrong_method_answers_the_right_ones() {
        let error = HttpError::MethodNotAllowed { method: "POST".into(), allowed: "GET, PUT".into() };
        let response = error.into_response();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()[header::ALLOW], "GET, PUT");
    }
}
