//! The decision whether a signed leaf is recorded and so may be released.

use super::{Change, State, check};
use crate::{
    acl::AccessorId,
    id::{NodeId, Serial},
    issuance::{BACKDATING, DEADLINE_MAX, Grant, Holder, ISSUANCES_MAX, Issuance, Keeper, SLOT_BYTES_MAX},
    issuer::IssuerPhase,
    outcome::{Outcome, Rejection, WatchKey},
    planted::{self, Bug},
    root::RootPhase,
    spiffe::{Identity, Name, SpiffeId, SpiffePath},
};

impl State {
    pub(super) fn record_issuance(
        &mut self,
        change: &mut Change,
        proposer: NodeId,
        issuance: &Issuance,
    ) -> Result<Outcome, Rejection> {
        if let Some(found) = self.issuances.find(&issuance.serial)
            && !planted::is(Bug::RetryRecordsTwice)
        {
            let is_duplicate = found.issuance.certificate == issuance.certificate;
            let taken = Rejection::SerialTaken { serial: issuance.serial };
            return if is_duplicate { Ok(Outcome::Recorded { sequence: found.sequence }) } else { Err(taken) };
        }
        self.check_deadline(change, issuance)?;
        if self.is_halted() && !planted::is(Bug::HaltIgnored) {
            return Err(Rejection::Halted);
        }
        check::room("unexpired issuances", self.issuances.unexpired(), ISSUANCES_MAX)?;
        check_serial(&issuance.serial)?;
        check_holder(proposer, &issuance.holder)?;
        self.check_issuer(proposer, issuance)?;
        self.check_dates(change, issuance)?;
        if !planted::is(Bug::GrantNotCheckedAtCommit) {
            self.check_grant(issuance)?;
        }
        let sequence = self.issuances.append(change.index, change.now, issuance);
        change.touch(WatchKey::Issuances);
        Ok(Outcome::Recorded { sequence })
    }

    fn check_deadline(&self, change: &Change, issuance: &Issuance) -> Result<(), Rejection> {
        let (deadline, now) = (issuance.deadline, change.now);
        if deadline < now {
            return Err(Rejection::DeadlinePassed { deadline, now });
        }
        if deadline > now.plus(DEADLINE_MAX) {
            let reason = format!("it is more than {} s after {now}", DEADLINE_MAX.as_secs());
            return Err(check::invalid(format!("the deadline {deadline}"), reason));
        }
        Ok(())
    }

    fn check_issuer(&self, proposer: NodeId, issuance: &Issuance) -> Result<(), Rejection> {
        let refused = |reason: &str| Rejection::IssuerRefused { issuer: issuance.issuer, reason: reason.into() };
        let issuer = self.issuers.get(&issuance.issuer).ok_or_else(|| refused("it is not recorded here"))?;
        check::from_itself(issuer.node, proposer)?;
        if issuer.phase != IssuerPhase::Live {
            return Err(refused("it is retired"));
        }
        let root = self.mesh.find(&issuer.root).ok_or_else(|| refused("its root is not in the bundle"))?;
        if root.phase != RootPhase::Active {
            return Err(refused("its root is not the active one"));
        }
        if planted::is(Bug::LeafOutlivesIssuer) {
            return Ok(());
        }
        if issuance.not_before < issuer.not_before || issuance.not_after > issuer.not_after.min(root.made.not_after) {
            return Err(dates(issuance, "they are outside of the issuer's or the root's"));
        }
        Ok(())
    }

    /// The dates must be those of a leaf that was signed at most `DEADLINE_MAX` ago and lives at most `LeafCertTTL`.
    fn check_dates(&self, change: &Change, issuance: &Issuance) -> Result<(), Rejection> {
        if issuance.not_after <= change.now {
            return Err(dates(issuance, "the leaf has ended"));
        }
        if issuance.not_before > change.now {
            return Err(dates(issuance, "the leaf has not begun"));
        }
        if issuance.not_before.plus(BACKDATING + DEADLINE_MAX) < change.now
            && self.issuers.get(&issuance.issuer).is_none_or(|issuer| issuer.not_before != issuance.not_before)
        {
            return Err(dates(issuance, "the leaf was signed too long ago"));
        }
        // The signer's clock may be ahead of the stamp by what `not_before` lies behind it.
        if issuance.not_after > issuance.not_before.plus(self.config.config.leaf_ttl.saturating_add(BACKDATING)) {
            return Err(dates(issuance, "the leaf would live longer than LeafCertTTL"));
        }
        Ok(())
    }

