//! The wire (protobuf) and the store (versioned, checksummed envelopes).
