//! The file that says whose data directory it is: TOML with a checksum, written once.

use carrack_authority::{
    id::{BadId, Digest, NodeId, StoreId},
    spiffe::{Name, SpiffeError, TrustDomain},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The version of the file that this build writes and reads.
const FORMAT: u32 = 1;

/// Who a server is. It never changes: a server that loses it joins again as another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The cluster that it belongs to.
    pub cluster: Uuid,
    /// The datacenter of that cluster.
    pub datacenter: Name,
    /// The name space of the identities that it issues.
    pub trust_domain: TrustDomain,
    /// Its id in the cluster.
    pub node: NodeId,
    /// Its name, for people.
    pub name: Name,
    /// The store that is recorded for its id.
    pub store: StoreId,
}

/// An identity file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It is not what this program writes.
    #[error("it is damaged, or was edited by hand")]
    Syntax(#[source] Box<toml::de::Error>),
    /// It was written by another version.
    #[error("it has format {found}, this version of carrack reads format {FORMAT}")]
    Format {
        /// The format of the file.
        found: u32,
    },
    /// Its checksum does not fit.
    #[error("its checksum is {found}, but its content has {computed}: it is damaged, or was edited by hand")]
    Checksum {
        /// The checksum in the file.
        found: String,
        /// The checksum of its content.
        computed: Digest,
    },
    /// A name in it is no name.
    #[error("a name in it is no name")]
    Name(#[from] SpiffeError),
    /// The store id in it is none.
    #[error("the store id in it is none")]
    Store(#[from] BadId),
    /// It cannot be written as TOML.
    #[error("it cannot be written as TOML")]
    Unwritable(#[source] toml::ser::Error),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    cluster_id: Uuid,
    datacenter: String,
    trust_domain: String,
    node_id: u64,
    node_name: String,
    store_id: String,
    sha256: String,
}

impl File {
    /// Over every field but itself, each on its own line, so that no two contents look alike.
    fn checksum(&self) -> Digest {
        let Self { format, cluster_id, datacenter, trust_domain, node_id, node_name, store_id, sha256: _ } = self;
        let lines = format!(
            "carrack identity\n{format}\n{cluster_id}\n{datacenter}\n{trust_domain}\n{node_id}\n{node_name}\n{store_id}\n"
        );
        Digest(Sha256::digest(lines).into())
    }
}

impl NodeIdentity {
    /// The content of the file.
    pub(super) fn to_text(&self) -> Result<String, IdentityError> {
        let mut file = File {
            format: FORMAT,
            cluster_id: self.cluster,
            datacenter: self.datacenter.to_string(),
            trust_domain: self.trust_domain.to_string(),
            node_id: self.node.0,
            node_name: self.name.to_string(),
            store_id: self.store.to_string(),
            sha256: String::new(),
        };
        file.sha256 = file.checksum().to_string();
        let fields = toml::to_string(&file).map_err(IdentityError::Unwritable)?;
        Ok(format!(
            "# Which server this data directory belongs to. Written once by carrack; never edit or copy it.\n{fields}"
        ))
    }

    /// Reads what `to_text` wrote.
    pub(super) fn from_text(text: &str) -> Result<Self, IdentityError> {
        let file: File = toml::from_str(text).map_err(|error| IdentityError::Syntax(Box::new(error)))?;
        if file.format != FORMAT {
            return Err(IdentityError::Format { found: file.format });
        }
        let computed = file.checksum();
        if file.sha256 != computed.to_string() {
            return Err(IdentityError::Checksum { found: file.sha256, computed });
        }
        Ok(Self {
            cluster: file.cluster_id,
            datacenter: Name::parse("datacenter", &file.datacenter)?,
            trust_domain: file.trust_domain.parse()?,
            node: NodeId(file.node_id),
            name: Name::parse("server", &file.node_name)?,
            store: file.store_id.parse()?,
        })
    }
}
