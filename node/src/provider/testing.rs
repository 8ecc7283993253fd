//! A provider with keys of its own, and what is below its roots, for tests.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    id::{NodeId, Revision, Serial},
    key::{Der, KeyKind},
    leaf::{LeafIssuer, LeafProfile},
    root::{NewRoot, Root, RootPhase},
    spiffe::{Identity, Name, SpiffeId, TrustDomain},
    time::Timestamp,
    x509::{
        CsrLimits, RequestedName, SignedCertificate, Usage, VerifiedCsr, VerifiedIssuerCsr, build_csr,
        facts::CertificateFacts, verify_chain,
    },
};
use carrack_raft::ports::Entropy as _;
use rustls::{
    pki_types::{CertificateDer, UnixTime},
    server::WebPkiClientVerifier,
};

use super::{BuiltinProvider, CaProvider as _, IssuerToSign, RootRequest, SealTo};
use crate::{
    keys::{
        aws_lc::AwsLcKeyMaker, sealing::AgeSealer, secret::KeyMaker as _, server_keys::ServerKeys,
        store::MemoryKeyStore,
    },
    server::ports::MachineEntropy,
};

/// When everything is signed: 2026-11-22T12:00:00.500Z.
pub(super) const NOW: Timestamp = Timestamp(1_795_348_800_500);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn trust_domain() -> TrustDomain {
    "example.org".parse().unwrap()
}

pub(super) fn name(text: &str) -> Name {
    Name::parse("name", text).unwrap()
}

pub(super) fn serial() -> Serial {
    let mut bytes = [0; 20];
    MachineEntropy.fill(&mut bytes);
    Serial::from_random(bytes)
}

/// The provider of one server, and to whom it seals.
pub(super) struct Fixture {
    pub(super) provider: BuiltinProvider,
    pub(super) seal_to: SealTo,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let (maker, sealer) = (Arc::new(AwsLcKeyMaker), Arc::new(AgeSealer));
        let keys = ServerKeys::new(Arc::new(MemoryKeyStore::default()), maker.clone(), sealer.clone());
        let own = keys.sealing().unwrap().recipient().to_string();
        let provider = BuiltinProvider::new(maker, sealer, Arc::new(keys), Arc::new(MachineEntropy));
        Self { provider, seal_to: SealTo { slots: vec![(NodeId(1), own)], recovery: None } }
    }

    pub(super) fn request(&self, key_kind: KeyKind, ttl: Duration) -> RootRequest {
        RootRequest { trust_domain: trust_domain(), key_kind, now: NOW, ttl, seal_to: self.seal_to.clone() }
    }

    pub(super) async fn root(&self, kind: KeyKind, ttl: Duration) -> Root {
        published(self.provider.make_root(self.request(kind, ttl)).await.unwrap())
    }
}

/// A root as the state has it.
pub(super) fn published(made: NewRoot) -> Root {
    let (created, modified) = (Revision::default(), Revision::default());
    Root { made, phase: RootPhase::Active, activation: 1, bridge: None, phase_since: NOW, created, modified }
}

pub(super) fn facts(der: &Der) -> CertificateFacts {
    CertificateFacts::read(der.as_bytes()).unwrap()
}

/// A leaf leads to an anchor, by the project's own rules and by rustls's, for either side of a handshake.
#[track_caller]
pub(super) fn expect_verified(leaf: &Der, above: &[&Der], anchor: &Der) {
    let intermediates: Vec<&[u8]> = above.iter().map(|der| der.as_bytes()).collect();
    for usage in [Usage::Client, Usage::Server] {
        verify_chain(leaf.as_bytes(), &intermediates, &[anchor.as_bytes()], NOW, usage).unwrap();
    }
    let certificate = |der: &Der| CertificateDer::from(der.as_bytes().to_vec());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate(anchor)).unwrap();
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto).build().unwrap();
    let above: Vec<_> = above.iter().map(|der| certificate(der)).collect();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW.seconds()));
    verifier.verify_client_cert(&certificate(leaf), &above, now).unwrap();
}

/// An issuer under a root, and a leaf under that.
pub(super) struct Below {
    pub(super) issuer: SignedCertificate,
    pub(super) leaf: SignedCertificate,
}

pub(super) async fn below(fixture: &Fixture, root: &Root) -> Below {
    let key = AwsLcKeyMaker.signer(&AwsLcKeyMaker.make(KeyKind::EcP256).unwrap()).unwrap();
    let csr = build_csr(&*key, &RequestedName::Issuer(&trust_domain())).unwrap();
    let wanted = IssuerToSign {
        csr: VerifiedIssuerCsr::verify(csr.as_bytes(), &CsrLimits::default()).unwrap(),
        datacenter: name("dc1"),
        server: name("a"),
        now: NOW,
        ttl: DAY * 365,
        serial: serial(),
    };
    let issuer = fixture.provider.sign_issuer(root, wanted).await.unwrap();
    let root_facts = facts(&root.made.certificate);
    let leaf_issuer = LeafIssuer::new(issuer.der.clone(), &root_facts, key, trust_domain(), name("dc1")).unwrap();
    let key = AwsLcKeyMaker.signer(&AwsLcKeyMaker.make(KeyKind::EcP256).unwrap()).unwrap();
    let web = Identity::Spiffe(SpiffeId::service(trust_domain(), name("dc1"), name("web")));
    let csr = build_csr(&*key, &RequestedName::Leaf(&web)).unwrap();
    let csr = VerifiedCsr::verify(csr.as_bytes(), &CsrLimits::default()).unwrap();
    let leaf = leaf_issuer.sign(&LeafProfile { csr: &csr, serial: serial(), now: NOW, ttl: DAY * 3 }).unwrap();
    Below { issuer, leaf }
}
