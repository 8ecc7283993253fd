//! The logs of all servers as their disks' journals tell them: what is written, what each server has promised to keep, the votes.
//! Followed event by event; only after a crash is a disk read as a whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use carrack_proto::stored::{
    self, Kind,
    v1::{HighWater, LogEntry, LogId, Membership, Payload, SnapshotHead, StoreIdentity, Vote},
};
use carrack_raft::engine::Slot;

use crate::disk::{Disk, DiskEvent, DiskFault, DiskView};

/// A term and its leader. Consensus orders leaders by both, so that a term may have two leaders, of which the later one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reign {
    /// The term.
    pub term: u64,
    /// The leader.
    pub leader: u64,
}

impl From<LogId> for Reign {
    fn from(id: LogId) -> Self {
        Self { term: id.term, leader: id.leader }
    }
}

/// The sets of voters of a membership.
pub type Voters = Arc<Vec<BTreeSet<u64>>>;

/// An entry as it lies in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Under whom it was appended.
    pub reign: Reign,
    /// The checksum of all of it.
    pub checksum: u32,
    /// The voters from here on, if it sets them.
    pub voters: Option<Voters>,
}

impl Logged {
    /// The entry in these bytes, unless they are damaged or lie in another's place.
    pub fn read(index: u64, bytes: &[u8]) -> Option<Self> {
        let entry: LogEntry =
            stored::decode(Kind::LogEntry, bytes).ok().filter(|entry: &LogEntry| entry.id.index == index)?;
        let voters = match entry.payload {
            Payload::Membership(membership) => Some(voters_of(membership)),
            Payload::Blank | Payload::Commands(_) => None,
        };
        Some(Self { reign: entry.id.into(), checksum: crc32c::crc32c(bytes), voters })
    }
}

fn voters_of(membership: Membership) -> Voters {
    Arc::new(membership.voters)
}

/// What a server must keep, as it has told others that it has it.
#[derive(Clone, Debug, Default)]
pub struct Promise {
    /// The entries.
    pub entries: BTreeMap<u64, Reign>,
    /// The last entry that a snapshot or a purge stands for.
    pub through: Option<u64>,
    /// Its last vote.
    pub vote: Option<Vote>,
}

impl Promise {
    /// Whether the server has the entry of this index and reign durably, or a snapshot with it.
    pub fn holds(&self, index: u64, reign: Reign) -> bool {
        self.through >= Some(index) || self.entries.get(&index) == Some(&reign)
    }
}

/// A change of the log that is not durable yet.
#[derive(Clone, Debug)]
enum Change {
    Entry(u64, Reign),
    After(Option<u64>),
    Purge(u64),
}

/// The log on one disk.
#[derive(Clone, Debug, Default)]
pub struct Store {
    /// The server that it belongs to.
    pub node: Option<u64>,
    /// What is written.
    pub entries: BTreeMap<u64, Logged>,
    /// The last entry that was deleted from the front.
    pub purged: Option<(u64, Reign)>,
    /// The last entry of the newest snapshot, with the voters at that point.
    pub snapshot: Option<(u64, Voters)>,
    /// A fault has damaged it: nothing is expected of it any more.
    pub is_damaged: bool,
    pending: Vec<Change>,
    /// What the next sync makes durable is everything that is there.
    syncs_all: bool,
}

impl Store {
    /// The reign of an entry, as far as the log has it.
    pub fn reign(&self, index: u64) -> Option<Reign> {
        let purged = self.purged.filter(|(purged, _)| *purged == index).map(|(_, reign)| reign);
        self.entries.get(&index).map(|entry| entry.reign).or(purged)
    }

    /// The last entry that is written, or stands in a snapshot.
    pub fn last(&self) -> Option<u64> {
        let last = self.entries.keys().next_back().copied();
        last.max(self.purged.map(|(index, _)| index)).max(self.snapshot.as_ref().map(|(index, _)| *index))
    }

