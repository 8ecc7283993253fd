//! What happened on a disk since somebody last asked: for the invariants and for the trace. Bounded; what is forgotten is counted.

use std::{collections::VecDeque, fmt, sync::Arc};

use carrack::keys::store::KeySlot;
use carrack_raft::engine::Slot;

use super::DiskFault;

/// The most events that are kept: far more than happen between two steps of the simulation.
const EVENTS_MAX: usize = 16_384;
/// The most bytes of entries and files that events keep alive: a disk that nobody watches must not fill the memory.
const BYTES_MAX: usize = 64 << 20;

/// Something that happened on a disk.
#[derive(Clone, PartialEq, Eq)]
pub enum DiskEvent {
    /// Events before this one were forgotten, because nobody asked for too long.
    Forgotten {
        /// How many.
        events: u64,
    },
    /// A process opened the log.
    Opened,
    /// An entry was written; it is durable after the next `Synced`.
    Appended {
        /// Where.
        index: u64,
        /// As it was given.
        bytes: Arc<[u8]>,
    },
    /// Every entry after this one was deleted; all for none.
    TruncatedAfter {
        /// The last one that stays.
        last: Option<u64>,
    },
    /// Every entry up to this one was deleted.
    Purged {
        /// The last one that went.
        last: u64,
    },
    /// A record beside the log was written.
    Put {
        /// Which.
        slot: Slot,
        /// As it was given.
        bytes: Arc<[u8]>,
    },
    /// Everything written to the log before is said to be durable.
    Synced,
    /// A file has a new content.
    FileReplaced {
        /// The directory.
        area: String,
        /// The file.
        name: String,
        /// Its content.
        bytes: Arc<[u8]>,
        /// Whether the process was told so. Else it was told that the disk fails, and whether the content is durable is open.
        is_told: bool,
    },
    /// A file was deleted.
    FileRemoved {
        /// The directory.
        area: String,
        /// The file.
        name: String,
    },
    /// A key was written.
    KeyWritten {
        /// Where.
        slot: KeySlot,
    },
    /// A key was moved.
    KeyRenamed {
        /// From where.
        from: KeySlot,
        /// To where.
        to: KeySlot,
    },
    /// A key was deleted.
    KeyDeleted {
        /// Where.
        slot: KeySlot,
    },
    /// The power or the process went away.
    Crashed {
        /// The entries that were written and are gone.
        lost: Vec<u64>,
        /// The entries that were deleted and are back.
        returned: Vec<u64>,
        /// The files that are as they were before, as `area/name`.
        files: Vec<String>,
    },
    /// The disk, or one part of it, was emptied.
    Wiped {
        /// The part; all for none.
        part: Option<String>,
    },
    /// An image of the disk was put back.
    Restored,
    /// Something went wrong on purpose.
    FaultInjected {
        /// What.
        what: DiskFault,
    },
}

impl DiskEvent {
    fn bytes(&self) -> usize {
        match self {
            Self::Appended { bytes, .. } | Self::Put { bytes, .. } | Self::FileReplaced { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }
}

impl fmt::Debug for DiskEvent {
    /// Contents show as their length: a trace of them would be unreadable, and files of the area `root` hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forgotten { events } => write!(f, "Forgotten({events})"),
            Self::Opened => f.write_str("Opened"),
            Self::Appended { index, bytes } => write!(f, "Appended({index}, {} bytes)", bytes.len()),
            Self::TruncatedAfter { last } => write!(f, "TruncatedAfter({last:?})"),
            Self::Purged { last } => write!(f, "Purged({last})"),
            Self::Put { slot, bytes } => write!(f, "Put({}, {} bytes)", slot.name(), bytes.len()),
            Self::Synced => f.write_str("Synced"),
            Self::FileReplaced { area, name, bytes, is_told } => {
                let how = if *is_told { "" } else { ", told that it fails" };
                write!(f, "FileReplaced({area}/{name}, {} bytes{how})", bytes.len())
            }
            Self::FileRemoved { area, name } => write!(f, "FileRemoved({area}/{name})"),
            Self::KeyWritten { slot } => write!(f, "KeyWritten({slot})"),
            Self::KeyRenamed { from, to } => write!(f, "KeyRenamed({from}, {to})"),
            Self::KeyDeleted { slot } => write!(f, "KeyDeleted({slot})"),
            Self::Crashed { lost, returned, files } => {
                write!(f, "Crashed(lost {lost:?}, returned {returned:?}, files {files:?})")
            }
            Self::Wiped { part } => write!(f, "Wiped({part:?})"),
            Self::Restored => f.write_str("Restored"),
            Self::FaultInjected { what } => write!(f, "FaultInjected({what:?})"),
        }
    }
}

/// The events that nobody has taken yet.
#[derive(Default)]
pub(super) struct Journal {
    events: VecDeque<DiskEvent>,
    bytes: usize,
    forgotten: u64,
}

impl Journal {
    pub(super) fn note(&mut self, event: DiskEvent) {
        self.bytes += event.bytes();
        self.events.push_back(event);
        while self.events.len() > EVENTS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.bytes();
            self.forgotten += 1;
        }
    }

    pub(super) fn take(&mut self) -> Vec<DiskEvent> {
        let mut events = Vec::with_capacity(self.events.len() + 1);
        if self.forgotten > 0 {
            events.push(DiskEvent::Forgotten { events: self.forgotten });
        }
        events.extend(std::mem::take(self).events);
        events
    }
}
