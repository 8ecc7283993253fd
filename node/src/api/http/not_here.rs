//! What Consul has and carrack does not offer: a sentence instead of a bare 404.

use super::error::HttpError;

/// The beginnings of Consul's paths, what they are, and what to use instead. The first that fits is told.
const NOT_HERE: &[(&str, &str)] = &[
    ("/v1/agent/service", "the service catalog"),
    ("/v1/agent/check", "health checks"),
    ("/v1/agent/health", "health checks"),
    ("/v1/agent/join", "gossip membership; servers join with `carrack server --join`"),
    ("/v1/agent/members", "gossip membership; servers are listed at /v1/carrack/members"),
    ("/v1/agent", "this part of Consul's agent"),
    ("/v1/catalog", "the service catalog"),
    ("/v1/health", "health checks"),
    ("/v1/kv", "the key/value store"),
    ("/v1/txn", "transactions on the key/value store"),
    ("/v1/session", "sessions and locks"),
    ("/v1/event", "user events"),
    ("/v1/query", "prepared queries"),
    ("/v1/coordinate", "network coordinates"),
    ("/v1/discovery-chain", "discovery chains"),
    ("/v1/exported-services", "exported services"),
    ("/v1/imported-services", "imported services"),
    ("/v1/peering", "cluster peering"),
    ("/v1/config/", "config entries of other kinds than service-intentions"),
    ("/v1/snapshot", "snapshots over HTTP"),
    ("/v1/operator/autopilot", "autopilot; servers are listed at /v1/carrack/members"),
    ("/v1/operator/keyring", "the gossip keyring"),
    ("/v1/operator/raft", "this operation on Raft; servers are removed at /v1/carrack/members"),
    ("/v1/operator", "this operator route"),
    ("/v1/acl/auth-method", "auth methods"),
    ("/v1/acl/binding-rule", "binding rules"),
    ("/v1/acl/login", "login by an auth method"),
    ("/v1/acl/logout", "logout"),
    ("/v1/acl/role", "roles"),
    ("/v1/acl/templated-polic", "templated policies"),
    ("/v1/acl/replication", "ACL replication"),
    ("/v1/acl", "this part of Consul's ACLs"),
    ("/v1/internal", "Consul's internal routes"),
    ("/ui", "a web interface"),
];

/// Why a path is not answered. The path is repeated only in its known part.
pub(super) fn explain(path: &str) -> HttpError {
    let found = NOT_HERE.iter().find(|(beginning, _)| path.starts_with(beginning));
    match found {
        Some((beginning, what)) => HttpError::NotOffered(format!("{beginning}: carrack does not offer {what}")),
        None => HttpError::NotFound("Invalid URL path: not a recognized HTTP API endpoint".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::http::routes::ROUTES;

    #[test]
    fn consuls_other_routes_are_named() {
        for (path, what) in [
            ("/v1/kv/a/b", "the key/value store"),
            ("/v1/catalog/services", "the service catalog"),
            ("/v1/agent/services", "the service catalog"),
            ("/v1/config/proxy-defaults/global", "config entries of other kinds"),
            ("/v1/session/create", "sessions and locks"),
        ] {
            let error = explain(path);
            assert!(matches!(&error, HttpError::NotOffered(text) if text.contains(what)), "{path}: {error}");
        }
        assert!(matches!(explain("/v2/nothing"), HttpError::NotFound(_)));
    }

    #[test]
    fn what_is_here_is_not_told_to_be_missing() {
        for route in ROUTES {
            assert!(NOT_HERE.iter().all(|(beginning, _)| *beginning != route.path), "{}", route.path);
        }
    }
}
