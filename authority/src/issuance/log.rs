//! The unexpired records, ordered and looked up by sequence, serial, identity, grant, issuer and holder, and the chain's head.

use std::{ops::Bound, sync::Arc};

use imbl::{OrdMap, OrdSet};

use super::{
    chain::{EMPTY_HEAD, link},
    record::{Grant, Holder, Issuance, IssuanceRecord},
};
use crate::{
    id::{Digest, KeyId, Serial},
    spiffe::Identity,
    time::Timestamp,
};

/// How many records expire in one entry at most: a herd that ends at once must not stall the log.
const EXPIRED_PER_ENTRY_MAX: usize = 4096;

/// What is left under one issuer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IssuerCounts {
    /// Unexpired leaves: prune waits for them.
    pub unexpired: u64,
    /// Leaves that no newer one supersedes: drain waits for them.
    pub current: u64,
    /// The end of the last unexpired leaf that was recorded under it.
    pub last_not_after: Timestamp,
}

/// The issuance log. Cloning is cheap: the maps are persistent.
#[derive(Clone, Debug)]
pub struct IssuanceLog {
    head: Digest,
    length: u64,
    records: OrdMap<u64, IssuanceRecord>,
    by_serial: OrdMap<Serial, u64>,
    by_identity: OrdSet<(Arc<Identity>, u64)>,
    by_grant: OrdSet<(Grant, u64)>,
    by_issuer: OrdSet<(KeyId, u64)>,
    by_end: OrdSet<(Timestamp, u64)>,
    current: OrdMap<(Arc<Holder>, Arc<Identity>), u64>,
    counts: OrdMap<KeyId, IssuerCounts>,
}

impl Default for IssuanceLog {
    fn default() -> Self {
        Self {
            head: EMPTY_HEAD,
            length: 0,
            records: OrdMap::new(),
            by_serial: OrdMap::new(),
            by_identity: OrdSet::new(),
            by_grant: OrdSet::new(),
            by_issuer: OrdSet::new(),
            by_end: OrdSet::new(),
            current: OrdMap::new(),
            counts: OrdMap::new(),
        }
    }
}

impl IssuanceLog {
    /// The log with this head and length and no unexpired record: where a snapshot's records are put back.
    pub(crate) fn at(head: Digest, length: u64) -> Self {
        Self { head, length, ..Self::default() }
    }

    /// Appends a leaf that was decided to be recorded, and supersedes the holder's former one.
    pub(crate) fn append(&mut self, index: u64, now: Timestamp, issuance: &Issuance) -> u64 {
        let sequence = self.length + 1;
        let hash = link(&self.head, sequence, index, now, issuance);
        let issuance = Arc::new(self.interned(issuance));
        self.head = hash;
        self.length = sequence;
        let key = (issuance.holder.clone(), issuance.identity.clone());
        if let Some(former) = self.current.get(&key).copied() {
            self.supersede(former, sequence);
        }
        self.restore(IssuanceRecord { issuance, sequence, recorded_at: now, index, hash, superseded_by: None });
        sequence
    }

    /// Puts a record, new or from a snapshot, into the maps.
    pub(crate) fn restore(&mut self, record: IssuanceRecord) {
        let sequence = record.sequence;
        let issuance = record.issuance.clone();
        let is_current = record.superseded_by.is_none();
        self.by_serial.insert(issuance.serial, sequence);
        self.by_identity.insert((issuance.identity.clone(), sequence));
        self.by_grant.insert((issuance.grant.clone(), sequence));
        self.by_issuer.insert((issuance.issuer, sequence));
        self.by_end.insert((issuance.not_after, sequence));
        if is_current {
            self.current.insert((issuance.holder.clone(), issuance.identity.clone()), sequence);
        }
        let mut counts = self.counts(&issuance.issuer);
        counts.unexpired += 1;
        counts.current += u64::from(is_current);
        counts.last_not_after = counts.last_not_after.max(issuance.not_after);
        self.counts.insert(issuance.issuer, counts);
        self.records.insert(sequence, record);
    }

    /// Forgets the records that ended before `now`; the head stays. Answers whether any went.
    pub(crate) fn expire(&mut self, now: Timestamp) -> bool {
        let mut expired = 0;
        while expired < EXPIRED_PER_ENTRY_MAX {
            match self.by_end.get_min() {
                Some((end, sequence)) if *end < now => {
                    let sequence = *sequence;
                    self.forget(sequence);
                    expired += 1;
                }
                _ => break,
            }
        }
        expired > 0
    }

