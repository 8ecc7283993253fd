//! Every route with the right that it needs. There is no other way to a handler: what is not in this table is not answered,
//! and a test walks it.

use axum::{body::Bytes, http::Method, response::Response};
use carrack_authority::federation::Table;
use futures::future::BoxFuture;

use super::{
    access::Right::{
        self, AclRead, AclWrite, AgentRead, AnyToken, IntentionRead, IntentionWrite, OperatorRead, OperatorWrite,
        Public, ServiceWrite,
    },
    acl_bootstrap, acl_policies, acl_tokens, agent, agents, authorize, body, ca_configuration, ca_roots, ca_status,
    call::Call,
    cluster, compromise, config_entries,
    error::HttpError,
    federation, health, intention_writes, intentions, issuance, issuers, leaves, members, rotation, sign, status,
};

/// What answers a request.
pub type Handler = fn(Call) -> BoxFuture<'static, Result<Response, HttpError>>;

/// What of a body goes to another datacenter.
pub type PassedOn = fn(&[u8]) -> Result<Bytes, HttpError>;

/// One method of one path.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path; a part in braces is variable.
    pub path: &'static str,
    /// What the caller must be allowed to do.
    pub right: Right,
    /// The longest body that is read.
    pub body_bytes_max: usize,
    /// Whether another datacenter may answer it: what is about one machine, only that machine can.
    pub is_forwardable: bool,
    /// The table of the primary that it may write.
    pub table: Option<Table>,
    /// What of a body goes to another datacenter; `None`: all.
    pub passed_on: Option<PassedOn>,
    /// What answers.
    pub handler: Handler,
}

const fn get(path: &'static str, right: Right, handler: Handler) -> Route {
    Route {
        method: Method::GET,
        path,
        right,
        body_bytes_max: body::BODY_BYTES_MAX,
        is_forwardable: true,
        table: None,
        passed_on: None,
        handler,
    }
}

const fn put(path: &'static str, right: Right, handler: Handler) -> Route {
    Route {
        method: Method::PUT,
        path,
        right,
        body_bytes_max: body::BODY_BYTES_MAX,
        is_forwardable: true,
        table: None,
        passed_on: None,
        handler,
    }
}

const fn post(path: &'static str, right: Right, handler: Handler) -> Route {
    Route {
        method: Method::POST,
        path,
        right,
        body_bytes_max: body::BODY_BYTES_MAX,
        is_forwardable: true,
        table: None,
        passed_on: None,
        handler,
    }
}

const fn put_policy(path: &'static str, handler: Handler) -> Route {
    Route {
        method: Method::PUT,
        path,
        right: AclWrite,
        body_bytes_max: body::POLICY_BODY_BYTES_MAX,
        is_forwardable: true,
        table: Some(Table::Policies),
        passed_on: None,
        handler,
    }
}

const fn delete(path: &'static str, right: Right, handler: Handler) -> Route {
    Route {
        method: Method::DELETE,
        path,
        right,
        body_bytes_max: body::BODY_BYTES_MAX,
        is_forwardable: true,
        table: None,
        passed_on: None,
        handler,
    }
}

impl Route {
    /// It is about the machine that is asked.
    const fn here(mut self) -> Self {
        self.is_forwardable = false;
        self
    }

    /// Not every body goes to another datacenter.
    const fn passes_on(mut self, passed_on: PassedOn) -> Self {
        self.passed_on = Some(passed_on);
        self
    }

    /// It may write a table of the primary.
    const fn writes(mut self, table: Table) -> Self {
        self.table = Some(table);
        self
    }

    /// It takes bodies of up to this many bytes.
    const fn takes(mut self, body_bytes_max: usize) -> Self {
        self.body_bytes_max = body_bytes_max;
        self
    }

    fn is_at(&self, path: &str) -> bool {
        let (mut own, mut asked) = (self.path.split('/'), path.split('/'));
        loop {
            match (own.next(), asked.next()) {
                (None, None) => return true,
                (Some(own), Some(asked)) if own.starts_with('{') || own == asked => {}
                _ => return false,
            }
        }
    }
}

/// The table of the primary that a request may write.
pub(super) fn written_table(method: &Method, path: &str) -> Option<Table> {
    let mut found = ROUTES.iter().filter(|route| route.method == *method && route.is_at(path));
    found.find_map(|route| route.table)
}

