//! The unexpired records, looked up by sequence, serial, identity, grant, issuer and holder, and the chain's head.

use std::{collections::BTreeSet, sync::Arc};

use imbl::{OrdMap, OrdSet};

use super::{
    chain::{EMPTY_HEAD, Linked, fingerprint},
    index::{Fingerprints, PageIndex},
    pages::{Pages, page_of},
    record::{Grant, Holder, Issuance, IssuanceRecord},
};
use crate::{
    id::{Digest, KeyId, Serial},
    spiffe::Identity,
    time::Timestamp,
};

/// How many records expire in one entry at least, if so many have ended: more than an entry can add, so that they never pile
/// up; and few enough that a herd that ends at once does not stall the log.
const EXPIRED_PER_ENTRY: usize = 4096;

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

/// Why a record of a snapshot is none of this log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadIssuance {
    /// It lies past the log's length.
    #[error("the issuance {sequence} is past the log's length {length}")]
    PastEnd {
        /// The record's sequence.
        sequence: u64,
        /// The log's length.
        length: u64,
    },
    /// It does not come after the one before it.
    #[error("the issuance {sequence} follows the issuance {former}")]
    OutOfOrder {
        /// The record's sequence.
        sequence: u64,
        /// The sequence before it.
        former: u64,
    },
    /// Its serial is another record's.
    #[error("the issuances {former} and {sequence} have the same serial {serial}")]
    SerialTwice {
        /// The serial.
        serial: Serial,
        /// The record's sequence.
        sequence: u64,
        /// The other record's.
        former: u64,
    },
    /// Its hash does not follow from its content and the hash before it.
    #[error("the issuance {sequence} breaks the hash chain: it has {found}, its content gives {computed}")]
    BrokenChain {
        /// The record's sequence.
        sequence: u64,
        /// The hash it has.
        found: Digest,
        /// The hash of its content.
        computed: Digest,
    },
    /// It is superseded by what can be no later leaf, or shares its holder and identity with another current one.
    #[error("the issuance {sequence} is no successor or predecessor of the issuance {other}")]
    BadSuccession {
        /// The record's sequence.
        sequence: u64,
        /// The sequence of the other one.
        other: u64,
    },
}

/// The issuance log. Cloning is cheap: the maps are persistent.
#[derive(Clone, Debug)]
pub struct IssuanceLog {
    head: Digest,
    length: u64,
    records: Pages,
    /// By the first 64 bits of each serial.
    by_serial: Fingerprints,
    by_identity: PageIndex<Arc<Identity>>,
    by_grant: PageIndex<Arc<Grant>>,
    by_issuer: PageIndex<KeyId>,
    /// The earliest end in each page, and the page.
    by_end: OrdSet<(Timestamp, u64)>,
    /// The current records, by the fingerprint of holder and identity.
    current: Fingerprints,
    counts: OrdMap<KeyId, IssuerCounts>,
}

impl Default for IssuanceLog {
    fn default() -> Self {
        Self::at(EMPTY_HEAD, 0)
    }
}

impl IssuanceLog {
    /// The log with this head and length and no unexpired record: where a snapshot's records are put back.
    pub(crate) fn at(head: Digest, length: u64) -> Self {
        Self {
            head,
            length,
            records: Pages::default(),
            by_serial: Fingerprints::default(),
            by_identity: PageIndex::default(),
            by_grant: PageIndex::default(),
            by_issuer: PageIndex::default(),
            by_end: OrdSet::new(),
            current: Fingerprints::default(),
            counts: OrdMap::new(),
        }
    }

    /// Appends a leaf that was decided to be recorded, and supersedes the holder's former one.
    pub(crate) fn append(&mut self, index: u64, now: Timestamp, issuance: &Issuance) -> u64 {
        let sequence = self.length + 1;
        let name = issuance.identity.to_string();
        let hash = Linked { sequence, index, recorded_at: now, issuance, name: &name }.after(&self.head);
        let fingerprint = fingerprint(&issuance.holder, &name);
        let former = self.current_sequence(fingerprint, &issuance.holder, &issuance.identity);
        former.into_iter().for_each(|former| self.supersede(former, sequence));
        (self.head, self.length) = (hash, sequence);
        let mut issuance = issuance.clone();
        if let Some(holder) = self.holder_of(former, &issuance.holder) {
            issuance.holder = holder;
        }
        let record = IssuanceRecord { issuance, sequence, recorded_at: now, index, hash, superseded_by: None };
        self.insert(record, fingerprint, former);
        sequence
    }

    /// Puts a record of a snapshot back; they come in ascending order.
    /// `holders` has those of the records before, so that equal ones share their memory.
    pub(crate) fn restore(
        &mut self,
        mut record: IssuanceRecord,
        holders: &mut BTreeSet<Arc<Holder>>,
    ) -> Result<(), BadIssuance> {
        match holders.get(&record.issuance.holder) {
            Some(holder) => record.issuance.holder = holder.clone(),
            None => drop(holders.insert(record.issuance.holder.clone())),
        }
        let name = record.issuance.identity.to_string();
        let fingerprint = fingerprint(&record.issuance.holder, &name);
        self.check_place(&record)?;
        self.check_hash(&record, &name)?;
        self.check_succession(&record, fingerprint)?;
        self.insert(record, fingerprint, None);
        Ok(())
    }

