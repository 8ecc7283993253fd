//! Servers come with a join token, say where they are, get certificates, and are removed for ever.

use std::sync::Arc;

use super::{Change, State, check};
use crate::{
    id::{FeatureLevel, NodeId, Revision},
    key::{CERTIFICATE_BYTES_MAX, REQUEST_BYTES_MAX},
    member::{
        ADDRESS_BYTES_MAX, Addresses, AdmitServer, JOIN_TOKEN_TTL_MAX, JOIN_TOKENS_MAX, JoinToken, MEMBERS_MAX, Member,
        RECIPIENT_BYTES_MAX, REMOVED_MEMBERS_MAX, RemovedMember, ServerCertificate, ServerCertificateRequest,
    },
    outcome::{Outcome, Rejection, WatchKey},
    planted::{self, Bug},
    root::RootPhase,
};

impl State {
    pub(super) fn create_join_token(&mut self, change: &mut Change, token: &JoinToken) -> Result<Outcome, Rejection> {
        if let Some(found) = self.join_tokens.get(&token.secret) {
            let is_duplicate = found.node_name == token.node_name && found.expires_at == token.expires_at;
            return if is_duplicate {
                Ok(Outcome::Done)
            } else {
                Err(Rejection::AlreadyExists { what: "a join token with this secret".into() })
            };
        }
        let unused = self.join_tokens.values().filter(|token| token.consumed.is_none()).count();
        check::room("unused join tokens", unused, JOIN_TOKENS_MAX)?;
        if token.expires_at <= change.now || token.expires_at > change.now.plus(JOIN_TOKEN_TTL_MAX) {
            let reason =
                format!("it must be within {} days after {}", JOIN_TOKEN_TTL_MAX.as_secs() / 86_400, change.now);
            return Err(check::invalid(format!("the join token's end {}", token.expires_at), reason));
        }
        if self.members.values().any(|member| member.name == token.node_name) {
            return Err(Rejection::AlreadyExists { what: format!("a server named `{}`", token.node_name) });
        }
        self.forget_used_join_token();
        let mut token = token.clone();
        (token.consumed, token.created) = (None, change.revision());
        self.join_tokens.insert(token.secret, token);
        change.touch(WatchKey::JoinTokens);
        Ok(Outcome::Done)
    }

    /// Used tokens are kept for lost replies, but no more of them than of unused ones.
    fn forget_used_join_token(&mut self) {
        if self.join_tokens.len() < 2 * JOIN_TOKENS_MAX {
            return;
        }
        let used = self.join_tokens.values().filter(|token| token.consumed.is_some());
        if let Some(first) = used.min_by_key(|token| (token.expires_at, token.secret)).map(|token| token.secret) {
            self.join_tokens.remove(&first);
        }
    }

    pub(super) fn admit_server(&mut self, change: &mut Change, server: &AdmitServer) -> Result<Outcome, Rejection> {
        let refused = |reason: String| Rejection::JoinTokenRefused { reason };
        let token = self.join_tokens.get(&server.secret);
        let token = token.ok_or_else(|| refused("it is unknown or has ended".into()))?;
        if token.node_name != server.name {
            return Err(refused(format!("it is for the server `{}`, not for `{}`", token.node_name, server.name)));
        }
        match token.consumed {
            Some((public_key, node)) if public_key == server.public_key => return self.admitted_again(node, server),
            Some((_, node)) => return Err(refused(format!("it was used already, by server {node} with another key"))),
            None => {}
        }
        self.check_new_server(server)?;
        let node = NodeId(self.next_node);
        let mut token = token.clone();
        token.consumed = Some((server.public_key, node)).filter(|_| !planted::is(Bug::JoinTokenReusable));
        self.next_node += 1;
        self.join_tokens.insert(server.secret, token);
        self.members.insert(node, Arc::new(new_member(change, node, server)));
        change.touch(WatchKey::Members);
        change.touch(WatchKey::JoinTokens);
        Ok(Outcome::Admitted { node })
    }

    /// The same server asks again: its answer was lost. Its id speaks for the store that it had then, and for no other.
    fn admitted_again(&self, node: NodeId, server: &AdmitServer) -> Result<Outcome, Rejection> {
        if self.found_member(node)?.store == server.store {
            return Ok(Outcome::Admitted { node });
        }
        let reason = format!("it was used already, by server {node} with another store");
        Err(Rejection::JoinTokenRefused { reason })
    }

