//! The issuing desk: from a CSR and a token to a leaf that the datacenter has committed. Nothing is released before its record.
//!
//! Admission comes first, then the CSR is verified and the leaf signed on the signing pool, then the record is proposed; many
//! requests share one entry and one sync.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use carrack_authority::{
    Command, Outcome, Rejection, State,
    acl::{AccessorId, Token},
    federation::Table,
    id::{Digest, KeyId, NodeId, Serial},
    issuance::{Grant, Holder, Issuance, Keeper, SLOT_BYTES_MAX},
    issuer::Issuer,
    key::{Der, Signer},
    leaf::{LeafIssuer, LeafProfile},
    planted::{self, Bug},
    root::{Ca, Root},
    spiffe::{Identity, Name, SpiffePath, TrustDomain},
    time::Timestamp,
    x509::{
        authority::{self, SignedCertificate},
        csr::{CsrLimits, VerifiedCsr},
        facts::CertificateFacts,
        served::Above,
    },
};
use carrack_raft::{ProposeError, Replica, ports::Entropy};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{admission::Admission, task::StepError};
use crate::{
    config::{UNLIMITED, duration},
    keys::pool::{PoolError, SigningPool},
    telemetry::{labels::IssuanceOutcome, metrics::Metrics},
};

/// How long a leaf may take from the desk to its record. A client's own patience is longer.
pub const ISSUE_WITHIN: Duration = Duration::from_secs(10);
/// The most requests at the desk at once, when `CSRMaxConcurrent` is 0: what the log takes in a second on two cores, and a bound
/// on the memory of a herd.
pub const IN_FLIGHT_MAX: usize = 8192;

/// How long a request waits for the next issuer when its own has just been replaced: that one's key is here already.
const REPLACED_WITHIN: Duration = Duration::from_secs(2);

/// Where a refusal's code for programs stands: HTTP's header, gRPC's metadata.
pub(crate) const ERROR_CODE: &str = "x-carrack-error-code";
/// The code of [`IssueError::HaltUnknown`].
pub(crate) const HALT_UNKNOWN: &str = "halt_unknown";

/// Why a token of all datacenters is not honoured in a secondary that has not heard the primary for too long.
pub(crate) const TOKEN_IS_STALE: &str = "Permission denied: the primary was not heard for longer than acl.token_staleness_max, and until it is, \
     tokens that hold in every datacenter are not honoured here; a local token is";

/// What entitles whoever asks for a leaf.
#[derive(Clone, Debug)]
pub enum Granted {
    /// A token.
    Token(Arc<Token>),
    /// It is an agent, and asks for its own certificate.
    Agent(Name),
}

/// A request for a leaf.
#[derive(Clone, Debug)]
pub struct IssueRequest {
    /// The PKCS#10 request, DER.
    pub csr: Vec<u8>,
    /// Who asks.
    pub granted: Granted,
    /// Who will keep the leaf.
    pub keeper: Keeper,
    /// Which of the keeper's leaves of one identity it is; `None`: the key's own.
    pub slot: Option<String>,
    /// A shorter life than `LeafCertTTL`.
    pub ttl: Option<Duration>,
}

/// A recorded leaf.
#[derive(Clone, Debug)]
pub struct Issued {
    /// What was recorded.
    pub issuance: Issuance,
    /// The leaf.
    pub certificate: Der,
    /// What is served after it: the issuer, then a bridge while there is one.
    pub chain: Vec<Der>,
    /// Its place in the issuance log.
    pub sequence: u64,
    /// The index of its entry.
    pub index: u64,
}

/// Why no leaf was issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The request is at fault.
    #[error("{0}")]
    CallerMistake(String),
    /// The token does not entitle to the identity.
    #[error("{0}")]
    PermissionDenied(String),
    /// Too many requests.
    #[error("Rate limit reached, try again later: {reason}")]
    RateLimited {
        /// Which limit.
        reason: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// Issuing is halted.
    #[error("issuing is halted in this datacenter; an operator resumes it with `carrack ca unhalt`")]
    Halted,
    /// Nobody here knows whether issuing is halted: this secondary has not heard the primary for too long.
    #[error("{0}")]
    HaltUnknown(String),
    /// This server cannot issue now.
    #[error("{0}")]
    Unavailable(String),
    /// Issuing went on under another issuer while the leaf was signed.
    #[error("{0}")]
    IssuerRefused(String),
    /// The log did not answer in time: the certificate was dropped, a record of it may exist.
    #[error("outcome unknown: the certificate was not recorded within {} s and is dropped; ask for a new one", ISSUE_WITHIN.as_secs())]
    OutcomeUnknown,
}

