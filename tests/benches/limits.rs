//! What this machine can do at most: one core's cryptography, and the disk's durable appends.

use std::{fs::File, io::Write, path::Path, sync::Arc, time::Duration};

use carrack::keys::{aws_lc::AwsLcKeyMaker, secret::KeyMaker};
use carrack_authority::{
    id::Serial,
    key::{Der, KeyKind, Signer},
    leaf::{LeafIssuer, LeafProfile},
    spiffe::{Identity, Name, SpiffeId, TrustDomain},
    time::Timestamp,
    x509::{
        CertificateAuthority, CsrLimits, RequestedName, VerifiedCsr, VerifiedIssuerCsr, build_csr,
        certificate::{IssuerProfile, RootProfile, issuer, root},
    },
};
use tokio::time::Instant;

/// How long each limit is measured.
const MEASURED_FOR: Duration = Duration::from_secs(2);
/// The size of an appended record: about that of a stored issuance.
const RECORD_BYTES: usize = 450;

/// The limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// CSRs verified and leaves signed in one second on one core.
    pub(crate) leaves_per_core: f64,
    /// Durable appends in one second, one record each.
    pub(crate) syncs: f64,
}

/// Measures them, the disk's in `directory`.
pub(crate) fn measure(directory: &Path) -> anyhow::Result<Limits> {
    Ok(Limits { leaves_per_core: leaves()?, syncs: syncs(directory)? })
}

fn leaves() -> anyhow::Result<f64> {
    let trust_domain: TrustDomain = "bench.carrack".parse()?;
    let datacenter = Name::parse("datacenter", "dc1")?;
    let now = Timestamp::from_seconds(1_800_000_000);
    let issuer = leaf_issuer(&trust_domain, &datacenter, now)?;
    let id = SpiffeId::service(trust_domain, datacenter, Name::parse("service", "bench")?);
    let signer = signer()?;
    let csr = build_csr(&*signer, &RequestedName::Leaf(&Identity::Spiffe(id)))?;
    let began = Instant::now();
    let mut count = 0_u64;
    while began.elapsed() < MEASURED_FOR {
        let csr = VerifiedCsr::verify(csr.as_bytes(), &CsrLimits::default())?;
        let mut serial = [0; 20];
        serial[12..].copy_from_slice(&(count + 1).to_be_bytes());
        let ttl = Duration::from_secs(3600);
        issuer.sign(&LeafProfile { csr: &csr, serial: Serial::from_random(serial), now, ttl })?;
        count += 1;
    }
    Ok(rate(count, began))
}

fn leaf_issuer(trust_domain: &TrustDomain, datacenter: &Name, now: Timestamp) -> anyhow::Result<LeafIssuer> {
    let ttl = Duration::from_secs(365 * 86_400);
    let (root_signer, issuer_signer) = (signer()?, signer()?);
    let made = root(&*root_signer, &RootProfile { trust_domain, serial: Serial::from_random([1; 20]), now, ttl })?;
    let csr = build_csr(&*issuer_signer, &RequestedName::Issuer(trust_domain))?;
    let csr = VerifiedIssuerCsr::verify(csr.as_bytes(), &CsrLimits::default())?;
    let authority = CertificateAuthority::new(made.der.clone(), root_signer)?;
    let (server, serial) = (Name::parse("node", "a")?, Serial::from_random([2; 20]));
    let profile = IssuerProfile { csr: &csr, trust_domain, datacenter, server: &server, serial, now, ttl: ttl / 2 };
    let certificate: Der = issuer(&authority, &profile)?.der;
    Ok(LeafIssuer::new(certificate, &made.facts, issuer_signer, trust_domain.clone(), datacenter.clone())?)
}

fn signer() -> anyhow::Result<Arc<dyn Signer>> {
    Ok(AwsLcKeyMaker.signer(&AwsLcKeyMaker.make(KeyKind::EcP256)?)?)
}

/// Durable appends in one second, one record each.
pub(crate) fn syncs(directory: &Path) -> anyhow::Result<f64> {
    let path = directory.join("bench-syncs");
    let mut file = File::create(&path)?;
    let began = Instant::now();
    let mut count = 0_u64;
    while began.elapsed() < MEASURED_FOR {
        file.write_all(&[7; RECORD_BYTES])?;
        file.sync_data()?;
        count += 1;
    }
    std::fs::remove_file(&path)?;
    Ok(rate(count, began))
}

fn rate(count: u64, began: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let count = count as f64;
    count / began.elapsed().as_secs_f64()
}
