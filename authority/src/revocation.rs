//! Revoked leaves and issuers: serials, and key ids of issuers, that `authorize` refuses from the moment that they are here, until the
//! certificate would have ended anyway. They hold in every datacenter.

use std::{ops::Bound, sync::Arc};

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    id::{KeyId, Revision, Serial},
    time::Timestamp,
};

/// The most leaves that are revoked at a time: a whole compromised issuer is not revoked leaf by leaf.
pub const REVOCATIONS_MAX: usize = 100_000;
/// The most issuers that are revoked at a time: a server in other hands has a few, and a root is replaced rather than all of its issuers.
pub const REVOKED_ISSUERS_MAX: usize = 256;
/// The longest reason.
pub const REASON_BYTES_MAX: usize = 256;

/// What a revocation is called where only a key of fixed size fits: in histories, and in cursors of those who follow the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RevocationKey(pub Uuid);

impl RevocationKey {
    /// The key of this serial's: the first half of SHA-256 over a domain tag and the serial.
    pub fn of(serial: &Serial) -> Self {
        let digest: [u8; 32] =
            Sha256::new().chain_update(b"carrack revocation v1\0").chain_update(serial.0).finalize().into();
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        Self(Uuid::from_bytes(half))
    }
}

/// A revoked leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Its serial.
    pub serial: Serial,
    /// When the leaf ends, and this is forgotten.
    pub until: Timestamp,
    /// Why, for people.
    pub reason: String,
    /// When it was revoked: set by apply.
    pub revoked_at: Timestamp,
    /// The entry that recorded it.
    pub created: Revision,
    /// The entry that changed it last.
    pub modified: Revision,
}

impl Revocation {
    /// Its key.
    pub fn key(&self) -> RevocationKey {
        RevocationKey::of(&self.serial)
    }
}

/// A revoked issuer: nothing that it has signed is accepted where its leaves are shown whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedIssuer {
    /// Its subject key identifier: the authority key identifier of what it has signed.
    pub issuer: KeyId,
    /// The root that signed it.
    pub root: KeyId,
    /// When the issuer ends, and this is forgotten.
    pub until: Timestamp,
    /// Why, for people.
    pub reason: String,
    /// When it was revoked: set by apply.
    pub revoked_at: Timestamp,
}

/// The revoked issuers. Cloning is cheap: the map is persistent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevokedIssuers(OrdMap<KeyId, Arc<RevokedIssuer>>);

impl RevokedIssuers {
    pub(crate) fn put(&mut self, revoked: Arc<RevokedIssuer>) -> Option<Arc<RevokedIssuer>> {
        self.0.insert(revoked.issuer, revoked)
    }

    /// Forgets some; whether there were any.
    pub(crate) fn forget(&mut self, is_meant: impl Fn(&RevokedIssuer) -> bool) -> bool {
        let gone: Vec<KeyId> = self.0.values().filter(|it| is_meant(it)).map(|it| it.issuer).collect();
        for issuer in &gone {
            self.0.remove(issuer);
        }
        !gone.is_empty()
    }

    /// The revocation of this issuer.
    pub fn find(&self, issuer: &KeyId) -> Option<&Arc<RevokedIssuer>> {
        self.0.get(issuer)
    }

    /// Every one, by issuer.
    pub fn all(&self) -> impl Iterator<Item = &Arc<RevokedIssuer>> {
        self.0.values()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<RevokedIssuer> for RevokedIssuers {
    fn from_iter<T: IntoIterator<Item = RevokedIssuer>>(all: T) -> Self {
        Self(all.into_iter().map(|it| (it.issuer, Arc::new(it))).collect())
    }
}

/// The revoked leaves. Cloning is cheap: the maps are persistent.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    by_key: OrdMap<RevocationKey, Arc<Revocation>>,
    by_serial: OrdMap<Serial, Arc<Revocation>>,
    by_end: OrdSet<(Timestamp, RevocationKey)>,
}

impl Revocations {
    pub(crate) fn put(&mut self, revocation: Arc<Revocation>) {
        let key = revocation.key();
        self.delete(key);
        self.by_end.insert((revocation.until, key));
        self.by_serial.insert(revocation.serial, revocation.clone());
        self.by_key.insert(key, revocation);
    }

    pub(crate) fn delete(&mut self, key: RevocationKey) -> Option<Arc<Revocation>> {
        let gone = self.by_key.remove(&key)?;
        self.by_serial.remove(&gone.serial);
        self.by_end.remove(&(gone.until, key));
        Some(gone)
    }

    /// Forgets those that ended before this moment; whether there were any.
    pub(crate) fn expire(&mut self, now: Timestamp) -> bool {
        let mut any = false;
        while let Some((_, key)) = self.by_end.get_min().copied().filter(|(until, _)| *until < now) {
            self.delete(key);
            any = true;
        }
        any
    }

    /// That of a serial.
    pub fn of_serial(&self, serial: &Serial) -> Option<&Arc<Revocation>> {
        self.by_serial.get(serial)
    }

    /// The one of this key.
    pub fn of_key(&self, key: RevocationKey) -> Option<&Arc<Revocation>> {
        self.by_key.get(&key)
    }

    /// Every one, by key.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Revocation>> {
        self.by_key.values()
    }

    /// Every one after a key, by key.
    pub fn after(&self, key: Option<RevocationKey>) -> impl Iterator<Item = &Arc<Revocation>> {
        let start = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_key.range((start, Bound::Unbounded)).map(|(_, revocation)| revocation)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_key.len()
    }
}
