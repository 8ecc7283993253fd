//! What can go wrong with a disk: rates that hold until they are changed, and single faults that are ordered one by one.

use std::time::Duration;

use carrack_raft::engine::Slot;

/// How often something happens, in a million operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub u32);

impl Rate {
    /// It never happens.
    pub const NEVER: Self = Self(0);
    /// It happens each time.
    pub const ALWAYS: Self = Self(Self::OUT_OF);

    pub(super) const OUT_OF: u32 = 1_000_000;
}

/// How a disk behaves from now on. The default is a healthy disk that takes no time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// The log cannot be made durable. What of it is durable is decided by the next crash.
    pub sync_error: Rate,
    /// A write of the log fails, some of it may be written.
    pub write_error: Rate,
    /// The log or one of its records cannot be read.
    pub read_error: Rate,
    /// A file or a key cannot be written; it may be there all the same.
    pub file_write_error: Rate,
    /// A file or a key cannot be read.
    pub file_read_error: Rate,
    /// The shortest time of a sync.
    pub sync_time_min: Duration,
    /// The longest time of a sync.
    pub sync_time_max: Duration,
    /// How often a sync begins a slow spell.
    pub slow_spell: Rate,
    /// How many syncs a slow spell lasts. Not a time: instants of two processes cannot be compared.
    pub slow_spell_syncs: u32,
    /// The longest time of a sync in a slow spell; the shortest is `sync_time_max`.
    pub slow_sync_time_max: Duration,
    /// The bytes that log and files have room for together; none for no bound.
    pub capacity_bytes: Option<u64>,
    /// A planted bug: the log's sync reports success and makes nothing durable.
    pub lies_about_sync: bool,
    /// A planted bug: a file's replacement reports success and is not durable.
    pub lies_about_files: bool,
}

/// One fault. The first group hits the next operation that it fits, the second damages now what is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskFault {
    /// The next sync of the log fails.
    SyncError,
    /// The next write of the log fails.
    WriteError,
    /// The next read of the log or of a record fails.
    ReadError,
    /// The next write of a file or a key fails.
    FileWriteError,
    /// The next read of a file or a key fails.
    FileReadError,
    /// The next write of the log, a file or a key finds no room.
    StorageFull,
    /// The next sync of the log reports success and makes nothing durable.
    LyingSync,
    /// As many of the next syncs are slow.
    SlowSyncs(u32),

    /// One bit of a durable log entry is another.
    FlipBit,
    /// One bit of a record beside the log is another.
    FlipBitInSlot(Slot),
    /// One bit of the newest snapshot is another.
    FlipBitInSnapshot,
    /// One bit of the high-water file is another.
    FlipBitInHighWater,
    /// A durable log entry lies at the place of another.
    MisdirectedWrite,
    /// A durable log entry that is not the last one was never written.
    LostWrite,
    /// As many entries at the end of the log are gone without a trace: at once if no process has the log open, and else when
    /// it is opened again, as sled does with a damaged tail.
    CutTail(u64),
    /// The newest snapshot is gone, and the one that was deleted last is back.
    RestoreOldSnapshotFile,
    /// The high-water file is gone.
    RemoveHighWater,
}

impl DiskFault {
    /// Whether the fault waits for an operation.
    pub(super) fn waits(self) -> bool {
        matches!(
            self,
            Self::SyncError
                | Self::WriteError
                | Self::ReadError
                | Self::FileWriteError
                | Self::FileReadError
                | Self::StorageFull
                | Self::LyingSync
                | Self::SlowSyncs(_)
        )
    }
}
