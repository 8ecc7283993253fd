//! A CA provider outside of the servers, as a Vault or an HSM is: it keeps the keys of its roots to itself, takes its time, and does not
//! always do it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use carrack::{
    keys::secret::{KeyMaker, SecretKey},
    provider::{BridgeToSign, CaProvider, IssuerToSign, ProviderError, RootRequest},
};
use carrack_authority::{
    id::{KeyId, Serial},
    key::Signer,
    root::{Bridge, NewRoot, Root},
    x509::{
        authority::{CertificateAuthority, SignedCertificate},
        certificate::{BridgeProfile, IssuerProfile, RootProfile, bridge, issuer, root},
        facts::CertificateFacts,
    },
};
use futures::future::{BoxFuture, FutureExt};
use rand::RngExt;
use tokio::time::sleep;

use super::{entropy::ProcessStart, keys::SeededKeyMaker, registry::KeyRegistry};
use crate::random::{Seed, Stream};

/// Its name in root records.
pub const OUTSIDE: &str = "outside";
/// The longest that it takes for one thing.
const MILLISECONDS_MAX: u64 = 900;
/// Of so many things it does not do one.
const FAILS_ONE_IN: u32 = 6;
/// Of so many things it never says anything of one.
const HANGS_ONE_IN: u32 = 40;

/// See the module.
pub struct OutsideProvider {
    maker: SeededKeyMaker,
    inside: Mutex<Inside>,
}

struct Inside {
    keys: BTreeMap<KeyId, SecretKey>,
    random: Stream,
}

impl OutsideProvider {
    /// The one of a world. Its keys are noted: none of them is found anywhere.
    pub fn new(seed: Seed, registry: KeyRegistry) -> Self {
        let inside = Inside { keys: BTreeMap::new(), random: seed.stream("the outside provider") };
        Self { maker: SeededKeyMaker::new(seed, &ProcessStart::new(OUTSIDE, 0), registry), inside: Mutex::new(inside) }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes its time, and says whether it does it.
    async fn answer(&self) -> Result<(), ProviderError> {
        let (takes, fails, hangs) = {
            let random = &mut self.inside().random;
            let takes = random.random_range(1..=MILLISECONDS_MAX);
            (takes, random.random_ratio(1, FAILS_ONE_IN), random.random_ratio(1, HANGS_ONE_IN))
        };
        if hangs {
            return std::future::pending().await;
        }
        sleep(Duration::from_millis(takes)).await;
        let refused = || ProviderError::Refused { provider: OUTSIDE, reason: "it is busy".into() };
        if fails { Err(refused()) } else { Ok(()) }
    }

    fn open(&self, root: &Root) -> Result<CertificateAuthority, ProviderError> {
        let signer = {
            let inside = self.inside();
            let key = inside.keys.get(&root.made.id).ok_or(ProviderError::NoSealedKey(root.made.id))?;
            self.maker.signer(key)?
        };
        CertificateAuthority::new(root.made.certificate.clone(), signer).map_err(certificate_error)
    }
}

impl CaProvider for OutsideProvider {
    fn name(&self) -> &'static str {
        OUTSIDE
    }

    fn make_root(&self, request: RootRequest) -> BoxFuture<'_, Result<NewRoot, ProviderError>> {
        async move {
            self.answer().await?;
            let key = self.maker.make(request.key_kind)?;
            let signer: Arc<dyn Signer> = self.maker.signer(&key)?;
            let mut serial = [0; 20];
            self.inside().random.fill(&mut serial);
            let RootRequest { trust_domain, now, ttl, .. } = &request;
            let profile = RootProfile { trust_domain, serial: Serial::from_random(serial), now: *now, ttl: *ttl };
            let signed = root(&*signer, &profile).map_err(certificate_error)?;
            let id = signer.public_key().id;
            self.inside().keys.insert(id, key);
            Ok(NewRoot {
                id,
                provider: OUTSIDE.into(),
                certificate: signed.der,
                chain: Vec::new(),
                key_kind: request.key_kind,
                not_before: signed.facts.not_before,
                not_after: signed.facts.not_after,
                sealed_key: None,
            })
        }
        .boxed()
    }

    fn sign_issuer<'a>(
        &'a self,
        root: &'a Root,
        wanted: IssuerToSign,
    ) -> BoxFuture<'a, Result<SignedCertificate, ProviderError>> {
        async move {
            self.answer().await?;
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
            self.answer().await?;
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
