//! The answers that commands read, in Consul's CamelCase. Fields that a command can do without have defaults, so that an older or newer
//! server still answers it.

use std::fmt::Write as _;

use serde::Deserialize;

/// `GET /v1/carrack/status`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Status {
    /// The datacenter.
    pub datacenter: String,
    /// The trust domain.
    pub trust_domain: String,
    /// The cluster's id.
    #[serde(default)]
    pub cluster_id: String,
    /// The id of the server that answered.
    pub node_id: u64,
    /// The name of the server that answered.
    pub node_name: String,
    /// Its role.
    pub role: String,
    /// Its term.
    pub term: u64,
    /// The leader it knows.
    pub leader: Option<NodeName>,
    /// The last index in its log.
    #[serde(default)]
    pub last_log_index: u64,
    /// The last committed index it knows.
    #[serde(default)]
    pub committed_index: u64,
    /// The last index it applied.
    #[serde(default)]
    pub applied_index: u64,
    /// The index of its last snapshot.
    #[serde(default)]
    pub snapshot_index: u64,
    /// The cluster's feature level.
    #[serde(default)]
    pub feature_level: u32,
    /// The log's time.
    #[serde(default)]
    pub log_time: String,
    /// Whether the leader has taken the clock of a majority.
    #[serde(default)]
    pub clock_ready: bool,
    /// Whether issuing is halted.
    #[serde(default)]
    pub halted: bool,
    /// How many leaves were ever recorded.
    #[serde(default)]
    pub issuance_count: u64,
    /// The head of the issuance log's hash chain.
    #[serde(default)]
    pub issuance_head: String,
    /// Unexpired records.
    #[serde(default)]
    pub issuance_live: u64,
    /// Leaves that nothing supersedes.
    #[serde(default)]
    pub current_leaves: u64,
    /// The servers.
    #[serde(default)]
    pub members: Vec<Member>,
    /// In a secondary: how it stands with the primary.
    #[serde(default)]
    pub secondary: Option<Secondary>,
    /// What agents have of the bundle.
    pub bundle: Option<Bundle>,
    /// The CA.
    pub ca: Option<Ca>,
    /// What an operator should look at.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// What agents have of the roots that verifiers trust.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Bundle {
    /// The revision of the newest one.
    pub revision: u64,
    /// What the servers said of their agents.
    pub servers: Vec<Acknowledgement>,
}

/// What a server said of its agents.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Acknowledgement {
    /// The name.
    pub node_name: String,
    /// The newest bundle of which it said that all of its agents have it.
    pub acknowledged: Option<u64>,
}

/// A server's id and name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NodeName {
    /// The id.
    pub node_id: u64,
    /// The name.
    pub node_name: String,
}

/// A row of `GET /v1/carrack/members`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Member {
    /// The id.
    pub node_id: u64,
    /// The name.
    pub node_name: String,
    /// Where other servers reach it.
    #[serde(default)]
    pub raft_address: String,
    /// leader, follower, learner, candidate or unknown.
    #[serde(default)]
    pub role: String,
    /// Whether it votes.
    #[serde(default)]
    pub voter: bool,
    /// Whether it is being removed.
    #[serde(default)]
    pub leaving: bool,
    /// The highest feature level it supports.
    #[serde(default)]
    pub feature_level: u32,
    /// The end of its server certificate.
    pub certificate_expiry: Option<String>,
    /// Whether the answering server reaches it.
    pub reachable: Option<bool>,
    /// How many entries it is behind.
    pub replication_lag: Option<u64>,
}

/// The CA in a status.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ca {
    /// Whether there is an active root and an issuer.
    #[serde(default)]
    pub initialized: bool,
    /// The active root's id.
    pub active_root_id: Option<String>,
    /// The roots.
    #[serde(default)]
    pub roots: Vec<CaRoot>,
    /// The issuers.
    #[serde(default)]
    pub issuers: Vec<CaIssuer>,
    /// The last failure of what leads the CA.
    pub last_error: Option<String>,
}

/// A root in a status.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CaRoot {
    /// The id.
    pub id: String,
    /// prepared, active or retired.
    #[serde(default)]
    pub phase: String,
    /// Its end.
    #[serde(default)]
    pub not_after: String,
}

/// An issuer in a status.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CaIssuer {
    /// The id.
    pub id: String,
    /// The server that holds its key.
    #[serde(default)]
    pub node_name: String,
    /// The root that signed it.
    #[serde(default)]
    pub root_id: String,
    /// Its end.
    #[serde(default)]
    pub not_after: String,
    /// Its phase.
    #[serde(default)]
    pub phase: String,
}

/// `PUT /v1/carrack/join-token`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct JoinToken {
    /// The token.
    pub token: String,
    /// The name it is bound to.
    pub node_name: String,
    /// Its end.
    pub expires_at: String,
    /// The command to run on the new server.
    pub command: String,
}