    fn check_place(&self, record: &IssuanceRecord) -> Result<(), BadIssuance> {
        let (sequence, length) = (record.sequence, self.length);
        if sequence > length {
            return Err(BadIssuance::PastEnd { sequence, length });
        }
        let former = self.records.last().map_or(0, |last| last.sequence);
        if sequence <= former {
            return Err(BadIssuance::OutOfOrder { sequence, former });
        }
        match self.find(&record.issuance.serial) {
            Some(found) => {
                let (serial, former) = (record.issuance.serial, found.sequence);
                Err(BadIssuance::SerialTwice { serial, sequence, former })
            }
            None => Ok(()),
        }
    }

    /// The hash is checked where the one before it is known: the first record's, and each that follows its predecessor.
    fn check_hash(&self, record: &IssuanceRecord, name: &str) -> Result<(), BadIssuance> {
        let IssuanceRecord { issuance, sequence, recorded_at, index, hash: found, .. } = record;
        let (sequence, found) = (*sequence, *found);
        let before = match self.records.last() {
            _ if sequence == 1 => Some(EMPTY_HEAD),
            Some(last) if last.sequence + 1 == sequence => Some(last.hash),
            _ => None,
        };
        let linked = Linked { sequence, index: *index, recorded_at: *recorded_at, issuance, name };
        let linked = before.map(|before| linked.after(&before));
        let head = (sequence == self.length).then_some(self.head);
        match linked.into_iter().chain(head).find(|computed| *computed != found) {
            Some(computed) => Err(BadIssuance::BrokenChain { sequence, found, computed }),
            None => Ok(()),
        }
    }

    fn check_succession(&self, record: &IssuanceRecord, fingerprint: u64) -> Result<(), BadIssuance> {
        let sequence = record.sequence;
        let bad = match record.superseded_by {
            Some(by) => Some(by).filter(|by| *by <= sequence || *by > self.length),
            None => self.current_sequence(fingerprint, &record.issuance.holder, &record.issuance.identity),
        };
        bad.map_or(Ok(()), |other| Err(BadIssuance::BadSuccession { sequence, other }))
    }

    /// Puts a record, new or from a snapshot, after all others and into the lookups.
    fn insert(&mut self, mut record: IssuanceRecord, fingerprint: u64, former: Option<u64>) {
        let (sequence, page) = (record.sequence, page_of(record.sequence));
        let is_current = record.superseded_by.is_none();
        self.index_names(&mut record.issuance, page);
        let issuance = &record.issuance;
        self.by_serial.insert(prefix(&issuance.serial), sequence, None);
        self.by_issuer.insert(&issuance.issuer, page, |issuer, _| issuer);
        if is_current {
            self.current.insert(fingerprint, sequence, former);
        }
        let counts = self.counts.entry(issuance.issuer).or_default();
        counts.unexpired += 1;
        counts.current += u64::from(is_current);
        counts.last_not_after = counts.last_not_after.max(issuance.not_after);
        let (end, first_end) = (issuance.not_after, self.records.first_end(page));
        self.records.push(record);
        if first_end.is_none_or(|first_end| end < first_end) {
            if let Some(first_end) = first_end {
                self.by_end.remove(&(first_end, page));
            }
            self.by_end.insert((end, page));
        }
    }

    /// Makes the names findable, and shares them with the records that have the same: they repeat in most.
    fn index_names(&mut self, issuance: &mut Issuance, page: u64) {
        issuance.identity = self.by_identity.insert(&issuance.identity, page, with_shared_names);
        issuance.grant = self.by_grant.insert(&issuance.grant, page, |grant, _| grant);
    }

    /// Forgets the records that ended before `now`; the head stays. Answers whether any went.
    pub(crate) fn expire(&mut self, now: Timestamp) -> bool {
        let mut expired = 0;
        while expired < EXPIRED_PER_ENTRY
            && let Some((end, page)) = self.by_end.get_min().copied()
            && end < now
        {
            let records = self.records.page(page).iter();
            let ended = records.filter(|record| record.issuance.not_after < now).map(|record| record.sequence);
            let ended: Vec<u64> = ended.collect();
            ended.iter().for_each(|sequence| self.forget(*sequence));
            expired += ended.len();
            self.by_end.remove(&(end, page));
            if let Some(end) = self.records.first_end(page) {
                self.by_end.insert((end, page));
            }
        }
        expired > 0
    }