    fn forget(&mut self, sequence: u64) {
        let Some(record) = self.records.remove(&sequence) else { return };
        let issuance = record.issuance;
        self.by_serial.remove(&issuance.serial);
        self.by_identity.remove(&(issuance.identity.clone(), sequence));
        self.by_grant.remove(&(issuance.grant.clone(), sequence));
        self.by_issuer.remove(&(issuance.issuer, sequence));
        self.by_end.remove(&(issuance.not_after, sequence));
        let key = (issuance.holder.clone(), issuance.identity.clone());
        if self.current.get(&key) == Some(&sequence) {
            self.current.remove(&key);
        }
        let mut counts = self.counts(&issuance.issuer);
        counts.unexpired -= 1;
        counts.current -= u64::from(record.superseded_by.is_none());
        if counts.unexpired == 0 {
            self.counts.remove(&issuance.issuer);
        } else {
            self.counts.insert(issuance.issuer, counts);
        }
    }

    fn supersede(&mut self, former: u64, sequence: u64) {
        let Some(record) = self.records.get(&former) else { return };
        let mut record = record.clone();
        record.superseded_by = Some(sequence);
        let mut counts = self.counts(&record.issuance.issuer);
        counts.current -= 1;
        self.counts.insert(record.issuance.issuer, counts);
        self.records.insert(former, record);
    }

    /// The issuance with its names shared with those of the records that have the same ones.
    fn interned(&self, issuance: &Issuance) -> Issuance {
        let mut interned = issuance.clone();
        let from = (issuance.identity.clone(), 0);
        if let Some((identity, _)) = self.by_identity.range((Bound::Included(from), Bound::Unbounded)).next()
            && *identity == issuance.identity
        {
            interned.identity = identity.clone();
        }
        let key = (issuance.holder.clone(), issuance.identity.clone());
        if let Some(record) = self.current.get(&key).and_then(|sequence| self.records.get(sequence)) {
            interned.holder = record.issuance.holder.clone();
        }
        interned
    }

    /// The head of the hash chain.
    pub const fn head(&self) -> Digest {
        self.head
    }

    /// How many leaves were ever recorded.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// How many records are unexpired.
    pub fn unexpired(&self) -> usize {
        self.records.len()
    }

    /// How many leaves are current: unexpired and not superseded.
    pub fn current(&self) -> usize {
        self.current.len()
    }

    /// The record of a serial.
    pub fn find(&self, serial: &Serial) -> Option<&IssuanceRecord> {
        self.records.get(self.by_serial.get(serial)?)
    }

    /// The unexpired records after a sequence, in order.
    pub fn after(&self, sequence: u64) -> impl Iterator<Item = &IssuanceRecord> {
        self.records.range((Bound::Excluded(sequence), Bound::Unbounded)).map(|(_, record)| record)
    }

    /// The unexpired records of an identity, in order.
    pub fn of_identity<'a>(&'a self, identity: &Arc<Identity>) -> impl Iterator<Item = &'a IssuanceRecord> {
        let identity = identity.clone();
        let from = (identity.clone(), 0);
        let found = self.by_identity.range((Bound::Included(from), Bound::Unbounded));
        found.take_while(move |(other, _)| *other == identity).filter_map(|(_, sequence)| self.records.get(sequence))
    }

    /// The unexpired records of a grant, in order.
    pub fn of_grant<'a>(&'a self, grant: &Grant) -> impl Iterator<Item = &'a IssuanceRecord> {
        let grant = grant.clone();
        let found = self.by_grant.range((Bound::Included((grant.clone(), 0)), Bound::Unbounded));
        found.take_while(move |(other, _)| *other == grant).filter_map(|(_, sequence)| self.records.get(sequence))
    }

    /// The unexpired records of an issuer, in order.
    pub fn of_issuer(&self, issuer: KeyId) -> impl Iterator<Item = &IssuanceRecord> {
        let found = self.by_issuer.range((issuer, 0)..=(issuer, u64::MAX));
        found.filter_map(|(_, sequence)| self.records.get(sequence))
    }

    /// The current record of a holder and identity.
    pub fn of_holder(&self, holder: &Arc<Holder>, identity: &Arc<Identity>) -> Option<&IssuanceRecord> {
        self.records.get(self.current.get(&(holder.clone(), identity.clone()))?)
    }

    /// What is left under an issuer.
    pub fn counts(&self, issuer: &KeyId) -> IssuerCounts {
        self.counts.get(issuer).copied().unwrap_or_default()
    }
}