/// `GET /v1/connect/ca/roots`
#[derive(Debug, Deserialize)]
pub struct Roots {
    /// The active root's id.
    #[serde(rename = "ActiveRootID")]
    pub active_root_id: String,
    /// The trust domain.
    #[serde(rename = "TrustDomain")]
    pub trust_domain: String,
    /// The roots.
    #[serde(rename = "Roots", default)]
    pub roots: Vec<Root>,
}

/// A root as Consul shows it.
#[derive(Debug, Deserialize)]
pub struct Root {
    /// The id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The name.
    #[serde(rename = "Name", default)]
    pub name: String,
    /// The first second.
    #[serde(rename = "NotBefore", default)]
    pub not_before: String,
    /// The last second.
    #[serde(rename = "NotAfter", default)]
    pub not_after: String,
    /// The certificate in PEM.
    #[serde(rename = "RootCert")]
    pub root_cert: String,
    /// Cross-signed certificates in PEM.
    #[serde(rename = "IntermediateCerts", default)]
    pub intermediate_certs: Option<Vec<String>>,
    /// Whether it is the active one.
    #[serde(rename = "Active", default)]
    pub active: bool,
    /// Its key's type.
    #[serde(rename = "PrivateKeyType", default)]
    pub private_key_type: String,
    /// Its key's size.
    #[serde(rename = "PrivateKeyBits", default)]
    pub private_key_bits: u32,
}

/// `GET /v1/agent/self`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct About {
    /// What the server was told.
    pub config: AboutConfig,
}

/// The part of a server's configuration that it shows to every token.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AboutConfig {
    /// The datacenter.
    pub datacenter: String,
}

/// `PUT /v1/carrack/sign`
#[derive(Debug, Deserialize)]
pub struct Signed {
    /// The serial, in hexadecimal digits with colons.
    #[serde(rename = "SerialNumber")]
    pub serial_number: String,
    /// The leaf.
    #[serde(rename = "CertPEM")]
    pub cert_pem: String,
    /// What stands between the leaf and a root.
    #[serde(rename = "ChainPEM")]
    pub chain_pem: String,
    /// The roots to trust.
    #[serde(rename = "RootsPEM")]
    pub roots_pem: String,
    /// The identity in the leaf.
    #[serde(rename = "SpiffeID")]
    pub spiffe_id: String,
    /// The first second.
    #[serde(rename = "ValidAfter", default)]
    pub valid_after: String,
    /// The last second.
    #[serde(rename = "ValidBefore", default)]
    pub valid_before: String,
}

/// `GET /v1/carrack/issuance`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IssuancePage {
    /// The head of the hash chain.
    pub head: String,
    /// How many leaves were ever recorded.
    pub length: u64,
    /// The records, oldest first.
    #[serde(default)]
    pub records: Vec<serde_json::Value>,
}

/// A record of the issuance log.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IssuanceRecord {
    /// The place in the log.
    pub sequence: u64,
    /// The leaf's serial.
    pub serial: String,
    /// The identity in the leaf.
    pub identity: String,
    /// What entitled it.
    pub grant: String,
    /// SHA-256 of its public key.
    #[serde(rename = "PublicKeyDigest")]
    pub spki_digest: String,
    /// SHA-256 of the certificate.
    pub certificate_digest: String,
    /// The first second.
    pub not_before: String,
    /// The last second.
    pub not_after: String,
    /// The issuer that signed it.
    pub issuer: String,
    /// Who keeps it.
    pub holder: String,
    /// When the proposal would have lapsed.
    pub deadline: String,
    /// The stamp of its log entry.
    pub recorded_at: String,
    /// The index of its log entry.
    pub index: u64,
    /// The record that superseded it.
    pub superseded_by: Option<u64>,
    /// The head of the hash chain after it.
    pub hash: String,
}

/// A token of `/v1/acl`.
#[derive(Debug, Deserialize)]
pub struct AclToken {
    /// The public id.
    #[serde(rename = "AccessorID")]
    pub accessor_id: String,
    /// The secret: only in the answers that make a token.
    #[serde(rename = "SecretID", default)]
    pub secret_id: String,
    /// For people.
    #[serde(rename = "Description", default)]
    pub description: String,
    /// The policies.
    #[serde(rename = "Policies", default)]
    pub policies: Option<Vec<AclLink>>,
    /// The services that the token may be.
    #[serde(rename = "ServiceIdentities", default)]
    pub service_identities: Option<Vec<AclServiceIdentity>>,
    /// Its end.
    #[serde(rename = "ExpirationTime", default)]
    pub expiration_time: Option<String>,
    /// When it was made.
    #[serde(rename = "CreateTime", default)]
    pub create_time: String,
}

/// A policy that a token refers to.
#[derive(Debug, Deserialize)]
pub struct AclLink {
    /// The id.
    #[serde(rename = "ID", default)]
    pub id: String,
    /// The name.
    #[serde(rename = "Name", default)]
    pub name: String,
}

