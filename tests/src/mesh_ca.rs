//! Roots by the real provider in this process, leaves under them, and what is served with these as PEM files for verifiers that nobody
//! here wrote.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use carrack::{
    keys::{
        aws_lc::AwsLcKeyMaker, sealing::AgeSealer, secret::KeyMaker as _, server_keys::ServerKeys,
        store::MemoryKeyStore,
    },
    provider::{BridgeToSign, BuiltinProvider, CaProvider as _, IssuerToSign, RootRequest, SealTo, SuppliedRoot},
    server::ports::{MachineClock, MachineEntropy},
};
use carrack_authority::{
    id::{NodeId, Revision, Serial},
    key::{Der, KeyKind, Signer},
    leaf::{LeafIssuer, LeafProfile},
    root::{Bridge, NewRoot, Root, RootPhase},
    spiffe::{Identity, Name, SpiffeId, TrustDomain},
    x509::{
        CertificateFacts, CsrLimits, RequestedName, SignedCertificate, VerifiedCsr, VerifiedIssuerCsr, build_csr, pem,
        served::Above,
    },
};
use carrack_raft::ports::{Entropy as _, WallClock as _};
use tokio::runtime::Runtime;

const DAY: Duration = Duration::from_secs(86_400);

/// The provider of one server, which can open what it has sealed.
pub struct MeshCa {
    provider: BuiltinProvider,
    seal_to: SealTo,
    runtime: Runtime,
}

/// A root, an issuer under it and a leaf under that.
pub struct Mesh {
    /// The root.
    pub root: Root,
    issuer: SignedCertificate,
    leaf: SignedCertificate,
}

/// Files of a leaf and of what is served with it.
#[derive(Clone, Debug)]
pub struct ServedFiles {
    /// The leaf.
    pub leaf: String,
    /// What is served above it.
    pub chain: String,
    /// Both, the leaf first.
    pub full: String,
    /// Its identity.
    pub identity: String,
}

impl Default for MeshCa {
    /// # Panics
    /// Panics if its own keys cannot be made.
    fn default() -> Self {
        let (maker, sealer) = (Arc::new(AwsLcKeyMaker), Arc::new(AgeSealer));
        let keys = ServerKeys::new(Arc::new(MemoryKeyStore::default()), maker.clone(), sealer.clone());
        let own = keys.sealing().expect("a sealing key can be made").recipient().to_string();
        let provider = BuiltinProvider::new(maker, sealer, Arc::new(keys), Arc::new(MachineEntropy));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
        let seal_to = SealTo { slots: vec![(NodeId(1), own)], recovery: None };
        Self { provider, seal_to, runtime }
    }
}

impl MeshCa {
    fn request(&self, key_kind: KeyKind) -> RootRequest {
        let (trust_domain, seal_to) = (trust_domain(), self.seal_to.clone());
        RootRequest { trust_domain, key_kind, now: MachineClock.now(), ttl: DAY * 3650, seal_to }
    }

    /// A new root of this kind, with a leaf under it.
    ///
    /// # Panics
    /// Panics if none is made.
    pub fn mesh(&self, kind: KeyKind) -> Mesh {
        let made = self.runtime.block_on(self.provider.make_root(self.request(kind))).expect("a root can be made");
        self.mesh_under(made)
    }

    /// The root that an operator brings, with a leaf under it.
    ///
    /// # Panics
    /// Panics if it is refused.
    pub fn import(&self, private_key: &str, root_cert: &str) -> Mesh {
        let supplied = SuppliedRoot {
            private_key: private_key.to_owned().into(),
            root_cert: root_cert.to_owned(),
            leaf_ttl: DAY * 3,
            intermediate_ttl: DAY * 365,
            bundle: Vec::new(),
            force_without_cross_signing: false,
        };
        let made = self.provider.import_root(&supplied, &self.request(KeyKind::default()));
        self.mesh_under(made.unwrap_or_else(|error| panic!("{error}")))
    }

