//! What lies on disk and what servers of one datacenter send each other: serde + bincode inside an envelope that names its
//! schema and kind and carries a checksum. Each schema version keeps its own types; golden bytes of each decode for ever.

mod digest;
mod envelope;
pub mod v1;

pub use digest::state_digest;
pub use envelope::{
    DecodeError, EncodeError, HEADER_BYTES, Kind, PAYLOAD_BYTES_MAX, Schema, decode, encode, encode_with,
    encoded_length, length, open,
};
