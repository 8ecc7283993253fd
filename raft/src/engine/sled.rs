//! The log on sled 0.34. sled's `flush` never calls fsync on Linux (sled#1351), so a second descriptor on its file does it; values
//! stay below 4 KiB and batches at 128 changes, or its files grow without bound. A larger entry is stored in parts, the first
//! part last: an entry without it was never written completely.

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use futures::future::BoxFuture;

use super::{Engine, EngineError, Indexed, Slot};

/// The most changes in one batch (measured: above it sled's files grow without bound).
const BATCH_CHANGES_MAX: usize = 128;
/// The largest stored value: sled moves pages over 128 KiB into separate files, which our descriptor would not sync.
const VALUE_BYTES_MAX: usize = 4096;
/// Checksum, number of parts and length of the whole entry, before the bytes of a part.
const PART_HEADER_BYTES: usize = 10;
/// The bytes of an entry in one part.
const PART_BYTES_MAX: usize = VALUE_BYTES_MAX - PART_HEADER_BYTES;
/// What sled may keep in memory: the log is read once, at start.
const CACHE_BYTES: u64 = 16 << 20;
/// How often sled flushes by itself, in milliseconds; we flush at every commit.
const FLUSH_EVERY_MS: u64 = 1000;

/// The log in a sled database.
pub struct SledEngine {
    database: sled::Db,
    log: sled::Tree,
    slots: sled::Tree,
    durable: File,
}

impl SledEngine {
    /// Opens the database in `path`, or makes one.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let broken = |reason: String| EngineError::Open { path: path.display().to_string(), reason };
        // sled panics on some damage; nothing of it stays after a panic here.
        let opened = catch_unwind(AssertUnwindSafe(|| open_database(path)));
        let (database, log, slots) = match opened {
            Ok(opened) => opened.map_err(|error| broken(error.to_string()))?,
            Err(_) => return Err(broken("it panicked on a damaged file".to_owned())),
        };
        let durable = File::open(path.join("db")).map_err(|error| broken(error.to_string()))?;
        sync_directories(path).map_err(EngineError::Sync)?;
        Ok(Self { database, log, slots, durable })
    }

    fn change_log(&self, changes: &[Change]) -> Result<(), EngineError> {
        for changes in changes.chunks(BATCH_CHANGES_MAX) {
            let mut batch = sled::Batch::default();
            for (key, value) in changes {
                match value {
                    Some(value) => batch.insert(key, value.as_slice()),
                    None => batch.remove(key),
                }
            }
            self.log.apply_batch(batch).map_err(failed("write the log"))?;
        }
        Ok(())
    }

    /// The index and part of every key from `range` on.
    fn keys(&self, first: u64) -> Result<Vec<(u64, u16)>, EngineError> {
        let keys = self.log.range(part_key(first, 0)..).keys();
        keys.map(|key| parse_key(&key.map_err(failed("read the log"))?)).collect()
    }

    fn delete(&self, keys: impl Iterator<Item = (u64, u16)>) -> Result<(), EngineError> {
        let changes: Vec<Change> = keys.map(|(index, part)| (part_key(index, part), None)).collect();
        self.change_log(&changes)
    }

    /// Deletes what a purge that did not end left before the log's beginning.
    fn delete_purged(&self, purged: u64) -> Result<(), EngineError> {
        let keys = self.log.range(..part_key(purged.saturating_add(1), 0)).keys();
        let keys: Result<Vec<(u64, u16)>, EngineError> =
            keys.map(|key| parse_key(&key.map_err(failed("read the log"))?)).collect();
        self.delete(keys?.into_iter())
    }
}

type Key = [u8; 10];
type Change = (Key, Option<Vec<u8>>);

impl Engine for SledEngine {
    fn append(&mut self, entries: &[Indexed]) -> Result<(), EngineError> {
        let changes: Vec<Change> = entries.iter().flat_map(|(index, bytes)| parts_of(*index, bytes)).collect();
        self.change_log(&changes)
    }