    fn check_grant(&self, issuance: &Issuance) -> Result<(), Rejection> {
        let Identity::Spiffe(id) = &*issuance.identity else {
            return Err(refused("no auth method of this feature level grants a Linkerd identity".into()));
        };
        self.check_own_name(id)?;
        match &*issuance.grant {
            Grant::Token(accessor) => self.check_token_grant(*accessor, id),
            Grant::Review(review) => Err(refused(format!("the auth method `{}` does not exist", review.method))),
            Grant::Agent(node) => self.check_agent_grant(node, issuance, id),
        }
    }

    fn check_own_name(&self, id: &SpiffeId) -> Result<(), Rejection> {
        let cluster = self.cluster.as_ref().ok_or(Rejection::NotBootstrapped)?;
        if id.trust_domain != cluster.trust_domain {
            let (theirs, ours) = (&id.trust_domain, &cluster.trust_domain);
            return Err(refused(format!("SPIFFE ID in CSR from a different trust domain: {theirs}, we are {ours}")));
        }
        if *id.datacenter() != cluster.datacenter {
            let (theirs, ours) = (id.datacenter(), &cluster.datacenter);
            return Err(refused(format!("SPIFFE ID in CSR from a different datacenter: {theirs}, we are {ours}")));
        }
        Ok(())
    }

    /// An agent is entitled to its own certificate, and to no other, with the key by which it is known.
    fn check_agent_grant(&self, node: &Name, issuance: &Issuance, id: &SpiffeId) -> Result<(), Rejection> {
        let agent = self.agent(node).ok_or_else(|| refused(format!("the agent `{node}` is not registered")))?;
        if !matches!(&id.path, SpiffePath::Agent { node: named, .. } if named == node) {
            return Err(refused(format!("the agent `{node}` is entitled to its own certificate alone")));
        }
        if agent.public_key != issuance.public_key {
            return Err(refused(format!("the agent `{node}` is known by another key")));
        }
        Ok(())
    }

    fn check_token_grant(&self, accessor: AccessorId, id: &SpiffeId) -> Result<(), Rejection> {
        let Some(token) = self.acl.token(accessor, self.now) else {
            return Err(refused(format!("token {accessor} does not exist or has ended")));
        };
        let (permission, name, holds) = match &id.path {
            SpiffePath::Service { service, .. } => {
                ("service:write", service, self.authorizer(token).service_write(service.as_str()))
            }
            SpiffePath::Agent { node, .. } => ("node:write", node, self.authorizer(token).node_write(node.as_str())),
            SpiffePath::Server { datacenter } => ("acl:write", datacenter, self.authorizer(token).acl_write()),
        };
        let lacks = format!("token with AccessorID '{accessor}' lacks permission '{permission}' on \"{name}\"");
        if holds { Ok(()) } else { Err(refused(lacks)) }
    }
}

/// RFC 5280 section 4.1.2.2: positive, and at most 20 octets.
fn check_serial(serial: &Serial) -> Result<(), Rejection> {
    let is_positive = serial.0[0] < 0x80 && serial.0 != [0; 20];
    if is_positive { Ok(()) } else { Err(check::invalid(format!("the serial {serial}"), "it is not positive")) }
}

fn check_holder(proposer: NodeId, holder: &Holder) -> Result<(), Rejection> {
    check::text("holder slot", &holder.slot, SLOT_BYTES_MAX)?;
    match holder.keeper {
        Keeper::Server(node) => check::from_itself(node, proposer),
        Keeper::Agent(_) | Keeper::Login(_) => Ok(()),
    }
}

fn refused(reason: String) -> Rejection {
    Rejection::GrantRefused { reason }
}

fn dates(issuance: &Issuance, reason: &str) -> Rejection {
    let (not_before, not_after) = (issuance.not_before, issuance.not_after);
    Rejection::DatesRefused { not_before, not_after, reason: reason.into() }
}
