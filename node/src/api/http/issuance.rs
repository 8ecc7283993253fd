//! The issuance log, page by page: everything that its hash chain covers, so that a reader can check it.

use axum::response::Response;
use carrack_authority::{State, WatchKey, issuance::IssuanceRecord};
use serde::Serialize;
use tokio::time::Instant;

use super::{call::Call, error::HttpError};

/// The most records of one answer: about 700 KiB.
const PAGE_RECORDS_MAX: u64 = 1000;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    head: String,
    length: u64,
    records: Vec<Record>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    sequence: u64,
    serial: String,
    identity: String,
    grant: String,
    public_key_digest: String,
    certificate_digest: String,
    not_before: String,
    not_after: String,
    issuer: String,
    holder: String,
    deadline: String,
    recorded_at: String,
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    superseded_by: Option<u64>,
    hash: String,
}

/// `GET /v1/carrack/issuance`: with an index it waits only while nothing is recorded after `after`, so that a reader who is
/// behind gets the next page at once.
pub(super) async fn read(call: Call) -> Result<Response, HttpError> {
    let after = call.parameters.number("after")?.unwrap_or(0);
    let limit = call.parameters.number("limit")?.unwrap_or(PAGE_RECORDS_MAX).clamp(1, PAGE_RECORDS_MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let deadline = Instant::now() + call.wait();
    loop {
        let view = call.view().await?;
        let page = page(view.state(), after, limit);
        let changed = view.state().modified(&WatchKey::Issuances);
        if call.parameters.index == 0 || !page.records.is_empty() || Instant::now() >= deadline {
            let answer = call.json(&page)?.with_index(changed.0).with_freshness(view.freshness);
            return Ok(answer.into_response());
        }
        tokio::select! {
            changed = call.wait_for(WatchKey::Issuances, changed, deadline) => changed?,
            changed = call.token_changed(&view, deadline) => changed?,
        }
    }
}

fn page(state: &State, after: u64, limit: usize) -> Page {
    let log = state.issuances();
    let records = log.after(after).take(limit).map(record).collect();
    Page { head: log.head().to_string(), length: log.length(), records }
}

fn record(record: &IssuanceRecord) -> Record {
    let issuance = &record.issuance;
    Record {
        sequence: record.sequence,
        serial: issuance.serial.to_string(),
        identity: issuance.identity.to_string(),
        grant: issuance.grant.to_string(),
        public_key_digest: issuance.public_key.to_string(),
        certificate_digest: issuance.certificate.to_string(),
        not_before: issuance.not_before.to_string(),
        not_after: issuance.not_after.to_string(),
        issuer: issuance.issuer.to_string(),
        holder: issuance.holder.to_string(),
        deadline: issuance.deadline.to_string(),
        recorded_at: record.recorded_at.to_string(),
        index: record.index,
        superseded_by: record.superseded_by,
        hash: record.hash.to_string(),
    }
}