    fn truncate_after(&mut self, last: Option<u64>) -> Result<(), EngineError> {
        let mut keys = self.keys(last.map_or(0, |last| last.saturating_add(1)))?;
        // From the last entry down, and of each entry its first part before the others.
        keys.sort_by_key(|(index, part)| (std::cmp::Reverse(*index), *part));
        self.delete(keys.into_iter())
    }

    fn purge(&mut self, last: u64, record: &[u8]) -> Result<(), EngineError> {
        self.put(Slot::Purged, record)?;
        self.delete_purged(last)
    }

    fn recover(&mut self, purged: Option<u64>) -> Result<Vec<Indexed>, EngineError> {
        if let Some(purged) = purged {
            self.delete_purged(purged)?;
        }
        let mut entries: Vec<Indexed> = Vec::new();
        let mut unfinished: Vec<(u64, u16)> = Vec::new();
        let mut pairs = self.log.iter().peekable();
        while let Some(pair) = pairs.next() {
            let (key, value) = pair.map_err(failed("read the log"))?;
            let (index, part) = parse_key(&key)?;
            if part != 0 {
                unfinished.push((index, part));
                continue;
            }
            let next = entries.last().map(|(last, _)| last + 1).or(purged.map(|purged| purged + 1)).unwrap_or(index);
            if let Some((missing, _)) = unfinished.first() {
                return Err(EngineError::Hole { missing: *missing, found: index });
            }
            if index != next {
                return Err(EngineError::Hole { missing: next, found: index });
            }
            let mut entry = Reassembly::begin(index, &key, &value)?;
            while !entry.is_complete() {
                let (key, value) = match pairs.next() {
                    Some(pair) => pair.map_err(failed("read the log"))?,
                    None => return Err(entry.cut()),
                };
                entry.add(&key, &value)?;
            }
            entries.push((index, entry.finish()?));
        }
        if !unfinished.is_empty() {
            tracing::warn!(parts = unfinished.len(), "an entry that was not written completely is deleted");
            self.delete(unfinished.into_iter())?;
        }
        Ok(entries)
    }

    fn put(&mut self, slot: Slot, record: &[u8]) -> Result<(), EngineError> {
        let mut value = checksum(slot.name().as_bytes(), record).to_le_bytes().to_vec();
        value.extend_from_slice(record);
        self.slots.insert(slot.name(), value).map_err(failed("write a record")).map(drop)
    }

    fn get(&self, slot: Slot) -> Result<Option<Vec<u8>>, EngineError> {
        let Some(value) = self.slots.get(slot.name()).map_err(failed("read a record"))? else { return Ok(None) };
        let damaged = |reason: String| EngineError::Damaged { place: slot.name().to_owned(), reason };
        let Some((found, record)) = value.split_first_chunk() else {
            return Err(damaged(format!("it has only {} bytes", value.len())));
        };
        let (found, computed) = (u32::from_le_bytes(*found), checksum(slot.name().as_bytes(), record));
        if found != computed {
            return Err(damaged(format!("its checksum is {found:#010x}, its bytes give {computed:#010x}")));
        }
        Ok(Some(record.to_vec()))
    }

    fn sync(&mut self) -> BoxFuture<'_, Result<(), EngineError>> {
        let synced = self.database.flush().map_err(failed("flush"));
        let synced = synced.and_then(|_| self.durable.sync_data().map_err(EngineError::Sync));
        Box::pin(std::future::ready(synced))
    }

    fn size_on_disk(&self) -> Result<u64, EngineError> {
        self.database.size_on_disk().map_err(failed("measure itself"))
    }
}

/// The parts of an entry as changes, the first part last.
fn parts_of(index: u64, bytes: &[u8]) -> impl Iterator<Item = Change> {
    let parts = bytes.len().div_ceil(PART_BYTES_MAX).max(1);
    let count = u16::try_from(parts).expect("an entry is bounded by its envelope, which has far fewer parts");
    let length = u32::try_from(bytes.len()).expect("an entry is bounded by its envelope");
    (0..count).rev().map(move |part| {
        let start = usize::from(part) * PART_BYTES_MAX;
        let piece = &bytes[start..bytes.len().min(start + PART_BYTES_MAX)];
        let key = part_key(index, part);
        let mut value = Vec::with_capacity(PART_HEADER_BYTES + piece.len());
        value.extend_from_slice(&[0; 4]);
        value.extend_from_slice(&count.to_le_bytes());
        value.extend_from_slice(&length.to_le_bytes());
        value.extend_from_slice(piece);
        let sum = checksum(&key, &value[4..]);
        value[..4].copy_from_slice(&sum.to_le_bytes());
        (key, Some(value))
    })
}