    fn check_new_server(&self, server: &AdmitServer) -> Result<(), Rejection> {
        check::room("servers", self.members.len(), MEMBERS_MAX)?;
        check_server(&server.addresses, &server.sealing_recipient)?;
        check::der("the request for a server certificate", &server.csr, REQUEST_BYTES_MAX)?;
        let level = self.feature_level();
        if server.supports < level {
            return Err(Rejection::TooOld { who: format!("server {}", server.name), supports: server.supports, level });
        }
        if self.members.values().any(|member| member.name == server.name) {
            return Err(Rejection::AlreadyExists { what: format!("a server named `{}`", server.name) });
        }
        if self.members.values().any(|member| member.store == server.store) {
            return Err(Rejection::AlreadyExists { what: format!("a server with the store {}", server.store) });
        }
        if let Some(removed) = self.removed.values().find(|removed| removed.store == server.store) {
            return Err(Rejection::Removed { node: removed.node, removed_at: removed.removed_at });
        }
        Ok(())
    }

    pub(super) fn announce_server(
        &mut self,
        change: &mut Change,
        proposer: NodeId,
        node: NodeId,
        addresses: &Addresses,
        supports: FeatureLevel,
    ) -> Result<Outcome, Rejection> {
        check::from_itself(node, proposer)?;
        check_addresses(addresses)?;
        let member = self.found_member(node)?;
        if supports < self.feature_level() {
            let who = format!("server {}", member.name);
            return Err(Rejection::TooOld { who, supports, level: self.feature_level() });
        }
        if member.addresses == *addresses && member.supports == supports {
            return Ok(Outcome::Done);
        }
        self.change_member(change, node, |member| {
            member.addresses = addresses.clone();
            member.supports = supports;
        })
    }

    pub(super) fn request_server_certificate(
        &mut self,
        change: &mut Change,
        proposer: NodeId,
        node: NodeId,
        request: &ServerCertificateRequest,
    ) -> Result<Outcome, Rejection> {
        check::from_itself(node, proposer)?;
        let member = self.found_member(node)?;
        if member.request.as_ref().is_some_and(|found| found.csr == request.csr) {
            return Ok(Outcome::Done);
        }
        check::der("the request for a server certificate", &request.csr, REQUEST_BYTES_MAX)?;
        let revision = change.revision();
        let request = ServerCertificateRequest { revision, ..request.clone() };
        self.change_member(change, node, |member| member.request = Some(request))
    }

    pub(super) fn record_server_certificate(
        &mut self,
        change: &mut Change,
        node: NodeId,
        expected: Revision,
        certificate: &ServerCertificate,
    ) -> Result<Outcome, Rejection> {
        let member = self.found_member(node)?;
        if member.certificate.as_ref() == Some(certificate) {
            return Ok(Outcome::Done);
        }
        let Some(request) = &member.request else {
            return Err(check::not_found(format!("a certificate request of server {}", member.name)));
        };
        check::unchanged(format!("the certificate request of server {}", member.name), expected, request.revision)?;
        if request.public_key != certificate.public_key {
            return Err(check::invalid("the server certificate", "its key is not the requested one"));
        }
        self.check_server_certificate(change, certificate)?;
        let replaced = member.certificate.as_ref().map(|certificate| certificate.public_key);
        let replaced = replaced.filter(|key| *key != certificate.public_key);
        self.change_member(change, node, |member| {
            member.former_key = replaced.or(member.former_key);
            member.certificate = Some(certificate.clone());
            member.request = None;
        })
    }

    fn check_server_certificate(&self, change: &Change, made: &ServerCertificate) -> Result<(), Rejection> {
        check::der("the server certificate", &made.certificate, CERTIFICATE_BYTES_MAX)?;
        let root = self.server.find(&made.root);
        let root = root.ok_or_else(|| check::not_found(format!("the server CA root {}", made.root)))?;
        if root.phase == RootPhase::Retired {
            let phase = root.phase.as_str().into();
            return Err(Rejection::WrongPhase { root: made.root, phase, reason: "it signs nothing more".into() });
        }
        let (not_before, not_after) = (made.not_before, made.not_after);
        let is_within = not_before >= root.made.not_before && not_after <= root.made.not_after;
        if is_within && not_before < not_after && not_after > change.now {
            return Ok(());
        }
        let reason = "they are outside of the root's, or have ended".into();
        Err(Rejection::DatesRefused { not_before, not_after, reason })
    }

