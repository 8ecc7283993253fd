//! The envelope `magic u16 | schema u16 | kind u8 | flags u8 | length u32 | crc32c u32 | payload`, little-endian.
//! The checksum covers the header before it and the payload; the payload is bincode with fixed-width integers.

use bincode::Options;
use carrack_authority::id::FeatureLevel;
use serde::{Serialize, de::DeserializeOwned};

/// The bytes before the payload.
pub const HEADER_BYTES: usize = 14;

/// The largest payload: far above any entry or snapshot chunk that is written, so that a damaged length never makes us allocate
/// more than this.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// "ck", the first two bytes of every envelope.
const MAGIC: u16 = u16::from_le_bytes(*b"ck");

/// Where the checksum stands: the bytes before it are covered by it.
const CHECKSUM_AT: usize = 10;

/// The version of the types in a payload: the feature level of the state that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Schema(u16);

impl Schema {
    /// The first schema; also what is written before the state has a feature level.
    pub const FIRST: Self = Self(1);

    /// The newest schema that this build understands.
    pub fn newest() -> Self {
        Self::of(FeatureLevel::SUPPORTED)
    }

    /// The schema that a state of this feature level is written in.
    pub fn of(level: FeatureLevel) -> Self {
        Self(u16::try_from(level.0).unwrap_or(u16::MAX)).max(Self::FIRST)
    }

    /// The version as a number.
    pub fn number(self) -> u16 {
        self.0
    }
}