    fn forget(&mut self, sequence: u64) {
        let Some(IssuanceRecord { issuance, superseded_by, .. }) = self.records.remove(sequence) else { return };
        self.by_serial.remove(prefix(&issuance.serial), sequence);
        let page = page_of(sequence);
        let left = self.records.page(page);
        if left.iter().all(|other| other.issuance.identity != issuance.identity) {
            self.by_identity.remove(&issuance.identity, page);
        }
        if left.iter().all(|other| other.issuance.grant != issuance.grant) {
            self.by_grant.remove(&issuance.grant, page);
        }
        if left.iter().all(|other| other.issuance.issuer != issuance.issuer) {
            self.by_issuer.remove(&issuance.issuer, page);
        }
        if superseded_by.is_none() {
            self.current.remove(fingerprint(&issuance.holder, &issuance.identity.to_string()), sequence);
        }
        let counts = self.counts.entry(issuance.issuer).or_default();
        counts.unexpired = counts.unexpired.saturating_sub(1);
        counts.current = counts.current.saturating_sub(u64::from(superseded_by.is_none()));
        if counts.unexpired == 0 {
            self.counts.remove(&issuance.issuer);
        }
    }

    fn supersede(&mut self, former: u64, sequence: u64) {
        let Some(record) = self.records.find_mut(former) else { return };
        record.superseded_by = Some(sequence);
        let counts = self.counts.entry(record.issuance.issuer).or_default();
        counts.current = counts.current.saturating_sub(1);
    }

    /// The holder in the memory of another record: of the one it supersedes, or of one of the last, since a holder that starts
    /// asks for all its leaves at once.
    fn holder_of(&self, former: Option<u64>, holder: &Arc<Holder>) -> Option<Arc<Holder>> {
        let last = self.records.page(page_of(self.length)).iter().rev();
        let mut near = former.and_then(|former| self.records.find(former)).into_iter().chain(last);
        near.find(|record| record.issuance.holder == *holder).map(|record| record.issuance.holder.clone())
    }

    fn current_sequence(&self, fingerprint: u64, holder: &Holder, identity: &Identity) -> Option<u64> {
        self.current.find(fingerprint).find(|sequence| {
            let record = self.records.find(*sequence);
            record.is_some_and(|it| *it.issuance.holder == *holder && *it.issuance.identity == *identity)
        })
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
    pub const fn unexpired(&self) -> usize {
        self.records.count()
    }

    /// How many leaves are current: unexpired and not superseded.
    pub fn current(&self) -> usize {
        self.current.count()
    }

    /// The record of a serial.
    pub fn find(&self, serial: &Serial) -> Option<&IssuanceRecord> {
        let mut found = self.by_serial.find(prefix(serial)).filter_map(|sequence| self.records.find(sequence));
        found.find(|record| record.issuance.serial == *serial)
    }

    /// The unexpired records after a sequence, in order.
    pub fn after(&self, sequence: u64) -> impl Iterator<Item = &IssuanceRecord> {
        self.records.after(sequence)
    }

    /// The unexpired records of an identity, in order.
    pub fn of_identity<'a>(&'a self, identity: &Arc<Identity>) -> impl Iterator<Item = &'a IssuanceRecord> {
        let identity = identity.clone();
        let records = self.by_identity.pages_of(&identity).flat_map(|page| self.records.page(page));
        records.filter(move |record| record.issuance.identity == identity)
    }

    /// The unexpired records of a grant, in order.
    pub fn of_grant<'a>(&'a self, grant: &Grant) -> impl Iterator<Item = &'a IssuanceRecord> {
        let grant = Arc::new(grant.clone());
        let records = self.by_grant.pages_of(&grant).flat_map(|page| self.records.page(page));
        records.filter(move |record| record.issuance.grant == grant)
    }

    /// The unexpired records of an issuer, in order.
    pub fn of_issuer(&self, issuer: KeyId) -> impl Iterator<Item = &IssuanceRecord> {
        let records = self.by_issuer.pages_of(&issuer).flat_map(|page| self.records.page(page));
        records.filter(move |record| record.issuance.issuer == issuer)
    }

    /// The current record of a holder and identity.
    pub fn of_holder(&self, holder: &Holder, identity: &Identity) -> Option<&IssuanceRecord> {
        self.records.find(self.current_sequence(fingerprint(holder, &identity.to_string()), holder, identity)?)
    }

    /// What is left under an issuer.
    pub fn counts(&self, issuer: &KeyId) -> IssuerCounts {
        self.counts.get(issuer).copied().unwrap_or_default()
    }
}

/// An identity that has its trust domain and datacenter in the memory of another's.
fn with_shared_names(mut identity: Arc<Identity>, other: Option<&Arc<Identity>>) -> Arc<Identity> {
    if let Some(Identity::Spiffe(other)) = other.map(|other| &**other)
        && let Identity::Spiffe(id) = Arc::make_mut(&mut identity)
    {
        id.share_names(other);
    }
    identity
}

/// The first 64 bits of a serial: random, so almost always enough to tell it from the others.
fn prefix(serial: &Serial) -> u64 {
    serial.0[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