    pub(super) fn request_removal(&mut self, change: &mut Change, node: NodeId) -> Result<Outcome, Rejection> {
        if self.removed.contains_key(&node) {
            return Ok(Outcome::Done);
        }
        if self.found_member(node)?.is_leaving {
            return Ok(Outcome::Done);
        }
        if self.members.values().filter(|member| !member.is_leaving).count() == 1 {
            let reason = "it is the last server; the datacenter would be gone";
            return Err(check::invalid(format!("the removal of server {node}"), reason));
        }
        self.change_member(change, node, |member| member.is_leaving = true)
    }

    pub(super) fn remove_server(
        &mut self,
        change: &mut Change,
        node: NodeId,
        expected: Revision,
    ) -> Result<Outcome, Rejection> {
        if self.removed.contains_key(&node) {
            return Ok(Outcome::Done);
        }
        let member = self.found_member(node)?;
        check::unchanged(format!("server {}", member.name), expected, member.modified)?;
        if !member.is_leaving {
            return Err(check::invalid(format!("the removal of server {}", member.name), "nobody asked for it"));
        }
        let (name, store) = (member.name.clone(), member.store);
        self.members.remove(&node);
        if self.removed.len() >= REMOVED_MEMBERS_MAX
            && let Some(oldest) = self.removed.get_min().map(|(node, _)| *node)
        {
            self.removed.remove(&oldest);
        }
        self.removed.insert(node, RemovedMember { node, name, store, removed_at: change.now });
        self.retire_issuers_of(change, node);
        self.forget_acknowledgement(change, node);
        change.touch(WatchKey::Members);
        Ok(Outcome::Done)
    }

    pub(super) fn found_member(&self, node: NodeId) -> Result<&Arc<Member>, Rejection> {
        if let Some(removed) = self.removed.get(&node) {
            return Err(Rejection::Removed { node, removed_at: removed.removed_at });
        }
        self.members.get(&node).ok_or_else(|| check::not_found(format!("server {node}")))
    }

    fn change_member(
        &mut self,
        change: &mut Change,
        node: NodeId,
        edit: impl FnOnce(&mut Member),
    ) -> Result<Outcome, Rejection> {
        let mut member = Member::clone(self.found_member(node)?);
        edit(&mut member);
        member.modified = change.revision();
        self.members.insert(node, Arc::new(member));
        change.touch(WatchKey::Members);
        Ok(Outcome::Done)
    }

    /// The slots that a sealed key must have, exactly: every recorded server's. A leaving server keeps its slot until it is removed.
    pub fn sealing_slots(&self) -> Vec<(NodeId, String)> {
        let members = self.members.values().take(if planted::is(Bug::SlotForgotten) { 1 } else { usize::MAX });
        members.map(|member| (member.node, member.sealing_recipient.clone())).collect()
    }
}

pub(super) fn check_server(addresses: &Addresses, sealing_recipient: &str) -> Result<(), Rejection> {
    check_addresses(addresses)?;
    check::text("sealing recipient", sealing_recipient, RECIPIENT_BYTES_MAX)
}

fn check_addresses(addresses: &Addresses) -> Result<(), Rejection> {
    check::text("raft address", &addresses.raft, ADDRESS_BYTES_MAX)?;
    check::text("grpc address", &addresses.grpc, ADDRESS_BYTES_MAX)?;
    check::text("WAN address", addresses.wan.as_deref().unwrap_or_default(), ADDRESS_BYTES_MAX)
}

fn new_member(change: &Change, node: NodeId, server: &AdmitServer) -> Member {
    let revision = change.revision();
    let request = ServerCertificateRequest { csr: server.csr.clone(), public_key: server.public_key, revision };
    Member {
        node,
        name: server.name.clone(),
        store: server.store,
        addresses: server.addresses.clone(),
        sealing_recipient: server.sealing_recipient.clone(),
        supports: server.supports,
        certificate: None,
        former_key: None,
        request: Some(request),
        is_leaving: false,
        admitted_at: change.now,
        created: revision,
        modified: revision,
    }
}
