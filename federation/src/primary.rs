//! What the primary offers to the other datacenters: its tables to follow, and issuers. Who asks, the connection has shown.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    Command, Outcome, Rejection, State,
    federation::{Change, Cursor, Next, RemoteIssuer, Table, next, table_keys},
    id::Revision,
    key::Der,
    planted::{self, Bug},
    root::{Ca, RootPhase},
    spiffe::Name,
    x509::csr::{CsrLimits, VerifiedIssuerCsr},
};
use futures::Stream;
use tokio::time::{Instant, sleep};

use crate::ports::{Heard, IssuerAsked, IssuerSigner, IssuerToSign, Log, LogError};

/// How often a stream on which nothing changes says that it is alive, and that what it has said is still the committed state.
pub const ALIVE_EVERY: Duration = Duration::from_secs(5);
/// How long the list of datacenters rests after it was sent: it is sent as a whole, and each of them may change it every second.
const DATACENTERS_REST: Duration = Duration::from_secs(2);
/// How long a server may take to have its state confirmed; one that cannot is cut off, and its followers go to another one.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(5);
/// How long a server that is behind its follower may take to catch up before the follower goes to another one.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(5);
/// How long the record of an issuer may take.
const RECORDED_WITHIN: Duration = Duration::from_secs(10);

/// A request of another datacenter is not fulfilled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrimaryError {
    /// It cannot be fulfilled here and now: another server, or later.
    #[error("{0}")]
    Unavailable(String),
    /// It is refused.
    #[error("{0}")]
    Refused(String),
}

