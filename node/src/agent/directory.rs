//! What an agent keeps: its name, its key with its certificate, and where its servers are. Leaves and what is known of tokens are in
//! memory alone.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use carrack_authority::{
    key::{Der, KeyKind},
    spiffe::{Identity, Name, SpiffeError, SpiffeId, SpiffePath, TrustDomain},
    x509::pem,
};
use carrack_raft::ports::Files;
use serde::{Deserialize, Serialize};

use crate::{
    data_directory::{DataDirectoryError, OpenPlace, Place},
    keys::{
        secret::{KeyError, KeyMaker, SecretKey},
        server_keys::ServerCredential,
        store::{KeySlot, KeyStore, KeyStoreError},
    },
};

/// The file by which an agent knows that it has joined.
pub const AGENT_FILE: &str = "agent.toml";
/// The version of the file that this build writes and reads.
const FORMAT: u32 = 1;
/// The kind of an agent's own key, whatever the CA's: every TLS library has it.
const OWN_KEY_KIND: KeyKind = KeyKind::EcP256;

/// Who an agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentIdentity {
    /// Its datacenter.
    pub datacenter: Name,
    /// The name space of every identity.
    pub trust_domain: TrustDomain,
    /// The name of its host.
    pub node: Name,
}

impl AgentIdentity {
    /// The name in its certificate.
    pub fn spiffe(&self) -> Identity {
        let path = SpiffePath::Agent { datacenter: self.datacenter.clone(), node: self.node.clone() };
        Identity::Spiffe(SpiffeId { trust_domain: self.trust_domain.clone(), path })
    }
}

/// Where an agent's servers are, and how they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contacts {
    /// Where they answer agents, as `host:port`.
    pub servers: Vec<String>,
    /// The bundle of their CA.
    pub server_roots: Vec<Der>,
}

