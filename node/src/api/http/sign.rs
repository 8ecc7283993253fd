//! Leaves for keys that their holders made themselves, and the switch that stops all issuing.

use axum::response::Response;
use carrack_authority::{
    Command, State,
    issuance::Keeper,
    key::Der,
    planted::{self, Bug},
    x509::{csr::CSR_BYTES_MAX, pem},
};
use serde::Serialize;

use super::{agent::of_issue, ca_roots::bundle_pem, call::Call, error::HttpError, fields::Fields};
use crate::server::desk::{Granted, IssueRequest, Issued};

/// PEM needs four characters for three bytes, and some for lines and labels.
const CSR_PEM_BYTES_MAX: usize = CSR_BYTES_MAX * 3 / 2;

#[derive(Serialize)]
struct Signed {
    #[serde(rename = "SerialNumber")]
    serial_number: String,
    #[serde(rename = "CertPEM")]
    cert_pem: String,
    #[serde(rename = "ChainPEM")]
    chain_pem: String,
    #[serde(rename = "RootsPEM")]
    roots_pem: String,
    #[serde(rename = "SpiffeID")]
    spiffe_id: String,
    #[serde(rename = "ValidAfter")]
    valid_after: String,
    #[serde(rename = "ValidBefore")]
    valid_before: String,
}

/// `PUT /v1/carrack/sign`: what the token may be is decided on the identity in the CSR, here and again in the log.
pub(super) async fn sign(call: Call) -> Result<Response, HttpError> {
    let mut fields = Fields::of_body("the request", &call.body)?;
    let csr = fields.some_text("Csr")?;
    let slot = fields.some_text("Slot")?;
    let ttl = fields.span("TTL")?;
    fields.finish()?;
    let csr = csr.ok_or_else(|| HttpError::BadRequest("Csr is missing: the PEM of a certificate request".into()))?;
    let csr = pem::decode_one(&csr, pem::CERTIFICATE_REQUEST, CSR_PEM_BYTES_MAX);
    let csr = csr.map_err(|error| HttpError::BadRequest(format!("the CSR is refused: {error}")))?;
    let token = call.local_view()?.token()?.clone();
    let keeper = Keeper::Login(token.accessor);
    let request = IssueRequest { csr: csr.as_bytes().to_vec(), granted: Granted::Token(token), keeper, slot, ttl };
    let issued = call.edge.context.desk.issue(request).await.map_err(of_issue)?;
    // The log has decided on the token; only the roots to trust are still to be told.
    let applied = call.edge.context.replica.state();
    Ok(call.json(&signed(&issued, &applied.state)?)?.with_index(issued.index).into_response())
}

fn signed(issued: &Issued, state: &State) -> Result<Signed, HttpError> {
    let issuance = &issued.issuance;
    Ok(Signed {
        serial_number: issuance.serial.to_string(),
        cert_pem: certificate_pem(&issued.certificate),
        chain_pem: pem::encode_certificates(&issued.chain),
        roots_pem: bundle_pem(state)?,
        spiffe_id: issuance.identity.to_string(),
        valid_after: issuance.not_before.to_string(),
        valid_before: issuance.not_after.to_string(),
    })
}

/// The leaf as PEM.
fn certificate_pem(certificate: &Der) -> String {
    let mut text = pem::encode(pem::CERTIFICATE, certificate);
    if planted::is(Bug::PemWithoutNewline) {
        text.truncate(text.trim_end().len());
    }
    text
}

/// `PUT /v1/carrack/halt`
pub(super) async fn halt(call: Call) -> Result<Response, HttpError> {
    let mut fields = Fields::of_body("the switch", &call.body)?;
    let halted = fields.flag("Halted")?;
    fields.finish()?;
    let halted = halted.ok_or_else(|| HttpError::BadRequest("Halted is missing: true or false".into()))?;
    let view = call.committed_view().await?;
    tracing::warn!(halted, accessor = ?view.caller.accessor(), "the switch for issuing is set");
    call.propose(Command::SetHalt { halted }).await?;
    call.yes()
}
