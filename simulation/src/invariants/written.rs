//! What an event of a disk has written, for the invariants that search it.

use std::sync::Arc;

use crate::disk::DiskEvent;

/// Bytes on a disk.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// Where.
    pub(super) what: String,
    /// The bytes.
    pub(super) bytes: Arc<[u8]>,
}

/// The bytes that an event has put on a host's disk, beside its key store.
pub(super) fn written(host: &str, event: &DiskEvent) -> Option<Written> {
    let (what, bytes) = match event {
        DiskEvent::Appended { index, bytes } => (format!("entry {index} in the log of {host}"), bytes),
        DiskEvent::Put { slot, bytes } => (format!("the record {} of {host}", slot.name()), bytes),
        DiskEvent::FileReplaced { area, name, bytes, .. } => (format!("the file {area}/{name} of {host}"), bytes),
        _ => return None,
    };
    Some(Written { what, bytes: bytes.clone() })
}
