//! The server CA: transport between the servers of one datacenter, apart from the mesh CA.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use rcgen::SanType;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    authority::{CertificateAuthority, IssueError, SignedCertificate, Subject, sign_root},
    certificate::ca_template,
    csr::VerifiedServerCsr,
    dns_name::DnsName,
    name::ca_name,
    request::ia5,
    validity::Validity,
};
use crate::{
    id::{NodeId, Serial},
    key::Signer,
    leaf::end_entity_template,
    spiffe::{Name, SpiffeError, TrustDomain},
    time::Timestamp,
};

/// The most DNS names and IP addresses of one server certificate: its own and those that an operator configures.
pub const SERVER_NAMES_MAX: usize = 32;
const SUFFIX: &str = ".cluster.carrack";

/// Who a server is to other servers: `spiffe://<cluster id>.cluster.carrack/dc/<datacenter>/server/<node id>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServerId {
    /// The cluster: the servers of one datacenter with one log.
    pub cluster: Uuid,
    /// Its datacenter.
    pub datacenter: Name,
    /// Its node id.
    pub node: NodeId,
}

/// The trust domain of a cluster's server CA.
pub fn cluster_trust_domain(cluster: &Uuid) -> TrustDomain {
    format!("{cluster}{SUFFIX}").parse().expect("a UUID in lower case and the suffix are a trust domain")
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}{SUFFIX}/dc/{}/server/{}", self.cluster, self.datacenter, self.node)
    }
}

impl FromStr for ServerId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        let unknown = || SpiffeError::UnknownPath(text.escape_default().to_string());
        let rest = text.strip_prefix("spiffe://").ok_or_else(unknown)?;
        let segments: Vec<&str> = rest.split('/').collect();
        let [trust_domain, "dc", datacenter, "server", node] = segments.as_slice() else { return Err(unknown()) };
        let cluster = trust_domain.strip_suffix(SUFFIX).and_then(|cluster| cluster.parse().ok()).ok_or_else(unknown)?;
        let node = NodeId(node.parse().map_err(|_| unknown())?);
        let id = Self { cluster, datacenter: Name::parse("datacenter", datacenter)?, node };
        // A UUID and a number can be written in several ways, an id only in one.
        if id.to_string() == text { Ok(id) } else { Err(unknown()) }
    }
}

/// A new root of the server CA.
#[derive(Clone, Copy, Debug)]
pub struct ServerRootProfile<'a> {
    /// The cluster.
    pub cluster: &'a Uuid,
    /// Its datacenter.
    pub datacenter: &'a Name,
    /// Its serial number.
    pub serial: Serial,
    /// The time.
    pub now: Timestamp,
    /// How long it lives.
    pub ttl: Duration,
}

/// A server certificate.
#[derive(Clone, Copy, Debug)]
pub struct ServerProfile<'a> {
    /// The request of the server's key.
    pub csr: &'a VerifiedServerCsr,
    /// Who the server is.
    pub id: &'a ServerId,
    /// The names under which clients reach it.
    pub dns_names: &'a [DnsName],
    /// The addresses under which clients reach it.
    pub ip_addresses: &'a [IpAddr],
    /// Its serial number.
    pub serial: Serial,
    /// The time.
    pub now: Timestamp,
    /// How long it lives.
    pub ttl: Duration,
}

/// Makes a root of the server CA.
pub fn server_root(signer: &dyn Signer, profile: &ServerRootProfile<'_>) -> Result<SignedCertificate, IssueError> {
    let ServerRootProfile { cluster, datacenter, serial, now, ttl } = *profile;
    let trust_domain = cluster_trust_domain(cluster);
    let key = &signer.public_key().id;
    let name = ca_name("carrack server root", datacenter.as_str(), key, trust_domain.as_str());
    let template = ca_template(name, &trust_domain, None)?;
    sign_root(template, signer, serial, Validity::UNBOUNDED.starting(now, ttl)?)
}

/// Signs a server certificate, which is both a TLS server's and a TLS client's.
pub fn server(root: &CertificateAuthority, profile: &ServerProfile<'_>) -> Result<SignedCertificate, IssueError> {
    let ServerProfile { csr, id, dns_names, ip_addresses, serial, now, ttl } = *profile;
    let count = dns_names.len() + ip_addresses.len();
    if count > SERVER_NAMES_MAX {
        return Err(IssueError::TooManyNames { count, count_max: SERVER_NAMES_MAX });
    }
    let mut names = vec![SanType::URI(ia5(&id.to_string())?)];
    for name in dns_names {
        names.push(SanType::DnsName(ia5(name.as_str())?));
    }
    names.extend(ip_addresses.iter().copied().map(SanType::IpAddress));
    let mut template = end_entity_template();
    template.subject_alt_names = names;
    root.sign(template, Subject::new(csr.public_key()), serial, root.bounds().starting(now, ttl)?)
}

#[cfg(test)]
mod tests;