/// An agent's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AgentDirectoryError {
    /// The directory itself.
    #[error(transparent)]
    Place(#[from] DataDirectoryError),
    /// The keys.
    #[error("the key store of the data directory {path} cannot be used", path = path.display())]
    Keys {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: KeyStoreError,
    },
    /// The agent's own key.
    #[error("the agent's own key in {path} cannot be used", path = path.display())]
    Key {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// A file of it.
    #[error("cannot {what} {path}", path = path.display())]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Its identity is not what this program writes.
    #[error("{path} is damaged, or was edited by hand: {reason}; make another token with `carrack token agent`, and join with an empty directory", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The key is there, its certificate is not.
    #[error("the data directory {path} has lost the agent's key or certificate: make another token with `carrack token agent`, and join with an empty directory", path = path.display())]
    PartMissing {
        /// The directory.
        path: PathBuf,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    datacenter: String,
    trust_domain: String,
    node_name: String,
    servers: Vec<String>,
    server_roots: String,
}

/// The directory of one agent, locked while it is open.
pub struct AgentDirectory {
    root: PathBuf,
    files: Arc<dyn Files>,
    keys: Arc<dyn KeyStore>,
    /// Held for its lock.
    _place: Arc<dyn Place>,
}

impl AgentDirectory {
    /// Opens the directory.
    pub fn open(root: &Path, open: &OpenPlace) -> Result<Self, AgentDirectoryError> {
        let place = open(root)?;
        let keys = place.keys().map_err(|source| AgentDirectoryError::Keys { path: root.into(), source })?;
        Ok(Self { root: root.into(), files: place.files(), keys, _place: place })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Who the agent is, and where its servers were; `None`: it has not joined.
    pub fn joined(&self) -> Result<Option<(AgentIdentity, Contacts)>, AgentDirectoryError> {
        let path = self.root.join(AGENT_FILE);
        let read = self.files.read(AGENT_FILE);
        let bytes = read.map_err(|source| AgentDirectoryError::Io { what: "read", path: path.clone(), source })?;
        let Some(bytes) = bytes else { return Ok(None) };
        let damaged = |reason: String| AgentDirectoryError::Damaged { path: path.clone(), reason };
        let text = String::from_utf8(bytes).map_err(|error| damaged(error.to_string()))?;
        let file: File = toml::from_str(&text).map_err(|error| damaged(error.message().to_owned()))?;
        if file.format != FORMAT {
            return Err(damaged(format!(
                "it has format {}, this version of carrack reads format {FORMAT}",
                file.format
            )));
        }
        let named = |error: SpiffeError| damaged(error.to_string());
        let identity = AgentIdentity {
            datacenter: Name::parse("datacenter", &file.datacenter).map_err(named)?,
            trust_domain: file.trust_domain.parse().map_err(named)?,
            node: Name::parse("node name", &file.node_name).map_err(named)?,
        };
        let server_roots = pem::decode_certificates(&file.server_roots).map_err(|error| damaged(error.to_string()))?;
        Ok(Some((identity, Contacts { servers: file.servers, server_roots })))
    }

    /// Keeps who the agent is and where its servers are. At the first time it is the last step of joining.
    pub fn keep(&self, identity: &AgentIdentity, contacts: &Contacts) -> Result<(), AgentDirectoryError> {
        let path = self.root.join(AGENT_FILE);
        let file = File {
            format: FORMAT,
            datacenter: identity.datacenter.to_string(),
            trust_domain: identity.trust_domain.to_string(),
            node_name: identity.node.to_string(),
            servers: contacts.servers.clone(),
            server_roots: pem::encode_certificates(contacts.server_roots.iter()),
        };
        let text = toml::to_string(&file).map_err(io::Error::other);
        let kept = text.and_then(|text| self.files.replace(AGENT_FILE, text.as_bytes()));
        kept.map_err(|source| AgentDirectoryError::Io { what: "write", path, source })
    }

    /// The agent's own key, made at the first call: the one by which the servers know it.
    pub fn own_key(&self, maker: &dyn KeyMaker) -> Result<SecretKey, AgentDirectoryError> {
        if let Some(key) = self.key(maker)? {
            return Ok(key);
        }
        let key = maker.make(OWN_KEY_KIND).map_err(|source| self.bad_key(source))?;
        self.keys.write(KeySlot::Agent, key.to_pem().as_bytes()).map_err(|source| self.bad_store(source))?;
        Ok(key)
    }

    /// The agent's own certificate with its key.
    pub fn credential(&self, maker: &dyn KeyMaker) -> Result<ServerCredential, AgentDirectoryError> {
        let missing = || AgentDirectoryError::PartMissing { path: self.root.clone() };
        let key = self.key(maker)?.ok_or_else(missing)?;
        let chain = self.keys.read(KeySlot::AgentCertificate).map_err(|source| self.bad_store(source))?;
        let chain = chain.ok_or_else(missing)?;
        let chain_pem = String::from_utf8(chain.to_vec()).map_err(|_| missing())?;
        Ok(ServerCredential { key, chain_pem })
    }

    /// Keeps the agent's next certificate.
    pub fn keep_certificate(&self, chain_pem: &str) -> Result<(), AgentDirectoryError> {
        let written = self.keys.write(KeySlot::AgentCertificate, chain_pem.as_bytes());
        written.map_err(|source| self.bad_store(source))
    }

    fn key(&self, maker: &dyn KeyMaker) -> Result<Option<SecretKey>, AgentDirectoryError> {
        let Some(bytes) = self.keys.read(KeySlot::Agent).map_err(|source| self.bad_store(source))? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| self.bad_key(KeyError::NoPem))?;
        maker.import(text).map(Some).map_err(|source| self.bad_key(source))
    }

    fn bad_store(&self, source: KeyStoreError) -> AgentDirectoryError {
        AgentDirectoryError::Keys { path: self.root.clone(), source }
    }

    fn bad_key(&self, source: KeyError) -> AgentDirectoryError {
        AgentDirectoryError::Key { path: self.root.clone(), source }
    }
}
