//! The form of a snapshot file: an envelope with what it is, envelopes with records, an envelope with their number and the
//! checksum of everything before. A reader takes pieces of any size and believes nothing before the last byte.

use std::io::Write;

use carrack_authority::state::{BadRecords, State, StateRecord};
use carrack_proto::stored::{
    self, DecodeError, EncodeError, HEADER_BYTES, Kind, Schema,
    v1::{SnapshotEnd, SnapshotHead},
};

use crate::{
    ports::NewFile,
    type_config::{
        SnapshotMeta, StoredMembership, log_id_from_stored, log_id_to_stored, membership_from_stored,
        membership_to_stored,
    },
};

/// The bytes that are read, sent and written at a time.
pub(crate) const PIECE_BYTES: usize = 64 << 10;
/// The records in one envelope: some ten KiB, a few hundred at most.
const RECORDS_PER_ENVELOPE: usize = 128;
/// The most records of a snapshot that we read: above what every table's own bound allows together, so that a damaged or
/// hostile file cannot fill the memory.
const RECORDS_MAX: u64 = 16 << 20;

/// The most bytes of a snapshot that we read, for the same reason.
const BYTES_MAX: u64 = 8 << 30;

/// Why a snapshot cannot be written, read or received.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A file cannot be read or written.
    #[error("a snapshot file cannot be read or written")]
    Io(#[source] std::io::Error),
    /// The newest snapshot is unusable.
    #[error("the snapshot {name} is damaged")]
    File {
        /// Its name.
        name: String,
        /// What is wrong.
        source: Box<SnapshotError>,
    },
    /// An envelope is not what was written.
    #[error("the snapshot is damaged after {bytes} bytes")]
    Damaged {
        /// How many bytes were good.
        bytes: u64,
        /// What is wrong.
        source: DecodeError,
    },
    /// A record cannot be written.
    #[error("a record of the snapshot cannot be encoded")]
    Encode(#[from] EncodeError),
    /// The file ends early.
    #[error("the snapshot ends after {records} records, without its last envelope")]
    Cut {
        /// How many records were read.
        records: u64,
    },
    /// There is nothing.
    #[error("the snapshot is empty")]
    Empty,
    /// Something follows the last envelope.
    #[error("bytes follow after the snapshot's end")]
    Trailing,
    /// Number or checksum differ from what the last envelope says.
    #[error("the snapshot ends with {expected:?}, read were {found:?}")]
    OtherEnd {
        /// What the end says.
        expected: SnapshotEnd,
        /// What was read.
        found: SnapshotEnd,
    },
    /// More records than there can be.
    #[error("the snapshot has more than {RECORDS_MAX} records")]
    TooManyRecords,
    /// More bytes than there can be.
    #[error("the snapshot has more than {BYTES_MAX} bytes")]
    TooLarge,
    /// The membership is none.
    #[error("the membership in the snapshot is not one: {0}")]
    Membership(String),
    /// The records are no state.
    #[error("the records of the snapshot are no state")]
    Records(#[source] BadRecords),
    /// The file is not the one that the leader announced.
    #[error("the snapshot is not the one that was announced")]
    OtherMeta,
    /// The log begins after the snapshot.
    #[error(
        "the log begins after entry {purged}, the newest snapshot ends at entry {snapshot:?}: a snapshot is missing"
    )]
    Missing {
        /// The last entry deleted from the log.
        purged: u64,
        /// The last entry of the newest snapshot.
        snapshot: Option<u64>,
    },
    /// The worker ended without a result.
    #[error("the worker for snapshots ended early")]
    WorkerGone,
}

impl SnapshotError {
    /// Whether a newer build wrote it: this one must not go on without it.
    pub(crate) fn is_from_newer_build(&self) -> bool {
        matches!(self, Self::Damaged { source: DecodeError::UnknownSchema { .. }, .. })
    }
}

/// Writes a snapshot.
pub(super) struct Writer {
    file: Box<dyn NewFile>,
    bytes: Vec<u8>,
    checksum: u32,
    records: u64,
}

impl Writer {
    pub(super) fn new(file: Box<dyn NewFile>) -> Self {
        Self { file, bytes: Vec::with_capacity(2 * PIECE_BYTES), checksum: 0, records: 0 }
    }