impl From<LogError> for PrimaryError {
    fn from(error: LogError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

fn refused(reason: impl Into<String>) -> PrimaryError {
    PrimaryError::Refused(reason.into())
}

/// A table and each of its changes, from where the follower is. The stream ends when this server cannot tell any more what is committed.
pub fn follow(
    log: Arc<dyn Log>,
    table: Table,
    from: Cursor,
) -> impl Stream<Item = Result<Heard, PrimaryError>> + Send + 'static {
    async_stream::try_stream! {
        let mut cursor = from;
        let mut state = confirmed(&*log).await?;
        let deadline = Instant::now() + CAUGHT_UP_WITHIN;
        if !log.applied(cursor.revision.0, deadline).await {
            Err(PrimaryError::Unavailable(format!(
                "this server has applied index {}, and the follower has heard of {} already",
                state.index(),
                cursor.revision
            )))?;
        }
        // The first word is due at once: the follower learns that it is heard.
        let mut due = Instant::now();
        loop {
            let primary_revision = Revision(state.index());
            if let Some(next) = next(&state, table, &cursor) {
                let Next { change, to, is_all } = next;
                cursor = to;
                due = Instant::now() + ALIVE_EVERY;
                yield Heard { change, to, is_all, primary_revision };
                if table == Table::Datacenters {
                    sleep(DATACENTERS_REST).await;
                }
                state = log.state();
                continue;
            }
            if Instant::now() < due {
                // A change that is none of this table's does not put the sign of life off.
                let seen = table_keys(table).iter().map(|key| (*key, state.modified(key))).collect();
                log.changed(seen, due).await;
                state = log.state();
                continue;
            }
            state = confirmed(&*log).await?;
            if next(&state, table, &cursor).is_none() {
                due = Instant::now() + ALIVE_EVERY;
                let primary_revision = Revision(state.index());
                yield Heard { change: Change::Nothing, to: cursor, is_all: true, primary_revision };
            }
        }
    }
}

async fn confirmed(log: &dyn Log) -> Result<State, PrimaryError> {
    let state = log.confirmed(CONFIRMED_WITHIN).await?;
    only_primary(&state)?;
    Ok(state)
}

fn only_primary(state: &State) -> Result<(), PrimaryError> {
    match state.primary() {
        Some(primary) => Err(refused(format!("this datacenter is a secondary; the primary is `{primary}`"))),
        None if state.cluster().is_none() => Err(PrimaryError::Unavailable("this datacenter has not begun".into())),
        None => Ok(()),
    }
}

/// Signs an issuer of a server of another datacenter, and answers it once its record is committed. The same key is answered with the
/// same certificate.
pub async fn sign_issuer(
    log: &dyn Log,
    signer: &dyn IssuerSigner,
    datacenter: &Name,
    asked: IssuerAsked,
) -> Result<Der, PrimaryError> {
    let state = confirmed(log).await?;
    if state.datacenter(datacenter).is_none() {
        return Err(refused(format!("the datacenter `{datacenter}` is not one of this federation")));
    }
    let csr = VerifiedIssuerCsr::verify(asked.csr.as_bytes(), &CsrLimits::default());
    let csr = csr.map_err(|error| refused(error.to_string()))?;
    let cluster = state.cluster().ok_or_else(|| PrimaryError::Unavailable("this datacenter has not begun".into()))?;
    if *csr.trust_domain() != cluster.trust_domain {
        let (asked, own) = (csr.trust_domain(), &cluster.trust_domain);
        return Err(refused(format!("the request is for the trust domain `{asked}`, this one is `{own}`")));
    }
    if let Some(answer) = recorded(&state, datacenter, &asked, &csr) {
        return answer;
    }
    if !state.has_told_of(datacenter, asked.node) {
        let (name, node) = (&asked.node_name, asked.node);
        return Err(match state.servers_of(datacenter) {
            Some(servers) if servers.is_removed(node) => {
                refused(format!("the datacenter `{datacenter}` has removed its server {name} ({node})"))
            }
            _ => PrimaryError::Unavailable(format!(
                "the datacenter `{datacenter}` has not told yet that it has the server {name} ({node})"
            )),
        });
    }
    let root = state.roots(Ca::Mesh).find(&asked.root).cloned();
    let root = root.ok_or_else(|| refused(format!("there is no root {}", asked.root)))?;
    if root.phase == RootPhase::Retired {
        return Err(refused(format!("root {} is retired and signs nothing more", asked.root)));
    }
    let config = state.ca_config().config;
    let key = csr.public_key().id;
    let to_sign = IssuerToSign {
        csr: csr.clone(),
        datacenter: datacenter.clone(),
        server: asked.node_name.clone(),
        now: log.log_time(),
        ttl: config.intermediate_ttl,
    };
    let signed = signer.sign(&root, to_sign).await.map_err(PrimaryError::Unavailable)?;
    if planted::is(Bug::IssuerBeforeRecord) {
        return Ok(signed.der);
    }
    let issuer = RemoteIssuer {
        id: key,
        datacenter: datacenter.clone(),
        node: asked.node,
        root: asked.root,
        certificate: signed.der.clone(),
        not_before: signed.facts.not_before,
        not_after: signed.facts.not_after,
        created: Revision(0),
    };
    match log.propose(Command::RecordRemoteIssuer(Box::new(issuer)), RECORDED_WITHIN).await?.accepted() {
        Ok(Outcome::Done) => Ok(signed.der),
        Ok(other) => Err(PrimaryError::Unavailable(format!("the log answered {other:?} to an issuer"))),
        // Another server has signed for the same key meanwhile.
        Err(Rejection::AlreadyExists { what }) => {
            let state = confirmed(log).await?;
            recorded(&state, datacenter, &asked, &csr).unwrap_or_else(|| Err(refused(format!("{what} exists already"))))
        }
        Err(rejection @ (Rejection::Halted | Rejection::LimitReached { .. })) => {
            Err(PrimaryError::Unavailable(rejection.to_string()))
        }
        Err(rejection) => Err(refused(rejection.to_string())),
    }
}

/// The answer to a request whose key was certified before.
fn recorded(
    state: &State,
    datacenter: &Name,
    asked: &IssuerAsked,
    csr: &VerifiedIssuerCsr,
) -> Option<Result<Der, PrimaryError>> {
    let found = state.remote_issuer(&csr.public_key().id)?;
    let is_same = found.datacenter == *datacenter && found.node == asked.node && found.root == asked.root;
    Some(match is_same {
        true => Ok(found.certificate.clone()),
        false => Err(refused(format!("the key {} has an issuer of another server or root", found.id))),
    })
}

#[cfg(test)]
mod tests;
