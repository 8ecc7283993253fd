//! The first management token of a datacenter. Whoever comes first gets it; it works once.

use axum::response::Response;
use carrack_authority::{
    Command, Rejection,
    acl::{AccessorId, PolicyId, Token, token::secret_digest},
    id::Revision,
};
use uuid::Uuid;

use super::{acl_draft, acl_tokens, call::Call, error::HttpError, fields::Fields};

/// `PUT /v1/acl/bootstrap`
pub(super) async fn bootstrap(call: Call) -> Result<Response, HttpError> {
    let mut fields = Fields::of_body("the bootstrap request", &call.body)?;
    let secret = acl_draft::uuid(&mut fields, "BootstrapSecret")?;
    fields.finish()?;
    // Anybody may ask: what this server knows already is refused without asking the log.
    let applied = call.edge.context.replica.state();
    applied.state.only_in_primary("the first management token")?;
    let bootstrapped = applied.state.acl().bootstrapped();
    if bootstrapped != Revision::default() {
        return Err(Rejection::AclBootstrapped { reset_index: bootstrapped.0 }.into());
    }
    let secret = secret.unwrap_or_else(|| acl_tokens::random_uuid(&call));
    let token = management_token(&call, &secret);
    let command = Command::BootstrapAcl { token: token.clone(), reset: None };
    let proposed = call.propose(command).await?;
    acl_tokens::answer_new(&call, token, &secret, proposed.index).await
}

fn management_token(call: &Call, secret: &Uuid) -> Token {
    Token {
        accessor: AccessorId(acl_tokens::random_uuid(call)),
        secret: secret_digest(secret),
        description: "Bootstrap Token (Global Management)".into(),
        policies: vec![PolicyId::GLOBAL_MANAGEMENT],
        service_identities: Vec::new(),
        node_identities: Vec::new(),
        roles: Vec::new(),
        auth_method: None,
        is_local: false,
        expires_at: None,
        created_at: call.now(),
        created: Revision::default(),
        modified: Revision::default(),
    }
}