    fn mesh_under(&self, made: NewRoot) -> Mesh {
        let (created, modified, phase_since) = (Revision::default(), Revision::default(), MachineClock.now());
        let root = Root { made, phase: RootPhase::Active, activation: 1, bridge: None, phase_since, created, modified };
        let key = new_key();
        let csr = build_csr(&*key, &RequestedName::Issuer(&trust_domain())).expect("a request can be made");
        let wanted = IssuerToSign {
            csr: VerifiedIssuerCsr::verify(csr.as_bytes(), &CsrLimits::default()).expect("it is well-formed"),
            datacenter: name("dc1"),
            server: name("a"),
            now: MachineClock.now(),
            ttl: DAY * 365,
            serial: serial(),
        };
        let issuer = self.runtime.block_on(self.provider.sign_issuer(&root, wanted)).expect("it signs issuers");
        let facts = CertificateFacts::read(root.made.certificate.as_bytes()).expect("the root can be read");
        let leaf_issuer = LeafIssuer::new(issuer.der.clone(), &facts, key, trust_domain(), name("dc1"));
        let csr = build_csr(&*new_key(), &RequestedName::Leaf(&identity())).expect("a request can be made");
        let csr = VerifiedCsr::verify(csr.as_bytes(), &CsrLimits::default()).expect("it is well-formed");
        let profile = LeafProfile { csr: &csr, serial: serial(), now: MachineClock.now(), ttl: DAY * 3 };
        let leaf = leaf_issuer.expect("the issuer is one").sign(&profile).expect("it signs leaves");
        Mesh { root, issuer, leaf }
    }

    fn bridge(&self, old: &Root, new: &Root) -> Bridge {
        let next_root = new.made.certificate.clone();
        let wanted =
            BridgeToSign { next_root, trust_domain: trust_domain(), now: MachineClock.now(), serial: serial() };
        self.runtime.block_on(self.provider.cross_sign(old, wanted)).expect("it cross-signs")
    }

    /// What is served with the leaf of `new`, as files in this directory: with a bridge from the root of `old` if there is one, and what is
    /// above that root while it is in the bundle.
    ///
    /// # Panics
    /// Panics if they cannot be written.
    pub fn write_served(&self, old: Option<(&Mesh, IsInBundle)>, new: &Mesh, directory: &Path) -> ServedFiles {
        let mut root = new.root.clone();
        root.bridge = old.map(|(old, _)| self.bridge(&old.root, &new.root));
        let former = old.filter(|(_, in_bundle)| in_bundle.0).map(|(old, _)| &old.root);
        let above = Above::new(&root, former).expect("the roots can be read");
        let chain = above.serve(&new.issuer.der, new.leaf.facts.not_after);
        let leaf = [&new.leaf.der];
        ServedFiles {
            leaf: write(directory, "leaf.pem", leaf),
            chain: write(directory, "chain.pem", &chain),
            full: write(directory, "full.pem", leaf.into_iter().chain(&chain)),
            identity: identity().to_string(),
        }
    }
}

/// Whether the former root is still in the bundle.
#[derive(Clone, Copy, Debug)]
pub struct IsInBundle(pub bool);

/// Writes roots as one file.
///
/// # Panics
/// Panics if it cannot be written.
pub fn write_roots(roots: &[&Root], directory: &Path, file: &str) -> String {
    write(directory, file, roots.iter().map(|root| &root.made.certificate))
}

fn write<'a>(directory: &Path, file: &str, certificates: impl IntoIterator<Item = &'a Der>) -> String {
    let path: PathBuf = directory.join(file);
    fs::create_dir_all(directory).expect("a directory can be made");
    fs::write(&path, pem::encode_certificates(certificates)).expect("a file can be written");
    path.display().to_string()
}

fn new_key() -> Arc<dyn Signer> {
    AwsLcKeyMaker.signer(&AwsLcKeyMaker.make(KeyKind::EcP256).expect("a key can be made")).expect("it can sign")
}

fn trust_domain() -> TrustDomain {
    "example.org".parse().expect("it is one")
}

fn name(text: &str) -> Name {
    Name::parse("name", text).expect("it is one")
}

fn identity() -> Identity {
    Identity::Spiffe(SpiffeId::service(trust_domain(), name("dc1"), name("web")))
}

fn serial() -> Serial {
    let mut bytes = [0; 20];
    MachineEntropy.fill(&mut bytes);
    Serial::from_random(bytes)
}
