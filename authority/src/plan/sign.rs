//! Requests that wait for the leader's signature: server certificates and issuers.

use std::sync::Arc;

use crate::{
    State,
    issuer::IssuerRequest,
    member::{Member, ServerCertificateRequest},
    root::{Ca, Root, RootPhase},
};

/// A server certificate to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignServerCertificate {
    /// The server that asked.
    pub member: Arc<Member>,
    /// What it asked for.
    pub request: ServerCertificateRequest,
    /// The root that signs.
    pub root: Arc<Root>,
}

/// An issuer to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIssuer {
    /// The server that asked.
    pub member: Arc<Member>,
    /// What it asked for.
    pub request: Arc<IssuerRequest>,
    /// The root that signs.
    pub root: Arc<Root>,
}

/// The server certificates to sign, under the active root of the server CA.
pub fn server_certificates(state: &State) -> Vec<SignServerCertificate> {
    let Some(root) = state.roots(Ca::Server).active() else { return Vec::new() };
    let waiting = state.members().filter_map(|member| member.request.as_ref().map(|request| (member, request)));
    waiting
        .map(|(member, request)| SignServerCertificate {
            member: member.clone(),
            request: request.clone(),
            root: root.clone(),
        })
        .collect()
}

/// The issuers that this datacenter signs, each under the root that its server asked for: none in a secondary.
pub fn issuers(state: &State) -> Vec<SignIssuer> {
    if state.primary().is_some() { Vec::new() } else { requested_issuers(state) }
}

/// The issuers that servers of this datacenter wait for, whoever signs them.
pub fn requested_issuers(state: &State) -> Vec<SignIssuer> {
    let waiting = state.issuer_requests().filter_map(|request| {
        let root = state.roots(Ca::Mesh).find(&request.root)?;
        let member = state.member(request.node)?;
        let signs = matches!(root.phase, RootPhase::Prepared | RootPhase::Active);
        signs.then(|| SignIssuer { member: member.clone(), request: request.clone(), root: root.clone() })
    });
    waiting.collect()
}
