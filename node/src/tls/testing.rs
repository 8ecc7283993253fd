//! A server CA and servers of it for tests, and certificates that no server CA would sign.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use carrack_authority::{
    federation::KnownServers,
    id::{Digest, NodeId, Serial},
    key::{Der, KeyKind},
    spiffe::Name,
    time::Timestamp,
    x509::{
        CertificateAuthority, CertificateFacts, ServerId, VerifiedServerCsr,
        certificate::{BridgeProfile, bridge},
        pem,
        server::{ServerProfile, ServerRootProfile, cluster_trust_domain, server, server_root},
    },
};
use carrack_raft::ports::BoxedStream;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpListener,
    sync::mpsc,
    time::timeout,
};
use uuid::Uuid;

use super::{
    acceptor::Acceptor,
    clock::TlsClock,
    connection::Connection,
    identity::ServerIdentity,
    trust::{ServerTrust, TrustedServers},
    wan_trust::{TrustedDatacenter, WanTrust},
};
use crate::keys::{
    aws_lc::AwsLcKeyMaker,
    secret::{KeyMaker, SecretKey},
    server_keys::ServerCredential,
};

/// What an acceptor has accepted.
pub(super) type Accepted = mpsc::Receiver<io::Result<Connection<BoxedStream>>>;

/// When the tests begin.
pub(super) const START: Timestamp = Timestamp::from_seconds(1_800_000_000);
/// How long a server certificate lives in tests.
pub(super) const SERVER_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long a connection may take to end on a busy machine.
const READ_PATIENCE: Duration = Duration::from_secs(30);

