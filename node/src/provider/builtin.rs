//! The `builtin` provider: root keys made here and sealed, in the state, to every server and to the operator's recovery recipient.
//!
//! A key is open only while one signature is made; it is wiped afterwards, and never in a command, an answer or a log line.

use std::{net::IpAddr, sync::Arc, time::Duration};

use carrack_authority::{
    id::Serial,
    key::{Der, KeyKind, Signer},
    member::{Addresses, Member},
    planted::{self, Bug},
    root::{Bridge, NewRoot, Root, SealedKey},
    spiffe::Name,
    state::Cluster,
    time::Timestamp,
    x509::{
        authority::{CertificateAuthority, SignedCertificate},
        certificate::{BridgeProfile, IssuerProfile, RootProfile, bridge, issuer, root},
        csr::VerifiedServerCsr,
        dns_name::DnsName,
        facts::CertificateFacts,
        server::{ServerId, ServerProfile, ServerRootProfile, server, server_root},
    },
};
use carrack_raft::ports::Entropy;
use futures::future::{BoxFuture, FutureExt};
use uuid::Uuid;

use super::{BridgeToSign, CaProvider, IssuerToSign, ProviderError, RootRequest, SealTo};
use crate::keys::{
    sealing::{Recipient, Sealer},
    secret::{KeyMaker, SecretKey},
    server_keys::ServerKeys,
};

/// The provider's name in root records.
pub const BUILTIN: &str = "builtin";

/// The life of a server CA's root.
pub const SERVER_ROOT_TTL: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Makes, seals and uses root keys on the servers themselves.
pub struct BuiltinProvider {
    pub(super) maker: Arc<dyn KeyMaker>,
    sealer: Arc<dyn Sealer>,
    keys: Arc<ServerKeys>,
    entropy: Arc<dyn Entropy>,
}

/// A server certificate to sign.
#[derive(Debug)]
pub struct ServerToSign<'a> {
    /// The request, checked.
    pub csr: VerifiedServerCsr,
    /// The datacenter.
    pub cluster: &'a Cluster,
    /// The server, as it is recorded.
    pub member: &'a Member,
    /// The time now.
    pub now: Timestamp,
    /// How long it lives.
    pub ttl: Duration,
    /// Its serial.
    pub serial: Serial,
}

impl BuiltinProvider {
    /// The provider on one server's keys.
    pub fn new(
        maker: Arc<dyn KeyMaker>,
        sealer: Arc<dyn Sealer>,
        keys: Arc<ServerKeys>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self { maker, sealer, keys, entropy }
    }

    /// Makes the root of a server CA.
    pub fn make_server_root(
        &self,
        cluster: &Uuid,
        datacenter: &Name,
        now: Timestamp,
        seal_to: &SealTo,
    ) -> Result<NewRoot, ProviderError> {
        let key = self.maker.make(KeyKind::EcP256)?;
        let signer = self.maker.signer(&key)?;
        let profile = ServerRootProfile { cluster, datacenter, serial: self.serial(), now, ttl: SERVER_ROOT_TTL };
        let signed = server_root(&*signer, &profile).map_err(certificate_error)?;
        self.new_root(&key, &*signer, signed, seal_to)
    }

    /// Signs a server certificate under a root of the server CA.
    pub fn sign_server(&self, root: &Root, wanted: &ServerToSign<'_>) -> Result<SignedCertificate, ProviderError> {
        let authority = self.open(root)?;
        let (cluster, member) = (wanted.cluster, wanted.member);
        let id = ServerId { cluster: cluster.id, datacenter: cluster.datacenter.clone(), node: member.node };
        let (dns_names, ip_addresses) = names_of(cluster, member);
        let profile = ServerProfile {
            csr: &wanted.csr,
            id: &id,
            dns_names: &dns_names,
            ip_addresses: &ip_addresses,
            serial: wanted.serial,
            now: wanted.now,
            ttl: wanted.ttl,
        };
        server(&authority, &profile).map_err(certificate_error)
    }

    /// The key of a root, sealed to other servers.
    pub fn reseal(&self, root: &Root, seal_to: &SealTo) -> Result<SealedKey, ProviderError> {
        self.seal(&self.unseal(root)?, seal_to)
    }

