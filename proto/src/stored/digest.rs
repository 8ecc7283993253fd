//! One digest of a whole state: replicas that applied the same entries have the same, whatever way they came there.

use carrack_authority::{State, id::Digest};
use sha2::{Digest as _, Sha256};

use super::envelope::{EncodeError, Kind, Schema, encode_with};

/// SHA-256 over the records of the state, each as a snapshot of the state's own schema holds it.
pub fn state_digest(state: &State) -> Result<Digest, EncodeError> {
    let schema = Schema::of(state.feature_level());
    let (mut hash, mut bytes) = (Sha256::new(), Vec::new());
    for record in state.to_records() {
        bytes.clear();
        encode_with(&mut bytes, Kind::SnapshotRecords, schema, &[record])?;
        hash.update(&bytes);
    }
    Ok(Digest(hash.finalize().into()))
}
