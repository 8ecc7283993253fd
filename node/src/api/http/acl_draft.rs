//! Tokens as clients ask for them: what Consul's JSON says, checked against the state, before it is a token.

use std::time::Duration;

use carrack_authority::{
    State,
    acl::{AccessorId, PolicyId, ServiceIdentity, Token, token::secret_digest},
    id::Revision,
    spiffe::Name,
    time::Timestamp,
};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{acl_shapes::GLOBAL_MANAGEMENT, error::HttpError, fields::Fields, parameters::parse_uuid};

/// The shortest life of a token that ends: Consul's `ACLTokenMinExpirationTTL`.
const EXPIRATION_MIN: Duration = Duration::from_secs(60);
/// What Consul's clients send back as they read it, and what this server sets itself.
const READ_ONLY: [&str; 5] = ["CreateTime", "Hash", "CreateIndex", "ModifyIndex", "ExpandedPolicies"];
/// What Consul's tokens may have and those of this version do not.
const NOT_HERE: [&str; 8] = [
    "Roles",
    "NodeIdentities",
    "TemplatedPolicies",
    "AuthMethod",
    "Namespace",
    "Partition",
    "AuthMethodNamespace",
    "NamespaceDefaults",
];

/// When a token shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiration {
    Never,
    After(Duration),
    At(Timestamp),
}

/// A token as a client asks for it.
#[derive(Debug)]
pub(super) struct TokenDraft {
    /// Its public id, if the client chose one.
    pub(super) accessor: Option<Uuid>,
    /// Its secret, if the client chose one.
    pub(super) secret: Option<Uuid>,
    description: String,
    policies: Vec<Link>,
    service_identities: Vec<ServiceIdentity>,
    pub(super) is_local: Option<bool>,
    expiration: Expiration,
}

/// A policy, by id or name.
#[derive(Debug)]
enum Link {
    Id(PolicyId),
    Name(String),
}

impl TokenDraft {
    /// Reads a body.
    pub(super) fn read(body: &[u8]) -> Result<Self, HttpError> {
        let mut fields = Fields::of_body("the token", body)?;
        let draft = Self {
            accessor: uuid(&mut fields, "AccessorID")?,
            secret: uuid(&mut fields, "SecretID")?,
            description: fields.text("Description")?.unwrap_or_default(),
            policies: fields.list("Policies")?.into_iter().map(link).collect::<Result<_, _>>()?,
            service_identities: service_identities(&mut fields)?,
            is_local: fields.flag("Local")?,
            expiration: expiration(&mut fields)?,
        };
        for name in NOT_HERE {
            fields.refuse_unless_empty(name)?;
        }
        fields.ignore(&READ_ONLY);
        fields.finish()?;
        Ok(draft)
    }

    /// The new token that is asked for.
    pub(super) fn into_new(
        self,
        state: &State,
        accessor: Uuid,
        secret: &Uuid,
        now: Timestamp,
    ) -> Result<Token, HttpError> {
        let expires_at = self.expiration.from(now);
        if let Some(end) = expires_at.filter(|end| *end < now.plus(EXPIRATION_MIN)) {
            let left = end.since(now).as_secs();
            let text = format!("expiration time cannot be less than 1m0s in the future (was {left}s)");
            return Err(HttpError::BadRequest(text));
        }
        Ok(Token {
            accessor: AccessorId(accessor),
            secret: secret_digest(secret),
            policies: policies(&self.policies, state)?,
            description: self.description,
            service_identities: self.service_identities,
            node_identities: Vec::new(),
            roles: Vec::new(),
            auth_method: None,
            is_local: self.is_local.unwrap_or(false),
            expires_at,
            created_at: now,
            created: Revision::default(),
            modified: Revision::default(),
        })
    }

    /// The token with what is asked for changed: description, policies and services are replaced, the rest must be as it is.
    pub(super) fn into_changed(self, state: &State, former: &Token) -> Result<Token, HttpError> {
        let bad = |text: String| HttpError::BadRequest(text);
        if self.accessor.is_some_and(|accessor| accessor != former.accessor.0) {
            return Err(bad("Token Accessor ID in URL and payload do not match".into()));
        }
        if self.secret.is_some_and(|secret| secret_digest(&secret) != former.secret) {
            return Err(bad("Changing a token's SecretID is not permitted".into()));
        }
        if self.is_local.is_some_and(|is_local| is_local != former.is_local) {
            return Err(bad(format!("cannot toggle local mode of {}", former.accessor)));
        }
        let expires_at = self.expiration.from(former.created_at);
        if expires_at.is_some() && expires_at.map(Timestamp::seconds) != former.expires_at.map(Timestamp::seconds) {
            return Err(bad("Cannot change expiration time".into()));
        }
        Ok(Token {
            policies: policies(&self.policies, state)?,
            description: self.description,
            service_identities: self.service_identities,
            ..former.clone()
        })
    }
}

