//! The files on a simulated disk: what a reader sees, and where the disk itself still has something older. A replaced file is
//! durable, and with it its directory; a deletion is durable only with the next replacement, as `Directory` does not wait for it.

use std::{collections::BTreeMap, sync::Arc};

use rand::RngExt;

use crate::random::Stream;

/// The files of which the disk has an older version at most. A disk's cache is finite: above it the first becomes durable.
const UNSYNCED_MAX: usize = 256;

/// The bytes of a file.
pub(super) type Content = Arc<[u8]>;

/// The files of one directory.
#[derive(Clone, Default)]
pub(super) struct Area {
    pub(super) written: BTreeMap<String, Content>,
    /// What the disk has of a file that differs from `written`.
    unsynced: BTreeMap<String, Option<Content>>,
    /// The file that was deleted last.
    pub(super) deleted_last: Option<(String, Content)>,
}

impl Area {
    /// What is on the disk.
    pub(super) fn durable(&self) -> BTreeMap<String, Content> {
        let mut files = self.written.clone();
        for (name, content) in &self.unsynced {
            match content {
                Some(content) => files.insert(name.clone(), content.clone()),
                None => files.remove(name),
            };
        }
        files
    }

    fn set(&mut self, name: &str, content: Option<Content>) -> Option<Content> {
        match content {
            Some(content) => self.written.insert(name.to_owned(), content),
            None => self.written.remove(name),
        }
    }

    fn set_unsynced(&mut self, name: &str, content: Option<Content>) -> Option<Content> {
        let old = self.set(name, content);
        self.unsynced.entry(name.to_owned()).or_insert_with(|| old.clone());
        if self.unsynced.len() > UNSYNCED_MAX {
            self.unsynced.pop_first();
        }
        old
    }
}

/// The files of all directories.
#[derive(Clone, Default)]
pub(super) struct FileTable {
    pub(super) areas: BTreeMap<String, Area>,
    bytes: u64,
}

impl FileTable {
    /// How many bytes they take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The same files, all of them durable.
    pub(super) fn as_durable(&self) -> Self {
        let mut copy = self.clone();
        copy.areas.values_mut().for_each(|area| area.unsynced.clear());
        copy
    }

    pub(super) fn get(&self, area: &str, name: &str) -> Option<&Content> {
        self.areas.get(area)?.written.get(name)
    }

    /// Gives a file its content. `is_durable` is whether its directory is synced afterwards.
    pub(super) fn put(&mut self, area: &str, name: &str, content: Content, is_durable: bool) {
        self.bytes += content.len() as u64;
        let area = self.areas.entry(area.to_owned()).or_default();
        let old = if is_durable {
            area.unsynced.clear();
            area.set(name, Some(content))
        } else {
            area.set_unsynced(name, Some(content))
        };
        self.bytes -= old.map_or(0, |old| old.len() as u64);
    }

    /// Deletes a file; whether there was one.
    pub(super) fn remove(&mut self, area: &str, name: &str) -> bool {
        let Some(area) = self.areas.get_mut(area).filter(|area| area.written.contains_key(name)) else { return false };
        let Some(old) = area.set_unsynced(name, None) else { return false };
        self.bytes -= old.len() as u64;
        area.deleted_last = Some((name.to_owned(), old));
        true
    }

    /// Deletes a directory.
    pub(super) fn remove_area(&mut self, area: &str) {
        let files = self.areas.remove(area).unwrap_or_default().written;
        self.bytes -= files.values().map(|content| content.len() as u64).sum::<u64>();
    }

    /// The power goes away: each file that is not durable is as it was before, or not. Names those that are.
    pub(super) fn crash(&mut self, random: &mut Stream) -> Vec<String> {
        let mut changed = Vec::new();
        for (area_name, area) in &mut self.areas {
            for (name, content) in std::mem::take(&mut area.unsynced) {
                if random.random_bool(0.5) {
                    self.bytes += content.as_ref().map_or(0, |content| content.len() as u64);
                    let old = area.set(&name, content);
                    self.bytes -= old.map_or(0, |old| old.len() as u64);
                    changed.push(format!("{area_name}/{name}"));
                }
            }
        }
        changed
    }

    /// Changes what is on the disk behind everybody's back.
    pub(super) fn damage(&mut self, area: &str, name: &str, content: Option<Content>) {
        let Some(area) = self.areas.get_mut(area) else { return };
        area.unsynced.remove(name);
        self.bytes += content.as_ref().map_or(0, |content| content.len() as u64);
        let old = area.set(name, content);
        self.bytes -= old.map_or(0, |old| old.len() as u64);
    }
}