    pub(super) fn write(&mut self, meta: &SnapshotMeta, state: &State) -> Result<(), SnapshotError> {
        let schema = Schema::of(state.feature_level());
        self.put(Kind::SnapshotHead, Schema::FIRST, &head_of(meta))?;
        let mut records = state.to_records().peekable();
        while records.peek().is_some() {
            let some: Vec<StateRecord> = records.by_ref().take(RECORDS_PER_ENVELOPE).collect();
            self.records += some.len() as u64;
            self.put(Kind::SnapshotRecords, schema, &some)?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Box<dyn NewFile>, SnapshotError> {
        let end = SnapshotEnd { records: self.records, checksum: self.checksum };
        self.put(Kind::SnapshotEnd, Schema::FIRST, &end)?;
        self.flush()?;
        Ok(self.file)
    }

    fn put<T: serde::Serialize>(&mut self, kind: Kind, schema: Schema, value: &T) -> Result<(), SnapshotError> {
        let start = self.bytes.len();
        stored::encode_with(&mut self.bytes, kind, schema, value)?;
        self.checksum = crc32c::crc32c_append(self.checksum, &self.bytes[start..]);
        if self.bytes.len() >= PIECE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), SnapshotError> {
        self.file.write_all(&self.bytes).map_err(SnapshotError::Io)?;
        self.bytes.clear();
        Ok(())
    }
}

/// A snapshot that was read to its end, and the copy of it.
type Verified = (SnapshotMeta, State, Option<Box<dyn NewFile>>);

/// Reads a snapshot piece by piece, and copies it into a file if there is one.
pub(super) struct Reader {
    file: Option<Box<dyn NewFile>>,
    pending: Vec<u8>,
    good_bytes: u64,
    checksum: u32,
    head: Option<SnapshotHead>,
    records: Vec<StateRecord>,
    is_ended: bool,
}

impl Reader {
    pub(super) fn new(file: Option<Box<dyn NewFile>>) -> Self {
        Self { file, pending: Vec::new(), good_bytes: 0, checksum: 0, head: None, records: Vec::new(), is_ended: false }
    }

    pub(super) fn take(&mut self, piece: &[u8]) -> Result<(), SnapshotError> {
        if self.is_ended && !piece.is_empty() {
            return Err(SnapshotError::Trailing);
        }
        if let Some(file) = &mut self.file {
            file.write_all(piece).map_err(SnapshotError::Io)?;
        }
        self.pending.extend_from_slice(piece);
        let mut start = 0;
        while let Some(length) = self.next_length(start)? {
            let envelope = start..start + length;
            self.envelope(envelope.clone())?;
            self.checksum = crc32c::crc32c_append(self.checksum, &self.pending[envelope]);
            self.good_bytes += length as u64;
            start += length;
            if self.good_bytes > BYTES_MAX {
                return Err(SnapshotError::TooLarge);
            }
            if self.is_ended && start < self.pending.len() {
                return Err(SnapshotError::Trailing);
            }
        }
        self.pending.drain(..start);
        Ok(())
    }

    /// The verified snapshot.
    pub(super) fn finish(self) -> Result<Verified, SnapshotError> {
        let Some(head) = self.head else { return Err(SnapshotError::Empty) };
        if !self.is_ended {
            return Err(SnapshotError::Cut { records: self.records.len() as u64 });
        }
        let meta = meta_of(head)?;
        let state = State::from_records(self.records).map_err(SnapshotError::Records)?;
        Ok((meta, state, self.file))
    }

    /// The length of the envelope at `start`, once all of it is there.
    fn next_length(&self, start: usize) -> Result<Option<usize>, SnapshotError> {
        let bytes = &self.pending[start..];
        if bytes.len() < HEADER_BYTES {
            return Ok(None);
        }
        let length = stored::length(bytes).map_err(|source| self.damaged(source))?;
        Ok((bytes.len() >= length).then_some(length))
    }

    fn envelope(&mut self, place: std::ops::Range<usize>) -> Result<(), SnapshotError> {
        let bytes = &self.pending[place];
        if self.head.is_none() {
            self.head = Some(stored::decode(Kind::SnapshotHead, bytes).map_err(|source| self.damaged(source))?);
            return Ok(());
        }
        match stored::decode::<Vec<StateRecord>>(Kind::SnapshotRecords, bytes) {
            Ok(records) => self.records.extend(records),
            Err(DecodeError::WrongKind { .. }) => {
                let end = stored::decode(Kind::SnapshotEnd, bytes).map_err(|source| self.damaged(source))?;
                self.end(end)?;
            }
            Err(source) => return Err(self.damaged(source)),
        }
        if self.records.len() as u64 > RECORDS_MAX { Err(SnapshotError::TooManyRecords) } else { Ok(()) }
    }

    fn end(&mut self, expected: SnapshotEnd) -> Result<(), SnapshotError> {
        let found = SnapshotEnd { records: self.records.len() as u64, checksum: self.checksum };
        self.is_ended = true;
        if expected == found { Ok(()) } else { Err(SnapshotError::OtherEnd { expected, found }) }
    }

    fn damaged(&self, source: DecodeError) -> SnapshotError {
        SnapshotError::Damaged { bytes: self.good_bytes, source }
    }
}

fn head_of(meta: &SnapshotMeta) -> SnapshotHead {
    SnapshotHead {
        last: meta.last_log_id.as_ref().map(log_id_to_stored),
        membership_at: meta.last_membership.log_id().as_ref().map(log_id_to_stored),
        membership: membership_to_stored(meta.last_membership.membership()),
    }
}

fn meta_of(head: SnapshotHead) -> Result<SnapshotMeta, SnapshotError> {
    let membership = membership_from_stored(head.membership).map_err(SnapshotError::Membership)?;
    Ok(SnapshotMeta {
        last_log_id: head.last.map(log_id_from_stored),
        last_membership: StoredMembership::new(head.membership_at.map(log_id_from_stored), membership),
    })
}