/// A service that a token may be.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AclServiceIdentity {
    /// The service.
    pub service_name: String,
    /// The datacenters; none: all.
    #[serde(default)]
    pub datacenters: Option<Vec<String>>,
}

/// A policy of `/v1/acl`.
#[derive(Debug, Deserialize)]
pub struct AclPolicy {
    /// The id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The name.
    #[serde(rename = "Name")]
    pub name: String,
    /// For people.
    #[serde(rename = "Description", default)]
    pub description: String,
    /// The rules in HCL: lists leave them out.
    #[serde(rename = "Rules", default)]
    pub rules: String,
    /// The datacenters; none: all.
    #[serde(rename = "Datacenters", default)]
    pub datacenters: Option<Vec<String>>,
}

/// `GET /v1/carrack/federation`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Federation {
    /// The datacenter that answered.
    pub datacenter: String,
    /// The primary.
    pub primary: String,
    /// The trust domain.
    pub trust_domain: String,
    /// The cluster's id.
    #[serde(default)]
    pub cluster_id: String,
    /// Where its servers are reached.
    #[serde(default)]
    pub wan_addresses: Vec<String>,
    /// The other datacenters.
    #[serde(default)]
    pub datacenters: Vec<FederationDatacenter>,
    /// In a secondary: how it stands with the primary.
    #[serde(default)]
    pub secondary: Option<Secondary>,
}

/// A datacenter.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FederationDatacenter {
    /// The name.
    pub name: String,
    /// The cluster's id.
    #[serde(default)]
    pub cluster_id: String,
    /// Whether it is the primary.
    #[serde(default)]
    pub primary: bool,
    /// Where its servers are reached.
    #[serde(default)]
    pub wan_addresses: Vec<String>,
    /// When it joined, or was first heard of.
    #[serde(default)]
    pub known_since: String,
    /// Its unexpired issuers.
    pub issuers: Option<u64>,
    /// When the last of them ends.
    pub issuers_until: Option<String>,
}

/// How a secondary stands with the primary.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Secondary {
    /// The primary.
    pub primary: String,
    /// Until when it issues without the primary.
    pub issues_until: Option<String>,
    /// In how many seconds that is.
    #[serde(default)]
    pub issues_for_seconds: u64,
    /// How long tokens of all datacenters are honoured after the primary was heard.
    #[serde(default)]
    pub token_staleness_max: String,
    /// How long it issues after the primary was heard.
    #[serde(default)]
    pub halt_staleness_max: String,
    /// Whether that is over, so that nothing is issued.
    #[serde(default)]
    pub halt_unknown: bool,
    /// The tables that are followed.
    #[serde(default)]
    pub streams: Vec<FollowedTable>,
    /// Who leads, if the server that was asked does not.
    #[serde(default)]
    pub leader: Option<String>,
    /// Servers whose issuer was not signed.
    #[serde(default)]
    pub unsigned_issuers: Vec<UnsignedIssuer>,
    /// Why the primary does not know where this datacenter is.
    #[serde(default)]
    pub unannounced: Option<String>,
    /// The first of the primary's tokens that are not honoured here.
    #[serde(default)]
    pub hidden_tokens: Vec<HiddenToken>,
}

/// A token of the primary behind a local one.
#[derive(Debug, Deserialize)]
pub struct HiddenToken {
    /// Its accessor id.
    #[serde(rename = "AccessorID")]
    pub accessor: String,
    /// That of the local one.
    #[serde(rename = "LocalAccessorID")]
    pub local: String,
}

/// A table that a secondary follows.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FollowedTable {
    /// Its name.
    pub table: String,
    /// The primary's revision up to which it is here.
    pub revision: u64,
    /// Whether the whole table is being read.
    #[serde(default)]
    pub reading: bool,
    /// When the primary was heard, by the log.
    pub heard_at: Option<String>,
    /// Whether the stream is open.
    pub open: Option<bool>,
    /// How many revisions are missing.
    pub lag: Option<u64>,
    /// How long ago the primary was heard.
    pub silent_seconds: Option<u64>,
    /// What is wrong.
    pub trouble: Option<String>,
}

/// A server whose issuer the primary did not sign.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UnsignedIssuer {
    /// The server.
    pub node_name: String,
    /// Why.
    pub reason: String,
}

/// `PUT /v1/carrack/federation/token`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FederationToken {
    /// The token.
    pub token: String,
    /// The datacenter that it is for.
    pub datacenter: String,
    /// Its end.
    pub expires_at: String,
    /// The command that uses it.
    pub command: String,
}

/// A text as one segment of a URL's path (RFC 3986 section 2.3): everything but unreserved characters is escaped.
pub fn segment(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(segment("web-1.a_b"), "web-1.a_b");
        assert_eq!(segment("../a b?c#\u{e9}"), "..%2Fa%20b%3Fc%23%C3%A9");
    }
}
