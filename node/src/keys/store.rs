//! Where key bytes are kept: the port, and its adapter in memory for tests and the simulator. What a slot means is
//! `server_keys`'s business; here it has a name and bytes.

mod file;

use std::{collections::BTreeMap, fmt, io, path::PathBuf, str::FromStr, sync::Mutex};

use carrack_authority::id::KeyId;
use zeroize::Zeroizing;

pub use file::FileKeyStore;

/// The most bytes of one file here: an RSA 4096 key takes 3.3 KiB, a server's certificate chain less than 10 KiB.
pub const KEY_FILE_BYTES_MAX: usize = 64 * 1024;

/// What is kept, each in a file of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeySlot {
    /// `server.key`: the key of the certificate in [`KeySlot::ServerCertificate`].
    Server,
    /// `server.pem`: this server's certificate and its CA's root, as served. Not secret.
    ServerCertificate,
    /// `server.pending.key`: the key of a server certificate that was asked for.
    ServerPending,
    /// `issuer-<key id>.key`: the key of an issuer whose certificate is in the replicated state.
    Issuer(KeyId),
    /// `issuer.pending.key`: the key of an issuer certificate that was asked for.
    IssuerPending,
    /// `sealing.key`: the age identity that opens what is sealed to this server.
    Sealing,
    /// `federation.token`: the token with which this server's new datacenter joins the primary, until it has.
    FederationToken,
    /// `agent.key`: the key by which the servers know this host's agent.
    Agent,
    /// `agent.pem`: its certificate, as shown. Not secret.
    AgentCertificate,
}

impl fmt::Display for KeySlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("server.key"),
            Self::ServerCertificate => f.write_str("server.pem"),
            Self::ServerPending => f.write_str("server.pending.key"),
            Self::Issuer(id) => write!(f, "issuer-{}.key", id.to_string().replace(':', "")),
            Self::IssuerPending => f.write_str("issuer.pending.key"),
            Self::Sealing => f.write_str("sealing.key"),
            Self::FederationToken => f.write_str("federation.token"),
            Self::Agent => f.write_str("agent.key"),
            Self::AgentCertificate => f.write_str("agent.pem"),
        }
    }
}

/// A file name that is no slot's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a key file")]
pub struct UnknownSlot(pub String);

impl FromStr for KeySlot {
    type Err = UnknownSlot;

    fn from_str(name: &str) -> Result<Self, UnknownSlot> {
        let fixed = [
            Self::Server,
            Self::ServerCertificate,
            Self::ServerPending,
            Self::IssuerPending,
            Self::Sealing,
            Self::FederationToken,
            Self::Agent,
            Self::AgentCertificate,
        ];
        if let Some(slot) = fixed.into_iter().find(|slot| slot.to_string() == name) {
            return Ok(slot);
        }
        let id = name.strip_prefix("issuer-").and_then(|rest| rest.strip_suffix(".key"));
        let slot = id.and_then(|id| id.parse().ok()).map(Self::Issuer);
        slot.filter(|slot| slot.to_string() == name).ok_or_else(|| UnknownSlot(name.into()))
    }
}

/// Keeps key bytes durably: when a call has returned, its effect survives a crash; a crash inside leaves the old or the new.
pub trait KeyStore: Send + Sync {
    /// The bytes of a slot, or `None` if it is empty.
    fn read(&self, slot: KeySlot) -> Result<Option<Zeroizing<Vec<u8>>>, KeyStoreError>;

    /// Fills a slot, replacing what was there.
    fn write(&self, slot: KeySlot, bytes: &[u8]) -> Result<(), KeyStoreError>;

    /// Moves the bytes of `from` to `to`, replacing what was there.
    fn rename(&self, from: KeySlot, to: KeySlot) -> Result<(), KeyStoreError>;

    /// Empties a slot; success if it is empty already.
    fn delete(&self, slot: KeySlot) -> Result<(), KeyStoreError>;

    /// The slots that are filled, in order.
    fn list(&self) -> Result<Vec<KeySlot>, KeyStoreError>;
}

/// A key store could not do what was asked. Never holds key bytes.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// Others than the owner can read a secret.
    #[error(
        "{path} has mode {mode:04o}: others than its owner can reach the keys; treat them as known to others, or run `chmod {wanted:o} {path}` if nobody else is on this machine",
        path = path.display()
    )]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode it should have.
        wanted: u32,
    },
    /// The file is larger than anything that is written here.
    #[error("{path} has more than {bytes_max} bytes: it is not a key file of carrack", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        bytes_max: usize,
    },
    /// The operating system failed.
    #[error("cannot {what} {path}", path = path.display())]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A slot that should be filled is empty.
    #[error("there is no {slot} in the key store")]
    Missing {
        /// The empty slot.
        slot: KeySlot,
    },
}

/// Keeps keys in memory: for tests and the simulator.
#[derive(Default)]
pub struct MemoryKeyStore {
    slots: Mutex<BTreeMap<KeySlot, Zeroizing<Vec<u8>>>>,
}

impl MemoryKeyStore {
    fn slots(&self) -> std::sync::MutexGuard<'_, BTreeMap<KeySlot, Zeroizing<Vec<u8>>>> {
        self.slots.lock().expect("no code panics while it holds this lock")
    }
}

impl KeyStore for MemoryKeyStore {
    fn read(&self, slot: KeySlot) -> Result<Option<Zeroizing<Vec<u8>>>, KeyStoreError> {
        Ok(self.slots().get(&slot).cloned())
    }

    fn write(&self, slot: KeySlot, bytes: &[u8]) -> Result<(), KeyStoreError> {
        self.slots().insert(slot, Zeroizing::new(bytes.to_vec()));
        Ok(())
    }

    fn rename(&self, from: KeySlot, to: KeySlot) -> Result<(), KeyStoreError> {
        let mut slots = self.slots();
        let bytes = slots.remove(&from).ok_or(KeyStoreError::Missing { slot: from })?;
        slots.insert(to, bytes);
        Ok(())
    }

    fn delete(&self, slot: KeySlot) -> Result<(), KeyStoreError> {
        self.slots().remove(&slot);
        Ok(())
    }

    fn list(&self) -> Result<Vec<KeySlot>, KeyStoreError> {
        Ok(self.slots().keys().copied().collect())
    }
}

impl fmt::Debug for MemoryKeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.slots().keys()).finish()
    }
}

#[cfg(test)]
mod tests;
