//! Values of agents and of revoked leaves.

use std::sync::Arc;

use carrack_authority::{
    Command, WatchKey,
    agent::{Acknowledgement, Agent, AgentToken, LaggingAgents},
    federation::{Change, Cursor, Followed, Table},
    id::{Digest, KeyId, NodeId, Revision, Serial},
    revocation::{Revocation, RevokedIssuer},
    state::StateRecord,
    time::Timestamp,
};
use uuid::Uuid;

use crate::name;

fn agent_token() -> AgentToken {
    let (secret, node, created) = (Digest([169; 32]), name("n1"), Revision(170));
    AgentToken { secret, node, expires_at: Timestamp(171), consumed: Some(Digest([172; 32])), created }
}

pub(crate) fn commands() -> [Command; 3] {
    let (secret, node, public_key) = (Digest([173; 32]), name("n1"), Digest([174; 32]));
    [
        Command::CreateAgentToken(agent_token()),
        Command::AdmitAgent { secret, node: node.clone(), public_key },
        Command::RemoveAgent { node, expected: Revision(175) },
    ]
}

pub(crate) fn revocation() -> Revocation {
    let (serial, until, reason) = (Serial([182; 20]), Timestamp(183), "lost laptop".to_owned());
    Revocation { serial, until, reason, revoked_at: Timestamp(184), created: Revision(185), modified: Revision(186) }
}

pub(crate) fn revocations() -> [Command; 2] {
    let Revocation { serial, until, reason, .. } = revocation();
    let (primary, table, at) = (Uuid::from_u128(187), Table::Revocations, Cursor::default());
    let change = Change::Revocations { page: None, put: vec![revocation()] };
    [
        Command::RevokeLeaf { serial, until, reason },
        Command::FollowPrimary(Box::new(Followed { primary, table, from: at, to: at, change, is_all: true })),
    ]
}

pub(crate) fn records() -> Vec<StateRecord> {
    let (node, public_key, joined_at) = (name("n1"), Digest([176; 32]), Timestamp(177));
    let agent = Agent { node, public_key, joined_at, created: Revision(178), modified: Revision(179) };
    let keys = [WatchKey::Agents, WatchKey::Agent(Digest([180; 32])), WatchKey::AgentTokens];
    let mut records = vec![StateRecord::Agent(Arc::new(agent)), StateRecord::AgentToken(agent_token())];
    records.extend(keys.map(|key| StateRecord::Modified(key, Revision(181))));
    records
}

fn lagging() -> LaggingAgents {
    LaggingAgents { count: 194, named: vec![name("n1")] }
}

pub(crate) fn acknowledgement() -> Command {
    Command::AcknowledgeBundle { node: NodeId(195), bundle: Revision(196), lagging: lagging() }
}

pub(crate) fn acknowledgement_records() -> [StateRecord; 2] {
    let (node, bundle, told_at) = (NodeId(195), Revision(196), Timestamp(197));
    let told = Acknowledgement { node, bundle, lagging: lagging(), told_at, modified: Revision(198) };
    [StateRecord::Acknowledgement(told), StateRecord::Modified(WatchKey::Acknowledgements, Revision(199))]
}

fn revoked_issuer() -> RevokedIssuer {
    let (issuer, root, reason) = (KeyId([200; 20]), KeyId([201; 20]), "lost machine".to_owned());
    RevokedIssuer { issuer, root, until: Timestamp(202), reason, revoked_at: Timestamp(203) }
}

pub(crate) fn revoked_issuers() -> [Command; 2] {
    let RevokedIssuer { issuer, reason, .. } = revoked_issuer();
    let (primary, table, at) = (Uuid::from_u128(204), Table::RevokedIssuers, Cursor::default());
    let change = Change::RevokedIssuers(vec![revoked_issuer()]);
    [
        Command::RevokeIssuer { issuer, reason, is_forced: true },
        Command::FollowPrimary(Box::new(Followed { primary, table, from: at, to: at, change, is_all: true })),
    ]
}

pub(crate) fn revoked_issuer_records() -> [StateRecord; 2] {
    let modified = StateRecord::Modified(WatchKey::RevokedIssuers, Revision(205));
    [StateRecord::RevokedIssuer(Arc::new(revoked_issuer())), modified]
}