/// This server's issuer at work.
pub struct ActiveIssuer {
    id: KeyId,
    leaf_issuer: LeafIssuer,
    above: Above,
}

impl ActiveIssuer {
    /// The issuer with its key, under its root, and what is served above it.
    pub fn new(
        root: &Root,
        above: Above,
        issuer: &Issuer,
        signer: Arc<dyn Signer>,
        trust_domain: TrustDomain,
        datacenter: Name,
    ) -> Result<Self, StepError> {
        let root_facts = CertificateFacts::read(root.made.certificate.as_bytes())?;
        let certificate = issuer.certificate.clone();
        let leaf_issuer = LeafIssuer::new(certificate, &root_facts, signer, trust_domain, datacenter)?;
        Ok(Self { id: issuer.id, leaf_issuer, above })
    }

    /// What is served after a leaf that ends then.
    fn chain(&self, not_after: Timestamp) -> Vec<Der> {
        self.above.serve(self.leaf_issuer.certificate(), not_after)
    }
}

/// Issues leaves on this server.
pub struct IssuingDesk {
    node: NodeId,
    replica: Replica,
    pool: SigningPool,
    entropy: Arc<dyn Entropy>,
    metrics: Arc<Metrics>,
    admission: Admission,
    in_flight: AtomicUsize,
    active: ArcSwapOption<ActiveIssuer>,
    /// Another issuer signs.
    changed: Notify,
    token_staleness_max: Option<Duration>,
    halt_staleness_max: Option<Duration>,
}

impl IssuingDesk {
    /// The desk of one server; it issues nothing before it is given an issuer.
    pub fn new(
        node: NodeId,
        replica: Replica,
        pool: SigningPool,
        entropy: Arc<dyn Entropy>,
        metrics: Arc<Metrics>,
        token_staleness_max: Option<Duration>,
        halt_staleness_max: Option<Duration>,
    ) -> Self {
        let (admission, in_flight) = (Admission::default(), AtomicUsize::new(0));
        Self {
            node,
            replica,
            pool,
            entropy,
            metrics,
            admission,
            in_flight,
            active: ArcSwapOption::empty(),
            changed: Notify::new(),
            token_staleness_max,
            halt_staleness_max,
        }
    }

    /// The issuer that signs now.
    pub fn issuer(&self) -> Option<KeyId> {
        self.active.load().as_ref().map(|active| active.id)
    }

    /// Whether this issuer signs already, with this above it.
    pub(crate) fn works_with(&self, id: &KeyId, above: &Above) -> bool {
        self.active.load().as_ref().is_some_and(|active| active.id == *id && active.above == *above)
    }

    /// Signs with this issuer from now on.
    pub(crate) fn work_with(&self, issuer: ActiveIssuer) {
        self.active.store(Some(Arc::new(issuer)));
        self.changed.notify_waiters();
    }

    /// Signs nothing more.
    pub(crate) fn withdraw(&self) {
        self.active.store(None);
    }

    /// Verifies, signs, records, and only then answers.
    pub async fn issue(&self, request: IssueRequest) -> Result<Issued, IssueError> {
        let result = self.issue_uncounted(request).await;
        self.metrics.count_issuance(outcome_label(&result));
        result
    }