macro_rules! kinds {
    ($($(#[$meta:meta])* $name:ident = $number:literal,)*) => {
        /// What a payload is. Numbers are never given to something else.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$meta])* $name = $number,)*
        }

        impl Kind {
            /// The kind with this number.
            fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// One entry of the log with its log id: [`super::v1::LogEntry`].
    LogEntry = 1,
    /// The commands of an entry and their stamp.
    Commands = 2,
    /// The high-water file: [`super::v1::HighWater`].
    HighWater = 3,
    /// The id of the last entry known to be committed: [`super::v1::LogId`].
    Committed = 4,
    /// The id of the last entry deleted from the front of the log: [`super::v1::LogId`].
    Purged = 5,
    /// Which store this is: [`super::v1::StoreIdentity`].
    StoreIdentity = 6,
    /// The first envelope of a snapshot file: [`super::v1::SnapshotHead`].
    SnapshotHead = 7,
    /// Some of the records of a snapshot.
    SnapshotRecords = 8,
    /// The last envelope of a snapshot file: [`super::v1::SnapshotEnd`].
    SnapshotEnd = 9,
    /// A message of the consensus protocol between two servers.
    RaftMessage = 64,
    /// Commands that a server forwards to the leader.
    Forward = 65,
    /// The leader's answer to them.
    Outcomes = 66,
    /// A piece of a snapshot file on its way to another server.
    SnapshotPiece = 67,
}

/// Why bytes are not the envelope that was expected.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the header announces, or than a header has.
    #[error("truncated: {needed} bytes are needed, {found} are there")]
    Truncated {
        /// The bytes that header or payload need.
        needed: usize,
        /// The bytes that are there.
        found: usize,
    },
    /// The first bytes are not an envelope's.
    #[error("no envelope: it starts with {found:#06x}, not with {MAGIC:#06x}")]
    BadMagic {
        /// The first two bytes.
        found: u16,
    },
    /// Header or payload are not what was written.
    #[error("damaged: the checksum is {found:#010x}, the bytes give {computed:#010x}")]
    ChecksumMismatch {
        /// The checksum in the header.
        found: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// A newer build wrote this.
    #[error("written in schema {found}; this build understands up to schema {newest}: start a newer carrack")]
    UnknownSchema {
        /// The schema in the header.
        found: u16,
        /// The newest schema of this build.
        newest: u16,
    },
    /// An envelope of something else.
    #[error("an envelope of kind {found}, where {expected:?} was expected")]
    WrongKind {
        /// The kind's number in the header.
        found: u8,
        /// The kind that was expected.
        expected: Kind,
    },
    /// Flags that no schema of this build defines.
    #[error("unknown flags {found:#04x}")]
    UnknownFlags {
        /// The flags in the header.
        found: u8,
    },
    /// A length above the bound.
    #[error("a payload of {length} bytes; the most is {PAYLOAD_BYTES_MAX}")]
    TooLong {
        /// The length in the header.
        length: usize,
    },
    /// Bytes after the payload.
    #[error("{bytes} bytes follow after the payload")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
    /// The payload is not a value of the schema's type.
    #[error("the payload is not a value of its type")]
    Payload(#[source] bincode::Error),
}

/// Why a value cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The value is larger than a payload may be.
    #[error("the value is larger than {PAYLOAD_BYTES_MAX} bytes, or has no serialised form")]
    Payload(#[source] bincode::Error),
}

/// Writes `value` into a new envelope.
pub fn encode<T: Serialize + ?Sized>(kind: Kind, schema: Schema, value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    encode_with(&mut bytes, kind, schema, value)?;
    Ok(bytes)
}

/// Appends an envelope with `value` to `bytes`; on an error they are as before.
pub fn encode_with<T: Serialize + ?Sized>(
    bytes: &mut Vec<u8>,
    kind: Kind,
    schema: Schema,
    value: &T,
) -> Result<(), EncodeError> {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; HEADER_BYTES]);
    if let Err(error) = options().serialize_into(&mut *bytes, value) {
        bytes.truncate(start);
        return Err(EncodeError::Payload(error));
    }
    let (header, payload) = bytes[start..].split_at_mut(HEADER_BYTES);
    let length = u32::try_from(payload.len()).expect("the payload is below its bound, which fits");
    header[0..2].copy_from_slice(&MAGIC.to_le_bytes());
    header[2..4].copy_from_slice(&schema.0.to_le_bytes());
    header[4] = kind as u8;
    header[6..10].copy_from_slice(&length.to_le_bytes());
    let checksum = checksum(header, payload);
    header[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

/// How many bytes `value` has inside an envelope, without writing it.
pub fn encoded_length<T: Serialize + ?Sized>(value: &T) -> Result<usize, EncodeError> {
    let length = options().serialized_size(value).map_err(EncodeError::Payload)?;
    Ok(usize::try_from(length).expect("the size is below the payload's bound, which fits"))
}

/// Reads the value of an envelope that fills `bytes`.
pub fn decode<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T, DecodeError> {
    let (_, payload) = open(kind, bytes)?;
    options().deserialize(payload).map_err(DecodeError::Payload)
}

/// How many bytes the envelope at the start of `bytes` has, from its header; the rest may still be missing.
pub fn length(bytes: &[u8]) -> Result<usize, DecodeError> {
    Ok(HEADER_BYTES + payload_length(bytes)?)
}

/// Checks the envelope that fills `bytes` and returns its schema and payload, undecoded.
pub fn open(kind: Kind, bytes: &[u8]) -> Result<(Schema, &[u8]), DecodeError> {
    let length = payload_length(bytes)?;
    let (header, payload) = bytes.split_at(HEADER_BYTES);
    if payload.len() < length {
        return Err(DecodeError::Truncated { needed: HEADER_BYTES + length, found: bytes.len() });
    }
    if payload.len() > length {
        return Err(DecodeError::TrailingBytes { bytes: payload.len() - length });
    }
    check_checksum(header, payload)?;
    let schema = check_meaning(kind, header)?;
    Ok((schema, payload))
}

/// The length in the header, after the checks that make it one.
fn payload_length(bytes: &[u8]) -> Result<usize, DecodeError> {
    if bytes.len() < HEADER_BYTES {
        return Err(DecodeError::Truncated { needed: HEADER_BYTES, found: bytes.len() });
    }
    let magic = u16::from_le_bytes([bytes[0], bytes[1]]);
    if magic != MAGIC {
        return Err(DecodeError::BadMagic { found: magic });
    }
    let length = u32::from_le_bytes([bytes[6], bytes[7], bytes[8], bytes[9]]) as usize;
    if length > PAYLOAD_BYTES_MAX {
        return Err(DecodeError::TooLong { length });
    }
    Ok(length)
}

fn check_checksum(header: &[u8], payload: &[u8]) -> Result<(), DecodeError> {
    let found = u32::from_le_bytes([header[10], header[11], header[12], header[13]]);
    let computed = checksum(header, payload);
    if found == computed { Ok(()) } else { Err(DecodeError::ChecksumMismatch { found, computed }) }
}

fn check_meaning(kind: Kind, header: &[u8]) -> Result<Schema, DecodeError> {
    let schema = Schema(u16::from_le_bytes([header[2], header[3]]));
    let newest = Schema::newest();
    if schema < Schema::FIRST || schema > newest {
        return Err(DecodeError::UnknownSchema { found: schema.0, newest: newest.0 });
    }
    if Kind::from_number(header[4]) != Some(kind) {
        return Err(DecodeError::WrongKind { found: header[4], expected: kind });
    }
    if header[5] != 0 {
        return Err(DecodeError::UnknownFlags { found: header[5] });
    }
    Ok(schema)
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..CHECKSUM_AT]), payload)
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_limit(PAYLOAD_BYTES_MAX as u64).reject_trailing_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        encode(Kind::Committed, Schema::FIRST, &(7_u64, "text")).unwrap()
    }

    fn error_of(bytes: &[u8]) -> DecodeError {
        decode::<(u64, String)>(Kind::Committed, bytes).unwrap_err()
    }

    /// The envelope with one header byte changed and its checksum made right again.
    fn forged(position: usize, value: u8) -> Vec<u8> {
        let mut bytes = sample();
        bytes[position] = value;
        let (header, payload) = bytes.split_at_mut(HEADER_BYTES);
        let sum = checksum(header, payload);
        header[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(decode::<(u64, String)>(Kind::Committed, &sample()).unwrap(), (7, "text".to_owned()));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_an_error() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(matches!(error_of(&bytes[..length]), DecodeError::Truncated { .. }), "cut at {length}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            error_of(&damaged);
        }
    }

    #[test]
    fn each_wrong_header_field_has_its_own_error() {
        assert!(matches!(error_of(&forged(0, b'x')), DecodeError::BadMagic { .. }));
        assert!(matches!(error_of(&forged(2, 200)), DecodeError::UnknownSchema { found: 200, .. }));
        assert!(matches!(error_of(&forged(2, 0)), DecodeError::UnknownSchema { found: 0, .. }));
        assert!(matches!(error_of(&forged(4, 5)), DecodeError::WrongKind { found: 5, .. }));
        assert!(matches!(error_of(&forged(5, 1)), DecodeError::UnknownFlags { found: 1 }));
        assert!(matches!(error_of(&forged(9, 0xff)), DecodeError::TooLong { .. }));
        let mut long = sample();
        long.push(0);
        assert!(matches!(error_of(&long), DecodeError::TrailingBytes { bytes: 1 }));
        let mut damaged = sample();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(matches!(error_of(&damaged), DecodeError::ChecksumMismatch { .. }));
    }

    #[test]
    fn a_payload_with_bytes_left_over_is_refused() {
        let bytes = encode(Kind::Committed, Schema::FIRST, &(1_u64, 2_u64)).unwrap();
        assert!(matches!(decode::<u64>(Kind::Committed, &bytes).unwrap_err(), DecodeError::Payload(_)));
    }

    #[test]
    fn a_value_above_the_bound_is_not_written() {
        let bytes = vec![0_u8; PAYLOAD_BYTES_MAX + 1];
        assert!(encode(Kind::Committed, Schema::FIRST, &bytes).is_err());
    }

    #[test]
    fn envelopes_can_follow_each_other() {
        let mut bytes = sample();
        encode_with(&mut bytes, Kind::Purged, Schema::FIRST, &9_u64).unwrap();
        let (first, second) = bytes.split_at(length(&bytes).unwrap());
        assert_eq!(decode::<(u64, String)>(Kind::Committed, first).unwrap().0, 7);
        assert_eq!((length(second).unwrap(), decode::<u64>(Kind::Purged, second).unwrap()), (second.len(), 9));
    }
}
