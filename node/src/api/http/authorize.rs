//! `POST /v1/agent/connect/authorize`: whether a connection may be, decided on what this machine knows. A server and an agent read the
//! same body and answer in the same form.

use std::time::Duration;

use axum::{body::Bytes, response::Response};
use carrack_authority::{
    id::Serial,
    intention::{Authorized, Connection, Known, authorize as decide},
    spiffe::{Name, SpiffeId},
    x509::{CertificateFacts, pem},
};
use serde::Serialize;
use tokio::time::Instant;

use super::{
    call::{Call, of_read},
    error::HttpError,
    fields::Fields,
    leaves::serial,
};

/// What is asked.
pub(super) struct Question {
    pub(super) target: Name,
    pub(super) client: SpiffeId,
    pub(super) serial: Option<Serial>,
    pub(super) certificate: Option<CertificateFacts>,
}

impl Question {
    /// Reads the body.
    pub(super) fn read(body: &Bytes) -> Result<Self, HttpError> {
        let bad = |text: String| HttpError::BadRequest(text);
        let mut fields = Fields::of_body("the question", body)?;
        let (target, client) = (fields.some_text("Target")?, fields.some_text("ClientCertURI")?);
        let number = fields.some_text("ClientCertSerial")?;
        let certificate = fields.some_text("ClientCert")?;
        for name in ["Namespace", "Partition"] {
            if fields.some_text(name)?.is_some_and(|value| value != "default") {
                return Err(bad(format!("{name} must be `default`: there is no other here")));
            }
        }
        fields.finish()?;
        let target = target.ok_or_else(|| bad("Target service must be specified".into()))?;
        let client = client.ok_or_else(|| bad("ClientCertURI must be specified".into()))?;
        let certificate = certificate.map(|text| {
            let first = pem::decode_certificates(&text).ok().and_then(|all| all.into_iter().next());
            let facts = first.and_then(|der| CertificateFacts::read(der.as_bytes()).ok());
            facts.ok_or_else(|| bad("ClientCert does not begin with a certificate in PEM".into()))
        });
        let certificate = certificate.transpose()?;
        // The certificate's own serial counts where none is given.
        let given = number.map(|text| serial(&text)).transpose()?;
        Ok(Self {
            target: Name::parse("Target", &target).map_err(|error| bad(error.to_string()))?,
            client: client.parse().map_err(|error| bad(format!("ClientCertURI is not a valid identity: {error}")))?,
            serial: given.or_else(|| certificate.as_ref().map(|facts| facts.serial)),
            certificate,
        })
    }

    /// The question as the decision takes it.
    pub(super) fn connection(&self) -> Connection<'_> {
        Connection {
            target: &self.target,
            client: &self.client,
            serial: self.serial,
            certificate: self.certificate.as_ref(),
        }
    }

    /// The service that the client says it is, if it is one.
    pub(super) fn source(&self) -> Option<&Name> {
        match &self.client.path {
            carrack_authority::spiffe::SpiffePath::Service { service, .. } => Some(service),
            _ => None,
        }
    }
}

/// Consul's answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answered {
    authorized: bool,
    reason: String,
}

impl From<Authorized> for Answered {
    fn from(Authorized { is_allowed, reason, .. }: Authorized) -> Self {
        Self { authorized: is_allowed, reason }
    }
}

/// How long a server that has just started may take to catch up before it decides.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(2);

/// On a server: from what it has applied, which needs no quorum, once it has caught up.
pub(super) async fn answer(call: Call) -> Result<Response, HttpError> {
    let question = Question::read(&call.body)?;
    call.edge.context.catch_up(Instant::now() + CAUGHT_UP_WITHIN).await.map_err(of_read)?;
    let view = call.local_view()?;
    view.caller.expect(super::access::Right::ServiceWrite, Some(question.target.as_str()), view.state())?;
    let state = view.state();
    let trust_domain = &call.edge.context.identity.trust_domain;
    let known = Known {
        trust_domain,
        default: call.edge.context.default_policy,
        revocation: question.serial.and_then(|serial| state.revocations().of_serial(&serial)).map(|found| &**found),
        revoked_issuers: state.revoked_issuers(),
        now: call.now(),
    };
    let rows: Vec<_> = match question.source() {
        Some(source) => state.intentions().about(source, &question.target).collect(),
        None => Vec::new(),
    };
    let answered = decide(rows.iter().map(|row| &***row), &question.connection(), &known);
    call.edge.context.metrics.count_decision(answered.is_allowed, answered.ground);
    Ok(call.json(&Answered::from(answered))?.with_freshness(view.freshness).into_response())
}