    async fn issue_uncounted(&self, request: IssueRequest) -> Result<Issued, IssueError> {
        let applied = self.replica.state();
        let state = &applied.state;
        let now = self.replica.log_time();
        self.check_switch(state, now)?;
        let active = self.active.load_full().ok_or_else(|| self.no_issuer(state))?;
        let _place = self.admit(state)?;
        if request.slot.as_ref().is_some_and(|slot| slot.len() > SLOT_BYTES_MAX) {
            return Err(IssueError::CallerMistake(format!("the slot is longer than {SLOT_BYTES_MAX} bytes")));
        }
        let is_cut_off = || now.since(state.progress(Table::Ca).heard_at) > Duration::from_secs(45);
        if planted::is(Bug::IssuerNeedsPrimary) && state.primary().is_some() && is_cut_off() {
            return Err(self.no_issuer(state));
        }
        match self.sign_and_record(&active, request.clone()).await {
            // The root was rotated, or the issuer renewed, in between: the client need not know.
            Err(IssueError::IssuerRefused(reason)) => match self.replaced(active.id).await {
                Some(active) => self.sign_and_record(&active, request).await,
                None => Err(IssueError::IssuerRefused(reason)),
            },
            result => result,
        }
    }

    async fn sign_and_record(&self, active: &Arc<ActiveIssuer>, request: IssueRequest) -> Result<Issued, IssueError> {
        let applied = self.replica.state();
        let (state, now) = (&applied.state, self.replica.log_time());
        // At the time from which the record's deadline counts: what was not heard for too long lets nothing be recorded after that.
        self.check_switch(state, now)?;
        if let Granted::Token(token) = &request.granted
            && state.is_stale(token, now, self.token_staleness_max)
        {
            return Err(IssueError::PermissionDenied(TOKEN_IS_STALE.into()));
        }
        let leaf_ttl = state.ca_config().config.leaf_ttl;
        let ttl = request.ttl.map_or(leaf_ttl, |ttl| ttl.min(leaf_ttl));
        let (issuance, signed) = self.sign(active, state, request, now, ttl).await?;
        let (sequence, index) = self.record(&issuance).await?;
        let chain = active.chain(issuance.not_after);
        Ok(Issued { issuance, certificate: signed.der, chain, sequence, index })
    }

    /// Refuses while issuing is halted, and while the primary may have halted it and is not heard.
    fn check_switch(&self, state: &State, now: Timestamp) -> Result<(), IssueError> {
        let refusal = if state.is_halted() && !planted::is(Bug::HaltIgnored) {
            Some((Rejection::Halted.code(), IssueError::Halted))
        } else {
            halt_unknown(state, now, self.halt_staleness_max)
                .filter(|_| !planted::is(Bug::HaltStalenessIgnored))
                .map(|reason| (HALT_UNKNOWN, IssueError::HaltUnknown(reason)))
        };
        match refusal {
            Some((code, refusal)) => {
                self.metrics.count_rejection(code);
                Err(refusal)
            }
            None => Ok(()),
        }
    }

    /// The issuer that has taken the place of this one, soon.
    async fn replaced(&self, former: KeyId) -> Option<Arc<ActiveIssuer>> {
        let deadline = Instant::now() + REPLACED_WITHIN;
        loop {
            let changed = self.changed.notified();
            if let Some(active) = self.active.load_full().filter(|active| active.id != former) {
                return Some(active);
            }
            timeout_at(deadline, changed).await.ok()?;
        }
    }

    fn no_issuer(&self, state: &State) -> IssueError {
        let member = state.member(self.node);
        IssueError::Unavailable(match member {
            None => format!("server {} is not a member of this datacenter", self.node),
            Some(member) if member.is_leaving => format!("server {} is leaving this datacenter", member.name),
            Some(member) => format!("server {} has {}: see `carrack status`", member.name, lacks_issuer(state)),
        })
    }

