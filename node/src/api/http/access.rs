//! Who asks, and whether he may: each route names the right that it needs, and the answer is decided on one version of the
//! state. Consul's sentences, because its clients match on them.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    State,
    acl::{AccessorId, Token, resolve::Authorizer, token::secret_digest},
    spiffe::Name,
    time::Timestamp,
};
use subtle::ConstantTimeEq;

use super::{
    error::HttpError,
    parameters::{Parameters, PresentedSecret},
};
use crate::server::desk::TOKEN_IS_STALE;

/// What a request must be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Nothing: the answer is public, and no token is looked at.
    Public,
    /// To have a token that is valid; what it may do is decided on what the request names.
    AnyToken,
    /// `service:write` on the service that the path names.
    ServiceWrite,
    /// `intention:read` on the destination that the path names.
    IntentionRead,
    /// `intention:write` on the destination that the path names.
    IntentionWrite,
    /// `service:read` on the service that the request names.
    ServiceRead,
    /// `operator:read`
    OperatorRead,
    /// `operator:write`
    OperatorWrite,
    /// `acl:read`
    AclRead,
    /// `acl:write`
    AclWrite,
    /// `agent:read` on the machine that is asked.
    AgentRead,
}

impl Right {
    /// The right as Consul's sentences name it.
    const fn permission(self) -> &'static str {
        match self {
            Self::Public | Self::AnyToken => "",
            Self::ServiceWrite => "service:write",
            Self::IntentionRead => "intention:read",
            Self::IntentionWrite => "intention:write",
            Self::ServiceRead => "service:read",
            Self::OperatorRead => "operator:read",
            Self::OperatorWrite => "operator:write",
            Self::AclRead => "acl:read",
            Self::AclWrite => "acl:write",
            Self::AgentRead => "agent:read",
        }
    }

    /// Whether it is one on what the path names.
    const fn is_on_one(self) -> bool {
        matches!(self, Self::ServiceWrite | Self::IntentionRead | Self::IntentionWrite | Self::ServiceRead)
    }

    /// `on`: the service or machine that it is on.
    fn is_given(self, authorizer: &Authorizer, on: Option<&str>) -> bool {
        let is_on = |may: fn(&Authorizer, &str) -> bool| on.is_some_and(|on| may(authorizer, on));
        match self {
            Self::Public | Self::AnyToken => true,
            Self::ServiceWrite => is_on(Authorizer::service_write),
            Self::IntentionRead => is_on(Authorizer::intention_read),
            Self::IntentionWrite => is_on(Authorizer::intention_write),
            Self::ServiceRead => is_on(Authorizer::service_read),
            Self::OperatorRead => authorizer.operator_read(),
            Self::OperatorWrite => authorizer.operator_write(),
            Self::AclRead => authorizer.acl_read(),
            Self::AclWrite => authorizer.acl_write(),
            Self::AgentRead => is_on(Authorizer::agent_read),
        }
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub enum Caller {
    /// Nobody showed a token. The anonymous token has no rights.
    Anonymous,
    /// The token that belongs to the secret.
    Token(Arc<Token>),
}

impl Caller {
    /// Finds out who asks. A secret that is nobody's is an error, not the anonymous token.
    pub fn identify(secret: Option<&PresentedSecret>, state: &State, now: Timestamp) -> Result<Self, HttpError> {
        let Some(secret) = secret else { return Ok(Self::Anonymous) };
        let digest = secret_digest(&secret.as_uuid().ok_or(HttpError::AclNotFound)?);
        let token = state.acl().token_of_secret(&digest, now).ok_or(HttpError::AclNotFound)?;
        // The lookup's time depends on the digest, which nobody can choose; the last word is in constant time.
        let is_equal = bool::from(token.secret.0.ct_eq(&digest.0));
        if is_equal { Ok(Self::Token(token.clone())) } else { Err(HttpError::AclNotFound) }
    }

    /// Refuses who lacks the right. `service`: the service that the path names.
    pub fn expect(&self, right: Right, service: Option<&str>, state: &State) -> Result<(), HttpError> {
        if right == Right::Public {
            return Ok(());
        }
        let Self::Token(token) = self else {
            return Err(self.lacks(right, service));
        };
        let is_given = right.is_given(&state.authorizer(token), service);
        if is_given { Ok(()) } else { Err(self.lacks(right, service)) }
    }

    /// The token, where the route asks for one.
    pub fn token(&self) -> Result<&Arc<Token>, HttpError> {
        match self {
            Self::Anonymous => Err(self.lacks(Right::AnyToken, None)),
            Self::Token(token) => Ok(token),
        }
    }

    /// The token's public id.
    pub fn accessor(&self) -> Option<AccessorId> {
        match self {
            Self::Anonymous => None,
            Self::Token(token) => Some(token.accessor),
        }
    }

    fn lacks(&self, right: Right, service: Option<&str>) -> HttpError {
        if right == Right::AnyToken {
            return HttpError::PermissionDenied("anonymous token: this request needs a token".into());
        }
        let who = match self {
            Self::Anonymous => "anonymous token".into(),
            Self::Token(token) => format!("token with AccessorID '{}'", token.accessor),
        };
        let on = service.map(|service| format!(" on \"{}\"", service.escape_default())).unwrap_or_default();
        HttpError::PermissionDenied(format!("{who} lacks permission '{}'{on}", right.permission()))
    }
}

/// Where and when a right is looked at, and how old what is known of the primary's tokens may be then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment<'a> {
    /// The name of the machine that is asked.
    pub node: &'a Name,
    /// The log's time.
    pub now: Timestamp,
    /// How long ago a secondary may have heard the primary; `None`: any time.
    pub token_staleness_max: Option<Duration>,
}

impl Right {
    /// Finds out who asks and refuses who lacks this right. `variable`: the last variable part of the path.
    pub fn check(
        self,
        parameters: &Parameters,
        variable: Option<&str>,
        state: &State,
        moment: Moment<'_>,
    ) -> Result<Caller, HttpError> {
        if self == Self::Public {
            return Ok(Caller::Anonymous);
        }
        let caller = Caller::identify(parameters.secret.as_ref(), state, moment.now)?;
        if let Caller::Token(token) = &caller
            && state.is_stale(token, moment.now, moment.token_staleness_max)
        {
            return Err(HttpError::PermissionDenied(TOKEN_IS_STALE.trim_start_matches("Permission denied: ").into()));
        }
        let on = match self {
            Self::AgentRead => Some(moment.node.as_str()),
            _ => variable.filter(|_| self.is_on_one()),
        };
        caller.expect(self, on, state)?;
        Ok(caller)
    }
}
