//! Intentions as datacenters send them to each other. What one must be, the state checks; regular expressions are taken as text.

use std::collections::BTreeMap;

use bytes::Bytes;
use carrack_authority::{
    id::Revision,
    intention::{
        Action, Effect, Intention, Party, Pattern, Permission,
        permission::{ClaimTest, HeaderTest, JwtProvider, JwtRequirement, Method, PathTest, ValueTest},
    },
    time::Timestamp,
};

use super::{BadMessage, bad, uuid_from_wire, uuid_to_wire};
use crate::wan;

pub(in crate::convert) fn intention_to_wire(intention: &Intention) -> wan::Intention {
    let action = match &intention.effect {
        Effect::Action(action) => action.as_str(),
        Effect::Permissions(_) => "",
    };
    let pair = |(key, value): (&String, &String)| wan::MetaPair { key: key.clone(), value: value.clone() };
    wan::Intention {
        destination: intention.destination.to_string(),
        source: intention.source.to_string(),
        action: action.into(),
        permissions: intention.permissions().iter().map(permission_to_wire).collect(),
        jwt: intention.jwt.as_ref().map(jwt_to_wire),
        description: intention.description.clone(),
        meta: intention.meta.iter().map(pair).collect(),
        legacy_id: intention.legacy_id.map_or_else(Bytes::new, uuid_to_wire),
        created_at_ms: intention.created_at.0,
        updated_at_ms: intention.updated_at.0,
    }
}

pub(in crate::convert) fn intention_from_wire(intention: wan::Intention) -> Result<Intention, BadMessage> {
    let effect = match (intention.action.as_str(), intention.permissions.is_empty()) {
        ("", false) => {
            let permissions = intention.permissions.into_iter().map(permission_from_wire);
            Effect::Permissions(permissions.collect::<Result<_, _>>()?)
        }
        (action, true) => Effect::Action(action_from_wire(action)?),
        (_, false) => return Err(bad("intention", "it has an action and permissions")),
    };
    let legacy_id = match intention.legacy_id.is_empty() {
        true => None,
        false => Some(uuid_from_wire("ID of an intention", &intention.legacy_id)?),
    };
    let meta: BTreeMap<_, _> = intention.meta.into_iter().map(|pair| (pair.key, pair.value)).collect();
    Ok(Intention {
        destination: party_from_wire("destination of an intention", &intention.destination)?,
        source: party_from_wire("source of an intention", &intention.source)?,
        effect,
        jwt: intention.jwt.map(jwt_from_wire),
        description: intention.description,
        meta,
        legacy_id,
        created_at: Timestamp(intention.created_at_ms),
        updated_at: Timestamp(intention.updated_at_ms),
        created: Revision(0),
        modified: Revision(0),
    })
}

fn party_from_wire(what: &'static str, text: &str) -> Result<Party, BadMessage> {
    Party::parse(what, text).map_err(|error| bad(what, error))
}

fn action_from_wire(text: &str) -> Result<Action, BadMessage> {
    let action = [Action::Allow, Action::Deny].into_iter().find(|action| action.as_str() == text);
    action.ok_or_else(|| bad("intention", format!("unknown action `{}`", text.escape_debug())))
}

fn permission_to_wire(permission: &Permission) -> wan::Permission {
    let path = match &permission.path {
        PathTest::Any => None,
        PathTest::Exact(path) => Some(wan::permission::Path::PathExact(path.clone())),
        PathTest::Prefix(path) => Some(wan::permission::Path::PathPrefix(path.clone())),
        PathTest::Regex(pattern) => Some(wan::permission::Path::PathRegex(pattern.as_str().into())),
    };
    wan::Permission {
        action: permission.action.as_str().into(),
        headers: permission.headers.iter().map(header_to_wire).collect(),
        methods: permission.methods.iter().map(|method| method.as_str().into()).collect(),
        jwt: permission.jwt.as_ref().map(jwt_to_wire),
        path,
    }
}

fn permission_from_wire(permission: wan::Permission) -> Result<Permission, BadMessage> {
    let path = match permission.path {
        None => PathTest::Any,
        Some(wan::permission::Path::PathExact(path)) => PathTest::Exact(path),
        Some(wan::permission::Path::PathPrefix(path)) => PathTest::Prefix(path),
        Some(wan::permission::Path::PathRegex(text)) => PathTest::Regex(Pattern::new(&text)),
    };
    let method = |name: &String| {
        Method::of(name).ok_or_else(|| bad("permission", format!("unknown method `{}`", name.escape_debug())))
    };
    Ok(Permission {
        action: action_from_wire(&permission.action)?,
        path,
        headers: permission.headers.into_iter().map(header_from_wire).collect::<Result<_, _>>()?,
        methods: permission.methods.iter().map(method).collect::<Result<_, _>>()?,
        jwt: permission.jwt.map(jwt_from_wire),
    })
}

fn header_to_wire(test: &HeaderTest) -> wan::HeaderTest {
    let value = match &test.value {
        ValueTest::Present => wan::header_test::Value::Present(true),
        ValueTest::Exact(text) => wan::header_test::Value::Exact(text.clone()),
        ValueTest::Prefix(text) => wan::header_test::Value::Prefix(text.clone()),
        ValueTest::Suffix(text) => wan::header_test::Value::Suffix(text.clone()),
        ValueTest::Contains(text) => wan::header_test::Value::Contains(text.clone()),
        ValueTest::Regex(pattern) => wan::header_test::Value::Regex(pattern.as_str().into()),
    };
    wan::HeaderTest {
        name: test.name.clone(),
        value: Some(value),
        is_inverted: test.is_inverted,
        ignores_case: test.ignores_case,
    }
}

fn header_from_wire(test: wan::HeaderTest) -> Result<HeaderTest, BadMessage> {
    let value = match test.value {
        Some(wan::header_test::Value::Present(_)) => ValueTest::Present,
        Some(wan::header_test::Value::Exact(text)) => ValueTest::Exact(text),
        Some(wan::header_test::Value::Prefix(text)) => ValueTest::Prefix(text),
        Some(wan::header_test::Value::Suffix(text)) => ValueTest::Suffix(text),
        Some(wan::header_test::Value::Contains(text)) => ValueTest::Contains(text),
        Some(wan::header_test::Value::Regex(text)) => ValueTest::Regex(Pattern::new(&text)),
        None => return Err(bad("permission", "a header has no value")),
    };
    Ok(HeaderTest { name: test.name, value, is_inverted: test.is_inverted, ignores_case: test.ignores_case })
}

fn jwt_to_wire(requirement: &JwtRequirement) -> wan::JwtRequirement {
    let claim = |test: &ClaimTest| wan::ClaimTest { path: test.path.clone(), value: test.value.clone() };
    let provider = |provider: &JwtProvider| wan::JwtProvider {
        name: provider.name.clone(),
        claims: provider.claims.iter().map(claim).collect(),
    };
    wan::JwtRequirement { providers: requirement.providers.iter().map(provider).collect() }
}

fn jwt_from_wire(requirement: wan::JwtRequirement) -> JwtRequirement {
    let claim = |test: wan::ClaimTest| ClaimTest { path: test.path, value: test.value };
    let provider = |provider: wan::JwtProvider| JwtProvider {
        name: provider.name,
        claims: provider.claims.into_iter().map(claim).collect(),
    };
    JwtRequirement { providers: requirement.providers.into_iter().map(provider).collect() }
}