    fn admit(&self, state: &State) -> Result<Place<'_>, IssueError> {
        let config = &state.ca_config().config;
        let servers = u32::try_from(state.members().count()).unwrap_or(u32::MAX).max(1);
        self.admission.take(config.csr_max_per_second, servers, Instant::now()).map_err(|retry_after| {
            let reason = format!("CSRMaxPerSecond is {} for this datacenter", config.csr_max_per_second);
            IssueError::RateLimited { reason, retry_after }
        })?;
        let configured = usize::try_from(config.csr_max_concurrent).unwrap_or(usize::MAX);
        let limit = if configured == 0 { IN_FLIGHT_MAX } else { configured.min(IN_FLIGHT_MAX) };
        let place = Place::take(&self.in_flight, limit);
        place.ok_or_else(|| IssueError::RateLimited {
            reason: format!("{limit} requests are being worked on"),
            retry_after: Duration::from_secs(1),
        })
    }

    async fn sign(
        &self,
        active: &Arc<ActiveIssuer>,
        state: &State,
        request: IssueRequest,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<(Issuance, SignedCertificate), IssueError> {
        let mut serial = [0; 20];
        self.entropy.fill(&mut serial);
        if planted::is(Bug::PredictableSerials) {
            serial = [1; 20];
            serial[12..].copy_from_slice(&now.0.to_be_bytes());
        }
        let (active, state) = (active.clone(), state.clone());
        let work = move || sign_leaf(&active, &state, request, Serial::from_random(serial), now, ttl);
        let began = Instant::now();
        let signed = self.pool.run(work).await.map_err(|error| match error {
            PoolError::Overloaded { .. } => {
                IssueError::RateLimited { reason: error.to_string(), retry_after: Duration::from_secs(1) }
            }
            PoolError::Stopped => IssueError::Unavailable(error.to_string()),
        })?;
        self.metrics.observe_sign(began.elapsed());
        signed
    }

    async fn record(&self, issuance: &Issuance) -> Result<(u64, u64), IssueError> {
        let began = Instant::now();
        let command = Command::RecordIssuance(issuance.clone());
        let proposed = self.replica.propose(command, began + ISSUE_WITHIN).await.map_err(of_propose_error)?;
        self.metrics.observe_commit(began.elapsed());
        match proposed.outcome {
            Outcome::Recorded { sequence } => Ok((sequence, proposed.index)),
            Outcome::Rejected(rejection) => {
                self.metrics.count_rejection(rejection.code());
                Err(of_rejection(rejection))
            }
            other => Err(IssueError::Unavailable(format!("the log answered {other:?} to an issuance"))),
        }
    }
}

/// Why a secondary issues nothing although nobody is known to have halted it; `None`: it heard the primary recently enough.
pub(crate) fn halt_unknown(state: &State, now: Timestamp, staleness_max: Option<Duration>) -> Option<String> {
    let (primary, most) = (state.primary()?, staleness_max?);
    state.is_halt_unknown(now, staleness_max).then(|| {
        format!(
            "the primary `{primary}` was not heard for longer than ca.halt_staleness_max ({}), and an operator there may have halted \
             issuing: nothing is issued here until it is heard again; `carrack federation show` says why it is not, and servers with a \
             longer ca.halt_staleness_max, or `{UNLIMITED}`, issue without it",
            duration::format(most)
        )
    })
}

/// What a server without an issuer lacks, and who can help.
pub(crate) fn lacks_issuer(state: &State) -> String {
    let what = "no valid issuer under the active root";
    let has_ended = state.roots(Ca::Mesh).active().is_some_and(|root| root.made.not_after <= state.now());
    match (has_ended, state.primary()) {
        (true, None) => format!("{what}, which has ended: `carrack ca rotate` replaces it"),
        (true, Some(primary)) => {
            format!("{what}, which has ended: `carrack ca rotate` in the primary `{primary}` replaces it")
        }
        (false, Some(primary)) => format!("{what}, and only the primary `{primary}` signs one"),
        (false, None) => what.into(),
    }
}