    /// The memberships in the log, the newest first, down to the one of the snapshot.
    pub fn memberships(&self) -> impl Iterator<Item = &Voters> {
        let logged = self.entries.values().rev().filter_map(|entry| entry.voters.as_ref());
        logged.chain(self.snapshot.iter().map(|(_, voters)| voters))
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::After(last) => drop(self.entries.split_off(&last.map_or(0, |last| last + 1))),
            Change::Purge(last) => self.entries = self.entries.split_off(&(last + 1)),
            Change::Entry(..) => {}
        }
        self.pending.push(change);
    }

    fn read(&mut self, view: &DiskView) {
        let entries = view.written.log.iter();
        self.entries = entries.filter_map(|(index, bytes)| Some((*index, Logged::read(*index, bytes)?))).collect();
        self.purged = view.written.slots.get(&Slot::Purged).and_then(|bytes| read_purged(bytes));
        if let Some((last, _)) = self.purged {
            self.entries = self.entries.split_off(&(last + 1));
        }
        self.pending.clear();
        self.syncs_all = true;
    }
}

/// Every store, and what every server that ever was has promised.
#[derive(Clone, Debug, Default)]
pub struct Stores {
    by_host: BTreeMap<String, Store>,
    promises: BTreeMap<u64, Promise>,
}

impl Stores {
    /// The store on a host's disk.
    pub fn of(&self, host: &str) -> Option<&Store> {
        self.by_host.get(host)
    }

    /// Every store by its host.
    pub fn all(&self) -> impl Iterator<Item = (&String, &Store)> {
        self.by_host.iter()
    }

    /// What a server has promised, whether it still runs or not.
    pub fn promise(&self, node: u64) -> Option<&Promise> {
        self.promises.get(&node)
    }

    /// Follows one event. `disk` is read as a whole where the event does not say what is there after it.
    pub fn follow(&mut self, host: &str, event: &DiskEvent, disk: Option<&Disk>) {
        let store = self.by_host.entry(host.to_owned()).or_default();
        match event {
            DiskEvent::Appended { index, bytes } => {
                if let Some(entry) = Logged::read(*index, bytes) {
                    store.pending.push(Change::Entry(*index, entry.reign));
                    store.entries.insert(*index, entry);
                }
            }
            DiskEvent::TruncatedAfter { last } => store.change(Change::After(*last)),
            DiskEvent::Purged { last } => store.change(Change::Purge(*last)),
            DiskEvent::Put { slot: Slot::Identity, bytes } => {
                store.node = stored::decode(Kind::StoreIdentity, bytes).ok().map(|it: StoreIdentity| it.node);
            }
            DiskEvent::Put { slot: Slot::Purged, bytes } => store.purged = read_purged(bytes),
            DiskEvent::Synced => self.sync(host),
            // A process that was told of a failure promises nothing with it.
            DiskEvent::FileReplaced { area, name, bytes, is_told: true } if area == "snapshots" => {
                self.replace(host, name, bytes);
            }
            DiskEvent::FaultInjected { what } if is_damage(*what) => store.is_damaged = true,
            DiskEvent::Restored | DiskEvent::Wiped { .. } => *store = Store::default(),
            DiskEvent::Crashed { .. } | DiskEvent::Forgotten { .. } => {
                if let Some(disk) = disk {
                    store.read(&disk.view());
                }
            }
            _ => {}
        }
    }

    fn sync(&mut self, host: &str) {
        let Some(store) = self.by_host.get_mut(host) else { return };
        let pending = std::mem::take(&mut store.pending);
        let Some(node) = store.node else { return };
        let promise = self.promises.entry(node).or_default();
        if std::mem::take(&mut store.syncs_all) && !store.is_damaged {
            promise.entries = store.entries.iter().map(|(index, entry)| (*index, entry.reign)).collect();
            promise.through = promise.through.max(store.purged.map(|(index, _)| index));
        }
        for change in pending {
            match change {
                Change::Entry(index, reign) => drop(promise.entries.insert(index, reign)),
                Change::After(last) => drop(promise.entries.split_off(&last.map_or(0, |last| last + 1))),
                Change::Purge(last) => {
                    promise.entries = promise.entries.split_off(&(last + 1));
                    promise.through = promise.through.max(Some(last));
                }
            }
        }
    }