impl Expiration {
    fn from(self, begin: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Never => None,
            Self::After(span) => Some(begin.plus(span)),
            Self::At(end) => Some(end),
        }
    }
}

/// A UUID that a client chose; the text is never repeated, since it may be a secret.
pub(super) fn uuid(fields: &mut Fields, name: &'static str) -> Result<Option<Uuid>, HttpError> {
    let Some(text) = fields.some_text(name)? else { return Ok(None) };
    let uuid = parse_uuid(&text).filter(|uuid| !uuid.is_nil());
    match uuid {
        Some(uuid) if uuid.as_u128() >= 256 => Ok(Some(uuid)),
        Some(_) => Err(HttpError::BadRequest(format!(
            "Invalid Token: UUIDs with the prefix 00000000-0000-0000-0000-0000000000 are reserved ({name})"
        ))),
        None => Err(HttpError::BadRequest(format!("Invalid Token: {name} is not a UUID"))),
    }
}

fn link(value: Value) -> Result<Link, HttpError> {
    let mut fields = Fields::of_value("a policy link", value)?;
    let (id, name) = (fields.some_text("ID")?, fields.some_text("Name")?);
    fields.finish()?;
    match (id, name) {
        (Some(id), _) => match parse_uuid(&id) {
            Some(id) => Ok(Link::Id(PolicyId(id))),
            None => Err(HttpError::BadRequest("the ID of a policy link is not a UUID".into())),
        },
        (None, Some(name)) => Ok(Link::Name(name)),
        (None, None) => Err(HttpError::BadRequest("Encountered a policy link with neither ID nor Name".into())),
    }
}

fn policies(links: &[Link], state: &State) -> Result<Vec<PolicyId>, HttpError> {
    let mut found = Vec::with_capacity(links.len());
    for link in links {
        let id = match link {
            Link::Id(id) => *id,
            Link::Name(name) if name == GLOBAL_MANAGEMENT => PolicyId::GLOBAL_MANAGEMENT,
            Link::Name(name) => {
                let unknown = || format!("No such ACL policy with name \"{}\"", name.escape_default());
                state.acl().policy_of_name(name).ok_or_else(|| HttpError::BadRequest(unknown()))?.id
            }
        };
        if id != PolicyId::GLOBAL_MANAGEMENT && state.acl().policy(id).is_none() {
            return Err(HttpError::BadRequest(format!("No such ACL policy with ID \"{id}\"")));
        }
        if !found.contains(&id) {
            found.push(id);
        }
    }
    Ok(found)
}

fn service_identities(fields: &mut Fields) -> Result<Vec<ServiceIdentity>, HttpError> {
    let identities = fields.list("ServiceIdentities")?.into_iter().map(|value| {
        let mut fields = Fields::of_value("a service identity", value)?;
        let name = fields.some_text("ServiceName")?;
        let datacenters = fields.texts("Datacenters")?;
        fields.finish()?;
        let name = name.ok_or_else(|| {
            HttpError::BadRequest("Service identity is missing the service name field on this token".into())
        })?;
        Ok(ServiceIdentity { service: self::name("service", &name)?, datacenters: names(&datacenters)? })
    });
    identities.collect()
}

/// Datacenters by name.
pub(super) fn names(datacenters: &[String]) -> Result<Vec<Name>, HttpError> {
    datacenters.iter().map(|datacenter| name("datacenter", datacenter)).collect()
}

fn name(what: &str, text: &str) -> Result<Name, HttpError> {
    Name::parse(what, text).map_err(|error| HttpError::BadRequest(error.to_string()))
}

fn expiration(fields: &mut Fields) -> Result<Expiration, HttpError> {
    let span = fields.span("ExpirationTTL")?;
    let end = fields.some_text("ExpirationTime")?.map(|text| point(&text)).transpose()?;
    match (span, end.filter(|end| *end != Timestamp::EPOCH)) {
        (Some(_), Some(_)) => {
            Err(HttpError::BadRequest("Expiration TTL and Expiration Time cannot both be set".into()))
        }
        (Some(span), None) => Ok(Expiration::After(span)),
        (None, Some(end)) => Ok(Expiration::At(end)),
        (None, None) => Ok(Expiration::Never),
    }
}

/// Go's zero time, the year 1, becomes the epoch: no time.
fn point(text: &str) -> Result<Timestamp, HttpError> {
    let date = OffsetDateTime::parse(text, &Rfc3339);
    date.map(Timestamp::from_date_time)
        .map_err(|_| HttpError::BadRequest("ExpirationTime is not a time in the form 2026-11-22T20:00:00Z".into()))
}
