//! The leaves of this datacenter that have not ended, from its issuance log; and those that are revoked, in all datacenters.

use axum::response::Response;
use carrack_authority::{
    Command, State, WatchKey,
    id::Serial,
    issuance::{Grant, IssuanceRecord},
    revocation::Revocation,
    spiffe::{Identity, SpiffePath},
    time::Timestamp,
};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{call::Call, error::HttpError, fields::Fields};

/// The most leaves of one answer: about 400 KiB.
const LEAVES_SHOWN_MAX: usize = 1000;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Leaves {
    leaves: Vec<LeafEntry>,
    /// Whether more than are shown fit what was asked for.
    is_cut: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LeafEntry {
    serial_number: String,
    identity: String,
    grant: String,
    holder: String,
    issuer: String,
    root: Option<String>,
    not_after: String,
    sequence: u64,
    /// Whether a newer leaf of the same holder has taken its place.
    superseded: bool,
    revoked: bool,
}

/// What leaves are asked for.
#[derive(Debug, Default)]
struct Wanted {
    service: Option<String>,
    token: Option<String>,
    issuer: Option<String>,
    root: Option<String>,
    serial: Option<Serial>,
}

impl Wanted {
    fn read(call: &Call) -> Result<Self, HttpError> {
        let text = |name: &str| call.parameters.text(name).map(str::to_owned);
        Ok(Self {
            service: text("service"),
            token: text("accessor"),
            issuer: text("issuer"),
            root: text("root"),
            serial: text("serial").map(|text| serial(&text)).transpose()?,
        })
    }

    fn fits(&self, state: &State, record: &IssuanceRecord) -> bool {
        let issuance = &record.issuance;
        let is = |wanted: &Option<String>, found: Option<String>| {
            wanted.as_ref().is_none_or(|wanted| found.is_some_and(|found| found == *wanted))
        };
        let token = match &*issuance.grant {
            Grant::Token(accessor) => Some(accessor.to_string()),
            Grant::Review(_) | Grant::Agent(_) => None,
        };
        is(&self.service, service_of(&issuance.identity))
            && is(&self.token, token)
            && is(&self.issuer, Some(issuance.issuer.to_string()))
            && is(&self.root, root_of(state, record))
    }
}

fn service_of(identity: &Identity) -> Option<String> {
    match identity {
        Identity::Spiffe(id) => match &id.path {
            SpiffePath::Service { service, .. } => Some(service.to_string()),
            SpiffePath::Agent { .. } | SpiffePath::Server { .. } => None,
        },
        Identity::LinkerdDns(_) => None,
    }
}

fn root_of(state: &State, record: &IssuanceRecord) -> Option<String> {
    state.issuer(&record.issuance.issuer).map(|issuer| issuer.root.to_string())
}

/// `GET /v1/carrack/leaves`: the newest first.
pub(super) async fn list(call: Call) -> Result<Response, HttpError> {
    let wanted = Wanted::read(&call)?;
    let view = call.view().await?;
    let (state, now) = (view.state(), call.now());
    let log = state.issuances();
    let found: Vec<&IssuanceRecord> = match &wanted.serial {
        Some(serial) => log.find(serial).into_iter().collect(),
        None => log.after(0).collect(),
    };
    let alive = found.into_iter().rev().filter(|record| record.issuance.not_after >= now);
    let mut fitting = alive.filter(|record| wanted.fits(state, record));
    let leaves: Vec<LeafEntry> = fitting.by_ref().take(LEAVES_SHOWN_MAX).map(|record| entry(state, record)).collect();
    let is_cut = fitting.next().is_some();
    let index = state.modified(&WatchKey::Issuances).0;
    let answer = call.json(&Leaves { leaves, is_cut })?;
    Ok(answer.with_index(index).with_freshness(view.freshness).into_response())
}

fn entry(state: &State, record: &IssuanceRecord) -> LeafEntry {
    let issuance = &record.issuance;
    LeafEntry {
        serial_number: issuance.serial.to_string(),
        identity: issuance.identity.to_string(),
        grant: issuance.grant.to_string(),
        holder: issuance.holder.to_string(),
        issuer: issuance.issuer.to_string(),
        root: root_of(state, record),
        not_after: issuance.not_after.to_string(),
        sequence: record.sequence,
        superseded: record.superseded_by.is_some(),
        revoked: state.revocations().of_serial(&issuance.serial).is_some(),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RevocationEntry {
    serial_number: String,
    until: String,
    reason: String,
    revoked_at: String,
}

/// `GET /v1/carrack/revocations`
pub(super) async fn revocations(call: Call) -> Result<Response, HttpError> {
    call.read(WatchKey::Revocations, |view| {
        let shown = view.state().revocations().all().take(LEAVES_SHOWN_MAX);
        Ok(shown.map(|revoked| revocation(revoked)).collect::<Vec<_>>())
    })
    .await
}

fn revocation(revoked: &Revocation) -> RevocationEntry {
    RevocationEntry {
        serial_number: revoked.serial.to_string(),
        until: revoked.until.to_string(),
        reason: revoked.reason.clone(),
        revoked_at: revoked.revoked_at.to_string(),
    }
}

/// `PUT /v1/carrack/revocation`: in the primary for every datacenter. When the leaf ends, the datacenter knows that issued it; the
/// primary is told.
pub(super) async fn revoke(call: Call) -> Result<Response, HttpError> {
    let mut fields = Fields::of_body("the revocation", &call.body)?;
    let number = fields.some_text("SerialNumber")?;
    let until = fields.some_text("NotAfter")?;
    let reason = fields.text("Reason")?.unwrap_or_default();
    fields.finish()?;
    let number = number.ok_or_else(|| HttpError::BadRequest("SerialNumber is missing".into()))?;
    let serial = serial(&number)?;
    let until = until.map(|text| {
        let date = OffsetDateTime::parse(&text, &Rfc3339);
        date.map(Timestamp::from_date_time).map_err(|_| {
            HttpError::BadRequest("NotAfter is no time in the form of RFC 3339, such as 2027-01-31T12:00:00Z".into())
        })
    });
    let view = call.committed_view().await?;
    let recorded = view.state().issuances().find(&serial).map(|record| record.issuance.not_after);
    let until = match (until.transpose()?, recorded) {
        (Some(until), recorded) => recorded.map_or(until, |recorded| recorded.max(until)),
        (None, Some(recorded)) if view.state().primary().is_none() => recorded,
        (None, Some(recorded)) => {
            return Err(HttpError::BadRequest(format!(
                "NotAfter is missing: a revocation is written in the primary, which does not know that this leaf ends {recorded}"
            )));
        }
        (None, None) => {
            return Err(HttpError::BadRequest(
                "NotAfter is missing, and no unexpired leaf with this serial is in this datacenter's issuance log: ask the datacenter that \
                 issued it (`carrack leaf revoke` does), or say when it ends"
                    .into(),
            ));
        }
    };
    call.propose(Command::RevokeLeaf { serial, until, reason }).await?;
    call.yes()
}

/// A serial as certificates and answers write it: pairs of hexadecimal digits with colons, or without.
pub(super) fn serial(text: &str) -> Result<Serial, HttpError> {
    let bad = || {
        HttpError::BadRequest("a serial number is 1 to 20 pairs of hexadecimal digits, with or without colons".into())
    };
    let digits: String = text.chars().filter(|character| *character != ':').collect();
    if digits.is_empty()
        || digits.len() > 40
        || !digits.len().is_multiple_of(2)
        || !digits.bytes().all(|it| it.is_ascii_hexdigit())
    {
        return Err(bad());
    }
    let mut serial = [0; 20];
    let bytes = digits.len() / 2;
    for (place, byte) in serial[20 - bytes..].iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * place..2 * place + 2], 16).map_err(|_| bad())?;
    }
    Ok(Serial(serial))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_read_as_they_are_written_and_nothing_else_is() {
        let whole = Serial([0x2f; 20]);
        assert_eq!(serial(&whole.to_string()), Ok(whole));
        assert_eq!(serial(&"2F".repeat(20)), Ok(whole));
        let mut short = [0; 20];
        short[18..].copy_from_slice(&[0x33, 0x9b]);
        assert_eq!(serial("33:9b"), Ok(Serial(short)));
        for wrong in ["", ":", "3", "xx", &"2f".repeat(21), "\u{e9}"] {
            assert!(serial(wrong).is_err(), "{wrong}");
        }
    }
}