/// The slot of who names none: its key, so that only a leaf of the same key supersedes. 64 bits tell the keys of one holder apart.
fn slot_of_key(public_key: &Digest) -> String {
    public_key.0[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Verifies the request and signs the leaf: everything that costs CPU, off the async threads.
fn sign_leaf(
    active: &ActiveIssuer,
    state: &State,
    request: IssueRequest,
    serial: Serial,
    now: Timestamp,
    ttl: Duration,
) -> Result<(Issuance, SignedCertificate), IssueError> {
    let mistake = |error: &dyn std::error::Error| IssueError::CallerMistake(super::task::chain_of(error));
    let csr = VerifiedCsr::verify(&request.csr, &CsrLimits::default()).map_err(|error| mistake(&error))?;
    let grant = check_grant(state, &request.granted, csr.identity())?;
    let profile = LeafProfile { csr: &csr, serial, now, ttl };
    let signed = active.leaf_issuer.sign(&profile).map_err(|error| match error {
        authority::IssueError::Foreign(_) | authority::IssueError::ForeignTrustDomain { .. } => mistake(&error),
        error => IssueError::Unavailable(super::task::chain_of(&error)),
    })?;
    let public_key = csr.public_key().digest();
    let slot = request.slot.filter(|slot| !slot.is_empty()).unwrap_or_else(|| slot_of_key(&public_key));
    let issuance = Issuance {
        serial,
        identity: Arc::new(csr.identity().clone()),
        grant: Arc::new(grant),
        public_key,
        certificate: signed.der.digest(),
        not_before: signed.facts.not_before,
        not_after: signed.facts.not_after,
        issuer: active.id,
        holder: Arc::new(Holder { keeper: request.keeper, slot: slot.into() }),
        deadline: now.plus(ISSUE_WITHIN),
    };
    Ok((issuance, signed))
}

/// Refuses early, on this server's own state, what the log would refuse; the log decides again.
fn check_grant(state: &State, granted: &Granted, identity: &Identity) -> Result<Grant, IssueError> {
    let token = match granted {
        // The log compares its name and its key.
        Granted::Agent(node) => return Ok(Grant::Agent(node.clone())),
        Granted::Token(token) => token,
    };
    let authorizer = state.authorizer(token);
    let Identity::Spiffe(id) = identity else {
        return Err(IssueError::PermissionDenied(
            "Permission denied: a token entitles to SPIFFE ids, not to DNS names".into(),
        ));
    };
    let (holds, permission, name) = match &id.path {
        SpiffePath::Service { service, .. } => (authorizer.service_write(service.as_str()), "service:write", service),
        SpiffePath::Agent { node, .. } => (authorizer.node_write(node.as_str()), "node:write", node),
        SpiffePath::Server { datacenter } => (authorizer.acl_write(), "acl:write", datacenter),
    };
    let grant = Grant::Token(token.accessor);
    if holds { Ok(grant) } else { Err(IssueError::PermissionDenied(lacks(token.accessor, permission, name.as_str()))) }
}

/// Consul's sentence for a permission that a token lacks.
pub(crate) fn lacks(accessor: AccessorId, permission: &str, name: &str) -> String {
    format!("Permission denied: token with AccessorID '{accessor}' lacks permission '{permission}' on \"{name}\"")
}

fn of_rejection(rejection: Rejection) -> IssueError {
    let text = rejection.to_string();
    match rejection {
        Rejection::GrantRefused { .. } => IssueError::PermissionDenied(text),
        Rejection::Halted => IssueError::Halted,
        Rejection::IssuerRefused { .. } => IssueError::IssuerRefused(text),
        Rejection::DeadlinePassed { .. } => IssueError::OutcomeUnknown,
        Rejection::LimitReached { .. } => {
            IssueError::RateLimited { reason: text, retry_after: Duration::from_secs(60) }
        }
        _ => IssueError::Unavailable(text),
    }
}

fn of_propose_error(error: ProposeError) -> IssueError {
    match error {
        ProposeError::OutcomeUnknown => IssueError::OutcomeUnknown,
        ProposeError::Overloaded => {
            IssueError::RateLimited { reason: error.to_string(), retry_after: Duration::from_secs(1) }
        }
        error => IssueError::Unavailable(error.to_string()),
    }
}

fn outcome_label(result: &Result<Issued, IssueError>) -> IssuanceOutcome {
    match result {
        Ok(_) => IssuanceOutcome::Recorded,
        Err(IssueError::OutcomeUnknown) => IssuanceOutcome::Unknown,
        Err(_) => IssuanceOutcome::Rejected,
    }
}

/// One of the places at the desk.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(places: &'a AtomicUsize, limit: usize) -> Option<Self> {
        let taken = places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            if taken < limit { Some(taken + 1) } else { None }
        });
        taken.is_ok().then_some(Self(places))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