    fn replace(&mut self, host: &str, name: &str, bytes: &[u8]) {
        let Some(store) = self.by_host.get_mut(host) else { return };
        let promise = store.node.map(|node| self.promises.entry(node).or_default());
        if name == "high-water" {
            let file: Option<HighWater> = stored::decode(Kind::HighWater, bytes).ok();
            if let (Some(promise), Some(file)) = (promise, file) {
                promise.vote = file.vote;
            }
        } else if let Some((index, voters)) = read_snapshot(bytes) {
            store.snapshot = Some((index, voters)).max(store.snapshot.take());
            if let Some(promise) = promise {
                promise.through = promise.through.max(Some(index));
            }
        }
    }
}

fn read_purged(bytes: &[u8]) -> Option<(u64, Reign)> {
    let id: LogId = stored::decode(Kind::Purged, bytes).ok()?;
    Some((id.index, id.into()))
}

fn read_snapshot(bytes: &[u8]) -> Option<(u64, Voters)> {
    let head = bytes.get(..stored::length(bytes).ok()?)?;
    let head: SnapshotHead = stored::decode(Kind::SnapshotHead, head).ok()?;
    Some((head.last?.index, voters_of(head.membership)))
}

/// Whether the fault changes what is on the disk, rather than what an operation answers.
pub fn is_damage(fault: DiskFault) -> bool {
    match fault {
        DiskFault::SyncError
        | DiskFault::WriteError
        | DiskFault::ReadError
        | DiskFault::FileWriteError
        | DiskFault::FileReadError
        | DiskFault::StorageFull
        | DiskFault::SlowSyncs(_)
        | DiskFault::LyingSync => false,
        DiskFault::FlipBit
        | DiskFault::FlipBitInSlot(_)
        | DiskFault::FlipBitInSnapshot
        | DiskFault::FlipBitInHighWater
        | DiskFault::MisdirectedWrite
        | DiskFault::LostWrite
        | DiskFault::CutTail(_)
        | DiskFault::RestoreOldSnapshotFile
        | DiskFault::RemoveHighWater => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{append, identity};

    #[test]
    fn an_entry_is_promised_when_it_is_synced_and_no_longer_when_it_is_cut() {
        let mut stores = Stores::default();
        let reign = Reign { term: 2, leader: 1 };
        for event in [identity(1), append(0, reign, 0), append(1, reign, 1)] {
            stores.follow("a", &event, None);
        }
        assert!(stores.promise(1).is_none());
        stores.follow("a", &DiskEvent::Synced, None);
        assert!(stores.promise(1).unwrap().holds(1, reign));
        assert!(!stores.promise(1).unwrap().holds(1, Reign { term: 3, leader: 1 }));
        stores.follow("a", &DiskEvent::TruncatedAfter { last: Some(0) }, None);
        assert!(stores.promise(1).unwrap().holds(1, reign));
        stores.follow("a", &DiskEvent::Synced, None);
        assert!(!stores.promise(1).unwrap().holds(1, reign));
        assert_eq!(stores.of("a").unwrap().last(), Some(0));
    }

    #[test]
    fn what_was_promised_outlives_the_disk() {
        let mut stores = Stores::default();
        let reign = Reign { term: 2, leader: 1 };
        for event in [identity(1), append(0, reign, 0), DiskEvent::Synced, DiskEvent::Wiped { part: None }] {
            stores.follow("a", &event, None);
        }
        assert!(stores.promise(1).unwrap().holds(0, reign));
        assert_eq!(stores.of("a").unwrap().node, None);
    }
}
