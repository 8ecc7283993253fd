//! The issuance log of one server as its own state has it, read page by page, and its hash chain computed anew.

use std::collections::BTreeMap;

use carrack_authority::{
    acl::AccessorId,
    id::Digest,
    issuance::{EMPTY_HEAD, Grant, Holder, Issuance, Keeper, link},
    spiffe::{Identity, SpiffeId},
    time::Timestamp,
};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{server::Server, wait};

/// The records of one request.
const PAGE: usize = 1000;

/// What one server holds of the issuance log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuanceLog {
    /// The head of the hash chain, as the server shows it.
    pub head: String,
    /// How many records there ever were.
    pub length: u64,
    /// The records, oldest first, as the server shows them.
    pub records: Vec<Value>,
}

impl IssuanceLog {
    /// Reads the log from the server's own state.
    ///
    /// # Panics
    /// Panics if it does not answer.
    #[track_caller]
    pub fn of(server: &Server, token: &str) -> Self {
        let client = server.client().with_token(token);
        let mut log = Self { head: String::new(), length: 0, records: Vec::new() };
        loop {
            let after = log.records.last().map_or(0, |record| record["Sequence"].as_u64().expect("a sequence"));
            let path = format!("/v1/carrack/issuance?stale&limit={PAGE}&after={after}");
            let page = wait::until("a page of the issuance log", || client.read(&path));
            log.head = page["Head"].as_str().expect("a head").to_owned();
            log.length = page["Length"].as_u64().expect("a length");
            let records = page["Records"].as_array().expect("records");
            log.records.extend(records.iter().cloned());
            if records.is_empty() {
                return log;
            }
        }
    }

    /// The digest of each certificate, by serial.
    ///
    /// # Panics
    /// Panics if a serial is there twice.
    #[track_caller]
    pub fn by_serial(&self) -> BTreeMap<&str, &str> {
        let mut digests = BTreeMap::new();
        for record in &self.records {
            let serial = text(record, "Serial");
            let former = digests.insert(serial, text(record, "CertificateDigest"));
            assert!(former.is_none(), "the serial {serial} is in the log twice");
        }
        digests
    }

    /// Computes the hash chain from the first record to the head. No record of a test has expired.
    ///
    /// # Panics
    /// Panics if it is broken.
    #[track_caller]
    pub fn check_chain(&self) {
        let mut head = EMPTY_HEAD;
        for (position, record) in self.records.iter().enumerate() {
            let sequence = record["Sequence"].as_u64().expect("a sequence");
            assert_eq!(sequence, position as u64 + 1, "records are missing");
            let index = record["Index"].as_u64().expect("an index");
            head = link(&head, sequence, index, timestamp(record, "RecordedAt"), &issuance(record));
            assert_eq!(head.to_string(), text(record, "Hash"), "the chain breaks at record {sequence}");
        }
        assert_eq!((head.to_string(), self.records.len() as u64), (self.head.clone(), self.length));
    }
}

/// The facts that the chain covers. Tests issue to holders of tokens.
fn issuance(record: &Value) -> Issuance {
    let login = |text: &str| AccessorId(text.parse().expect("an accessor"));
    let grant = text(record, "Grant").strip_prefix("token ").expect("a token granted it");
    let holder = text(record, "Holder").strip_prefix("login ").and_then(|holder| holder.split_once(" slot "));
    let (keeper, slot) = holder.expect("a login holds it");
    let identity: SpiffeId = text(record, "Identity").parse().expect("a SPIFFE id");
    Issuance {
        serial: text(record, "Serial").parse().expect("a serial"),
        identity: Identity::Spiffe(identity).into(),
        grant: Grant::Token(login(grant)).into(),
        public_key: digest(record, "PublicKeyDigest"),
        certificate: digest(record, "CertificateDigest"),
        not_before: timestamp(record, "NotBefore"),
        not_after: timestamp(record, "NotAfter"),
        issuer: text(record, "Issuer").parse().expect("a key id"),
        holder: Holder { keeper: Keeper::Login(login(keeper)), slot: slot.into() }.into(),
        deadline: timestamp(record, "Deadline"),
    }
}

fn text<'a>(record: &'a Value, field: &str) -> &'a str {
    record[field].as_str().unwrap_or_else(|| panic!("{field} is no text in {record}"))
}

fn digest(record: &Value, field: &str) -> Digest {
    text(record, field).parse().expect("a digest")
}

fn timestamp(record: &Value, field: &str) -> Timestamp {
    Timestamp::from_date_time(OffsetDateTime::parse(text(record, field), &Rfc3339).expect("a time"))
}