/// The table.
pub static ROUTES: &[Route] = &[
    // Consul's: the CA.
    get("/v1/connect/ca/roots", Public, |call| Box::pin(ca_roots::read(call))),
    get("/v1/connect/ca/configuration", OperatorWrite, |call| Box::pin(ca_configuration::read(call))),
    put("/v1/connect/ca/configuration", OperatorWrite, |call| Box::pin(ca_configuration::write(call)))
        .writes(Table::Ca)
        .passes_on(ca_configuration::passed_on),
    get("/v1/agent/connect/ca/roots", Public, |call| Box::pin(ca_roots::read_as_agent(call))).here(),
    get("/v1/agent/connect/ca/leaf/{service}", ServiceWrite, |call| Box::pin(agent::leaf(call))).here(),
    post("/v1/agent/connect/authorize", AnyToken, |call| Box::pin(authorize::answer(call))).here(),
    // py-consul's method for it.
    put("/v1/agent/connect/authorize", AnyToken, |call| Box::pin(authorize::answer(call))).here(),
    get("/v1/agent/self", AnyToken, |call| Box::pin(agent::about(call))).here(),
    get("/v1/agent/metrics", AgentRead, |call| Box::pin(health::agent_metrics(call))).here(),
    // Consul's: tokens and policies.
    put("/v1/acl/bootstrap", Public, |call| Box::pin(acl_bootstrap::bootstrap(call))).writes(Table::Tokens),
    get("/v1/acl/tokens", AclRead, |call| Box::pin(acl_tokens::list(call))),
    put("/v1/acl/token", AclWrite, |call| Box::pin(acl_tokens::create(call))).writes(Table::Tokens),
    get("/v1/acl/token/self", AnyToken, |call| Box::pin(acl_tokens::read_own(call))),
    get("/v1/acl/token/{accessor}", AclRead, |call| Box::pin(acl_tokens::read(call))),
    put("/v1/acl/token/{accessor}", AclWrite, |call| Box::pin(acl_tokens::update(call))).writes(Table::Tokens),
    delete("/v1/acl/token/{accessor}", AclWrite, |call| Box::pin(acl_tokens::delete(call))).writes(Table::Tokens),
    put("/v1/acl/token/{accessor}/clone", AclWrite, |call| Box::pin(acl_tokens::clone(call))).writes(Table::Tokens),
    get("/v1/acl/policies", AclRead, |call| Box::pin(acl_policies::list(call))),
    put_policy("/v1/acl/policy", |call| Box::pin(acl_policies::create(call))),
    get("/v1/acl/policy/{id}", AclRead, |call| Box::pin(acl_policies::read(call))),
    put_policy("/v1/acl/policy/{id}", |call| Box::pin(acl_policies::update(call))),
    delete("/v1/acl/policy/{id}", AclWrite, |call| Box::pin(acl_policies::delete(call))).writes(Table::Policies),
    get("/v1/acl/policy/name/{name}", AclRead, |call| Box::pin(acl_policies::read_by_name(call))),
    // Consul's: intentions. Whose, the request says: the handlers look at the right to that.
    get("/v1/connect/intentions", AnyToken, |call| Box::pin(intentions::list(call))),
    post("/v1/connect/intentions", AnyToken, |call| Box::pin(intention_writes::create(call)))
        .writes(Table::Intentions)
        .takes(body::INTENTION_BODY_BYTES_MAX),
    get("/v1/connect/intentions/match", AnyToken, |call| Box::pin(intentions::matching(call))),
    get("/v1/connect/intentions/check", AnyToken, |call| Box::pin(intentions::check(call))),
    get("/v1/connect/intentions/exact", AnyToken, |call| Box::pin(intentions::read_exact(call))),
    put("/v1/connect/intentions/exact", AnyToken, |call| Box::pin(intention_writes::put_exact(call)))
        .writes(Table::Intentions)
        .takes(body::INTENTION_BODY_BYTES_MAX),
    delete("/v1/connect/intentions/exact", AnyToken, |call| Box::pin(intention_writes::delete_exact(call)))
        .writes(Table::Intentions),
    get("/v1/connect/intentions/{id}", AnyToken, |call| Box::pin(intentions::read(call))),
    put("/v1/connect/intentions/{id}", AnyToken, |call| Box::pin(intention_writes::update(call)))
        .writes(Table::Intentions)
        .takes(body::INTENTION_BODY_BYTES_MAX),
    delete("/v1/connect/intentions/{id}", AnyToken, |call| Box::pin(intention_writes::delete(call)))
        .writes(Table::Intentions),
    put("/v1/config", AnyToken, |call| Box::pin(config_entries::apply(call)))
        .writes(Table::Intentions)
        .takes(body::CONFIG_ENTRY_BODY_BYTES_MAX),
    get("/v1/config/service-intentions", AnyToken, |call| Box::pin(config_entries::list(call))),
    get("/v1/config/service-intentions/{name}", IntentionRead, |call| Box::pin(config_entries::read(call))),
    delete("/v1/config/service-intentions/{name}", IntentionWrite, |call| Box::pin(config_entries::delete(call)))
        .writes(Table::Intentions),
    // Consul's: the servers.
    get("/v1/status/leader", Public, |call| Box::pin(cluster::leader(call))),
    get("/v1/status/peers", Public, |call| Box::pin(cluster::peers(call))),
    get("/v1/operator/raft/configuration", OperatorRead, |call| Box::pin(cluster::raft_configuration(call))),
    // carrack's own.
    get("/v1/carrack/status", OperatorRead, |call| Box::pin(status::read(call))),
    get("/v1/carrack/ca", OperatorRead, |call| Box::pin(ca_status::read(call))),
    put("/v1/carrack/ca/rotation", OperatorWrite, |call| Box::pin(rotation::start(call))).writes(Table::Ca),
    put("/v1/carrack/ca/rotation/{id}", OperatorWrite, |call| Box::pin(rotation::control(call))).writes(Table::Ca),
    put("/v1/carrack/ca/rollback", OperatorWrite, |call| Box::pin(rotation::roll_back(call))).writes(Table::Ca),
    put("/v1/carrack/ca/taint", OperatorWrite, |call| Box::pin(rotation::taint(call))).writes(Table::Ca),
    put("/v1/carrack/ca/root-revocation", OperatorWrite, |call| Box::pin(rotation::revoke(call))).writes(Table::Ca),
    put("/v1/carrack/ca/server-revocation", OperatorWrite, |call| Box::pin(compromise::revoke_server(call)))
        .writes(Table::Ca),
    put("/v1/carrack/ca/schedule", OperatorWrite, |call| Box::pin(rotation::schedule(call))).writes(Table::Ca),
    get("/v1/carrack/members", OperatorRead, |call| Box::pin(members::list(call))),
    delete("/v1/carrack/members/{member}", OperatorWrite, |call| Box::pin(members::remove(call))),
    put("/v1/carrack/join-token", OperatorWrite, |call| Box::pin(members::make_join_token(call))),
    get("/v1/carrack/federation", OperatorRead, |call| Box::pin(federation::list(call))),
    put("/v1/carrack/federation/token", OperatorWrite, |call| Box::pin(federation::make_token(call))),
    delete("/v1/carrack/federation/{datacenter}", OperatorWrite, |call| Box::pin(federation::remove(call))),
    put("/v1/carrack/agent-token", OperatorWrite, |call| Box::pin(agents::make_token(call))),
    get("/v1/carrack/agents", OperatorRead, |call| Box::pin(agents::list(call))),
    delete("/v1/carrack/agents/{node}", OperatorWrite, |call| Box::pin(agents::remove(call))),
    put("/v1/carrack/sign", AnyToken, |call| Box::pin(sign::sign(call))),
    get("/v1/carrack/intention/explain", AnyToken, |call| Box::pin(intentions::explain(call))),
    put("/v1/carrack/halt", OperatorWrite, |call| Box::pin(sign::halt(call))),
    get("/v1/carrack/leaves", OperatorRead, |call| Box::pin(leaves::list(call))),
    get("/v1/carrack/revocations", OperatorRead, |call| Box::pin(leaves::revocations(call))),
    put("/v1/carrack/revocation", OperatorWrite, |call| Box::pin(leaves::revoke(call))).writes(Table::Revocations),
    get("/v1/carrack/issuer-revocations", OperatorRead, |call| Box::pin(issuers::revocations(call))),
    put("/v1/carrack/issuer-revocation", OperatorWrite, |call| Box::pin(issuers::revoke(call)))
        .writes(Table::RevokedIssuers),
    get("/v1/carrack/issuance", OperatorRead, |call| Box::pin(issuance::read(call))),
    // For monitoring: without token and without quorum.
    get("/metrics", Public, |call| Box::pin(health::metrics(call))).here(),
    get("/livez", Public, |call| Box::pin(health::live(call))).here(),
    get("/readyz", Public, |call| Box::pin(health::ready(call))).here(),
];