/// An entry that is put together again from its parts.
struct Reassembly {
    index: u64,
    parts: u16,
    length: usize,
    next: u16,
    bytes: Vec<u8>,
}

impl Reassembly {
    fn begin(index: u64, key: &[u8], value: &[u8]) -> Result<Self, EngineError> {
        let (parts, length) = check_part(index, key, value)?;
        let mut entry = Self { index, parts, length, next: 0, bytes: Vec::new() };
        entry.add(key, value)?;
        Ok(entry)
    }

    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        let (index, part) = parse_key(key)?;
        if (index, part) != (self.index, self.next) {
            return Err(self.cut());
        }
        let (parts, length) = check_part(index, key, value)?;
        if (parts, length) != (self.parts, self.length) {
            return Err(damaged(index, "its parts do not belong together".to_owned()));
        }
        self.bytes.extend_from_slice(&value[PART_HEADER_BYTES..]);
        self.next += 1;
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.next == self.parts
    }

    fn cut(&self) -> EngineError {
        damaged(self.index, format!("part {} of {} is missing", self.next, self.parts))
    }

    fn finish(self) -> Result<Vec<u8>, EngineError> {
        if self.bytes.len() == self.length {
            Ok(self.bytes)
        } else {
            Err(damaged(self.index, format!("it has {} bytes instead of {}", self.bytes.len(), self.length)))
        }
    }
}

/// The number of parts and the length that a part names, after its checksum.
fn check_part(index: u64, key: &[u8], value: &[u8]) -> Result<(u16, usize), EngineError> {
    if value.len() < PART_HEADER_BYTES {
        return Err(damaged(index, format!("a part has only {} bytes", value.len())));
    }
    let found = u32::from_le_bytes([value[0], value[1], value[2], value[3]]);
    let computed = checksum(key, &value[4..]);
    if found != computed {
        return Err(damaged(index, format!("its checksum is {found:#010x}, its bytes give {computed:#010x}")));
    }
    let length = u32::from_le_bytes([value[6], value[7], value[8], value[9]]);
    Ok((u16::from_le_bytes([value[4], value[5]]), length as usize))
}

fn part_key(index: u64, part: u16) -> Key {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

fn parse_key(key: &[u8]) -> Result<(u64, u16), EngineError> {
    let key: Key = key.try_into().map_err(|_| EngineError::Damaged {
        place: "the log".to_owned(),
        reason: format!("a key has {} bytes instead of 10", key.len()),
    })?;
    let (index, part) = key.split_at(8);
    let index = u64::from_be_bytes(index.try_into().expect("eight bytes were split off"));
    Ok((index, u16::from_be_bytes(part.try_into().expect("two bytes are left"))))
}

fn checksum(place: &[u8], bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(place), bytes)
}

fn damaged(index: u64, reason: String) -> EngineError {
    EngineError::Damaged { place: format!("entry {index}"), reason }
}

fn failed(operation: &'static str) -> impl Fn(sled::Error) -> EngineError {
    move |source| EngineError::Database { operation, source }
}

fn open_database(path: &Path) -> sled::Result<(sled::Db, sled::Tree, sled::Tree)> {
    let config = sled::Config::new().path(path).mode(sled::Mode::LowSpace);
    let database = config.flush_every_ms(Some(FLUSH_EVERY_MS)).cache_capacity(CACHE_BYTES).open()?;
    let log = database.open_tree("log")?;
    let slots = database.open_tree("slots")?;
    database.flush()?;
    Ok((database, log, slots))
}

/// Makes the names of the database's files durable.
fn sync_directories(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()?;
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