    /// The self-signed root of a key.
    pub(super) fn self_signed(
        &self,
        signer: &dyn Signer,
        request: &RootRequest,
    ) -> Result<SignedCertificate, ProviderError> {
        let RootRequest { trust_domain, now, ttl, .. } = request;
        let profile = RootProfile { trust_domain, serial: self.serial(), now: *now, ttl: *ttl };
        root(signer, &profile).map_err(certificate_error)
    }

    pub(super) fn new_root(
        &self,
        key: &SecretKey,
        signer: &dyn Signer,
        signed: SignedCertificate,
        seal_to: &SealTo,
    ) -> Result<NewRoot, ProviderError> {
        Ok(NewRoot {
            id: signer.public_key().id,
            provider: BUILTIN.into(),
            certificate: signed.der,
            chain: match planted::is(Bug::KeyBesideRoot) {
                true => vec![Der::from(key.to_pem().as_bytes())],
                false => Vec::new(),
            },
            key_kind: signer.public_key().kind,
            not_before: signed.facts.not_before,
            not_after: signed.facts.not_after,
            sealed_key: Some(self.seal(key, seal_to)?),
        })
    }

    pub(super) fn seal(&self, key: &SecretKey, seal_to: &SealTo) -> Result<SealedKey, ProviderError> {
        let texts = seal_to.slots.iter().map(|(_, recipient)| recipient).chain(&seal_to.recovery);
        let recipients = texts.map(|text| text.parse::<Recipient>()).collect::<Result<Vec<_>, _>>();
        let recipients = recipients.map_err(ProviderError::Seal)?;
        let pem = key.to_pem();
        let ciphertext = self.sealer.seal(pem.as_bytes(), &recipients).map_err(ProviderError::Seal)?;
        let (slots, recovery) = (seal_to.slots.clone(), seal_to.recovery.clone());
        Ok(SealedKey { ciphertext: Der::from(ciphertext), slots, recovery })
    }

    fn unseal(&self, root: &Root) -> Result<SecretKey, ProviderError> {
        let id = root.made.id;
        let sealed = root.made.sealed_key.as_ref().ok_or(ProviderError::NoSealedKey(id))?;
        let identity = self.keys.sealing()?;
        let opened = self.sealer.unseal(sealed.ciphertext.as_bytes(), &identity);
        let pem = opened.map_err(|source| ProviderError::Unseal { root: id, source })?;
        let text = std::str::from_utf8(&pem).unwrap_or_default();
        Ok(self.maker.import(text)?)
    }

    fn open(&self, root: &Root) -> Result<CertificateAuthority, ProviderError> {
        let signer = self.maker.signer(&self.unseal(root)?)?;
        CertificateAuthority::new(root.made.certificate.clone(), signer).map_err(certificate_error)
    }

    fn serial(&self) -> Serial {
        let mut bytes = [0; 20];
        self.entropy.fill(&mut bytes);
        Serial::from_random(bytes)
    }
}

impl CaProvider for BuiltinProvider {
    fn name(&self) -> &'static str {
        BUILTIN
    }

    fn make_root(&self, request: RootRequest) -> BoxFuture<'_, Result<NewRoot, ProviderError>> {
        async move {
            let key = self.maker.make(request.key_kind)?;
            let signer = self.maker.signer(&key)?;
            let signed = self.self_signed(&*signer, &request)?;
            self.new_root(&key, &*signer, signed, &request.seal_to)
        }
        .boxed()
    }

    fn sign_issuer<'a>(
        &'a self,
        root: &'a Root,
        wanted: IssuerToSign,
    ) -> BoxFuture<'a, Result<SignedCertificate, ProviderError>> {
        async move {
            let authority = self.open(root)?;
            let profile = IssuerProfile {
                csr: &wanted.csr,
                trust_domain: wanted.csr.trust_domain(),
                datacenter: &wanted.datacenter,
                server: &wanted.server,
                serial: wanted.serial,
                now: wanted.now,
                ttl: wanted.ttl,
            };
            issuer(&authority, &profile).map_err(certificate_error)
        }
        .boxed()
    }

    fn can_cross_sign(&self) -> bool {
        true
    }

    fn cross_sign<'a>(&'a self, root: &'a Root, wanted: BridgeToSign) -> BoxFuture<'a, Result<Bridge, ProviderError>> {
        async move {
            let new_root = CertificateFacts::read(wanted.next_root.as_bytes()).map_err(certificate_error)?;
            let authority = self.open(root)?;
            let BridgeToSign { trust_domain, now, serial, .. } = &wanted;
            let profile = BridgeProfile { new_root: &new_root, trust_domain, serial: *serial, now: *now };
            let signed = bridge(&authority, &profile).map_err(certificate_error)?;
            let SignedCertificate { der: certificate, facts: CertificateFacts { not_before, not_after, .. } } = signed;
            Ok(Bridge { certificate, signed_by: root.made.id, not_before, not_after })
        }
        .boxed()
    }
}