/// A clock that tests move.
#[derive(Clone)]
pub(super) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(START.0)))
    }

    pub(super) fn tls(&self) -> TlsClock {
        let now = self.0.clone();
        TlsClock::new(move || Timestamp(now.load(Ordering::SeqCst)))
    }

    pub(super) fn advance(&self, duration: Duration) {
        self.0.fetch_add(u64::try_from(duration.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

/// The server CA of one datacenter.
pub(super) struct ServerCa {
    pub(super) cluster: Uuid,
    pub(super) datacenter: Name,
    pub(super) root: Der,
    key: SecretKey,
    authority: CertificateAuthority,
}

impl ServerCa {
    pub(super) fn new(cluster: u128, datacenter: &str) -> Self {
        let (cluster, datacenter) = (Uuid::from_u128(cluster), Name::parse("datacenter", datacenter).unwrap());
        let key = AwsLcKeyMaker.make(KeyKind::EcP256).unwrap();
        let signer = AwsLcKeyMaker.signer(&key).unwrap();
        let ttl = Duration::from_secs(10 * 365 * 24 * 3600);
        let profile =
            ServerRootProfile { cluster: &cluster, datacenter: &datacenter, serial: serial(), now: START, ttl };
        let root = server_root(signer.as_ref(), &profile).unwrap().der;
        let authority = CertificateAuthority::new(root.clone(), signer).unwrap();
        Self { cluster, datacenter, root, key, authority }
    }

    pub(super) fn id(&self, node: u64) -> ServerId {
        ServerId { cluster: self.cluster, datacenter: self.datacenter.clone(), node: NodeId(node) }
    }

    /// The credential of a server of this datacenter.
    pub(super) fn server(&self, node: u64) -> ServerCredential {
        self.named(&self.id(node))
    }

    /// The credential of any server id, signed by this CA.
    pub(super) fn named(&self, id: &ServerId) -> ServerCredential {
        let key = AwsLcKeyMaker.make(KeyKind::EcP256).unwrap();
        let csr = VerifiedServerCsr::of_own_key(AwsLcKeyMaker.signer(&key).unwrap().as_ref());
        let (now, ttl, serial) = (START, SERVER_TTL, serial());
        let profile = ServerProfile { csr: &csr, id, dns_names: &[], ip_addresses: &[], serial, now, ttl };
        let certificate = server(&self.authority, &profile).unwrap().der;
        ServerCredential { key, chain_pem: pem::encode_certificates([&certificate, &self.root]) }
    }

    /// A certificate that the CA's key signs although no code of ours would.
    pub(super) fn forged(&self, alter: impl FnOnce(&mut CertificateParams)) -> ServerCredential {
        let key = AwsLcKeyMaker.make(KeyKind::EcP256).unwrap();
        let pair = KeyPair::try_from(key.expose_pkcs8()).unwrap();
        let mut params = CertificateParams::default();
        params.not_before = START.minus(Duration::from_secs(60)).to_date_time().unwrap();
        params.not_after = START.plus(SERVER_TTL).to_date_time().unwrap();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.subject_alt_names = vec![uri(&self.id(1).to_string())];
        alter(&mut params);
        let certificate = Der::from(params.signed_by(&pair, &self.issuer()).unwrap().der().to_vec());
        ServerCredential { key, chain_pem: pem::encode_certificates([&certificate, &self.root]) }
    }

    /// This CA's root as `old` signs it: the bridge of a rotation.
    pub(super) fn bridge(&self, old: &Self) -> Der {
        let new_root = CertificateFacts::read(self.root.as_bytes()).unwrap();
        let trust_domain = cluster_trust_domain(&self.cluster);
        let profile = BridgeProfile { new_root: &new_root, trust_domain: &trust_domain, serial: serial(), now: START };
        bridge(&old.authority, &profile).unwrap().der
    }

    fn issuer(&self) -> Issuer<'static, KeyPair> {
        let key = KeyPair::try_from(self.key.expose_pkcs8()).unwrap();
        let root = rustls::pki_types::CertificateDer::from(self.root.as_bytes().to_vec());
        Issuer::from_ca_cert_der(&root, key).unwrap()
    }

    /// What a server of this datacenter trusts, with these members recorded.
    pub(super) fn trusted(&self, members: &[(u64, &ServerCredential)]) -> TrustedServers {
        let keys: BTreeMap<_, _> = members
            .iter()
            .map(|(node, credential)| (NodeId(*node), BTreeSet::from([key_digest(credential)])))
            .collect();
        TrustedServers {
            cluster: self.cluster,
            datacenter: self.datacenter.clone(),
            roots: vec![self.root.clone()],
            keys,
            certified_from: members
                .iter()
                .map(|(node, _)| (NodeId(*node), START.minus(Duration::from_secs(60))))
                .collect(),
            removed: BTreeSet::new(),
        }
    }

    /// What servers of other datacenters trust of this one.
    pub(super) fn as_trusted(&self) -> TrustedDatacenter {
        let (name, roots) = (self.datacenter.clone(), vec![self.root.clone()]);
        TrustedDatacenter { name, cluster: self.cluster, roots, servers: None }
    }

    /// The same, where it has told which servers it has.
    pub(super) fn as_trusted_with(&self, present: &[u64], next: u64) -> TrustedDatacenter {
        let present = present.iter().copied().map(NodeId).collect();
        TrustedDatacenter { servers: Some(KnownServers { present, next: NodeId(next) }), ..self.as_trusted() }
    }

    /// The handle of what a server of this datacenter trusts, with nothing recorded.
    pub(super) fn trust(&self) -> Arc<ServerTrust> {
        let trust = ServerTrust::default();
        trust.replace(self.trusted(&[])).unwrap();
        Arc::new(trust)
    }
}

/// The handle of which other datacenters a server of `own`'s datacenter trusts.
pub(super) fn wan_trust(own: &ServerCa, others: &[&ServerCa]) -> Arc<WanTrust> {
    let trust = WanTrust::new(own.datacenter.clone(), own.cluster);
    assert_eq!(trust.replace(others.iter().map(|other| other.as_trusted()).collect()), []);
    Arc::new(trust)
}

/// A handle that shows this credential.
pub(super) fn showing(credential: &ServerCredential) -> Arc<ServerIdentity> {
    let identity = ServerIdentity::default();
    identity.show(credential).unwrap();
    Arc::new(identity)
}

/// Runs the acceptor on loopback: its address, and what it has accepted.
pub(super) async fn serve(acceptor: Acceptor) -> (String, Accepted) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, accepted) = mpsc::channel(16);
    tokio::spawn(acceptor.run(Box::new(listener), sender));
    (address, accepted)
}

/// What a read answers on a connection that the other end has refused or closed. One that stays open fails the test.
pub(super) async fn read_error(stream: &mut (impl AsyncRead + Unpin)) -> Option<io::Error> {
    match timeout(READ_PATIENCE, stream.read(&mut [0; 1])).await.expect("the connection ends") {
        Ok(0) => None,
        Ok(_) => panic!("nothing was written"),
        Err(error) => Some(error),
    }
}

/// The presented certificates of a credential.
pub(super) fn presented(credential: &ServerCredential) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    let chain = pem::decode_certificates(&credential.chain_pem).unwrap();
    chain.iter().map(super::identity::certificate).collect()
}

/// The digest of a credential's public key.
pub(super) fn key_digest(credential: &ServerCredential) -> Digest {
    CertificateFacts::read(&presented(credential)[0]).unwrap().public_key_digest()
}

/// A URI of a certificate.
pub(super) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn serial() -> Serial {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut bytes = [0; 20];
    bytes[12..].copy_from_slice(&NEXT.fetch_add(1, Ordering::SeqCst).to_be_bytes());
    Serial::from_random(bytes)
}