fn certificate_error(error: impl std::error::Error + Send + Sync + 'static) -> ProviderError {
    ProviderError::Certificate(Box::new(error))
}

/// Under which names clients reach a server: its own, its datacenter's, loopback, and the hosts of its addresses.
fn names_of(cluster: &Cluster, member: &Member) -> (Vec<DnsName>, Vec<IpAddr>) {
    let mut dns = vec![
        "localhost".to_owned(),
        member.name.to_string(),
        format!("{}.server.{}.{}", member.name, cluster.datacenter, cluster.trust_domain),
        format!("server.{}.{}", cluster.datacenter, cluster.trust_domain),
    ];
    let mut addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    let Addresses { raft, grpc, wan } = &member.addresses;
    for address in [raft, grpc].into_iter().chain(wan) {
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => addresses.push(address),
            Err(_) => dns.push(host.to_owned()),
        }
    }
    // A node name may have characters that a DNS name cannot: such a server is reached by its address.
    let mut dns: Vec<DnsName> = dns.iter().filter_map(|name| name.to_ascii_lowercase().parse().ok()).collect();
    dns.sort();
    dns.dedup();
    addresses.sort();
    addresses.dedup();
    (dns, addresses)
}

#[cfg(test)]
mod tests {
    use carrack_authority::id::{FeatureLevel, NodeId, Revision, StoreId};

    use super::*;

    #[test]
    fn a_server_certificate_names_the_host_of_every_address_that_is_told() {
        let supports = FeatureLevel::SUPPORTED;
        let cluster = Cluster {
            id: Uuid::nil(),
            datacenter: Name::parse("datacenter", "dc1").unwrap(),
            trust_domain: "example.org".parse().unwrap(),
            recovery: None,
            feature_level: supports,
            is_halted: false,
        };
        let told = |wan: Option<&str>| Member {
            node: NodeId(1),
            name: Name::parse("node name", "a").unwrap(),
            store: StoreId([0; 16]),
            addresses: Addresses {
                raft: "10.0.0.1:8300".into(),
                grpc: "a.internal:8503".into(),
                wan: wan.map(Into::into),
            },
            sealing_recipient: String::new(),
            supports,
            certificate: None,
            former_key: None,
            request: None,
            is_leaving: false,
            admitted_at: Timestamp::EPOCH,
            created: Revision::default(),
            modified: Revision::default(),
        };
        let (dns, ips) = names_of(&cluster, &told(None));
        let own = ["a", "a.internal", "a.server.dc1.example.org", "localhost", "server.dc1.example.org"];
        assert_eq!(dns.iter().map(ToString::to_string).collect::<Vec<_>>(), own);
        assert_eq!(ips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1", "127.0.0.1", "::1"]);

        let (named, _) = names_of(&cluster, &told(Some("wan.example.org:443")));
        assert_eq!((named.len(), named.last().map(ToString::to_string)), (6, Some("wan.example.org".into())));
        let (_, numbered) = names_of(&cluster, &told(Some("[2001:db8::1]:8302")));
        assert!(numbered.contains(&"2001:db8::1".parse().unwrap()), "{numbered:?}");
    }
}
