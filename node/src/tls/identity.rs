//! What this server shows of itself: its certificate, swapped under live listeners and dialers when it is renewed.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use carrack_authority::{
    key::Der,
    x509::{CertificateError, CertificateFacts, pem},
};
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::config::provider;
use crate::keys::server_keys::ServerCredential;

/// The certificate that this server shows, on every port and as a client of other servers. Empty until the first one is
/// there: handshakes fail until then.
#[derive(Debug, Default)]
pub struct ServerIdentity {
    shown: ArcSwapOption<Shown>,
}

#[derive(Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    facts: CertificateFacts,
}

/// A certificate cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The chain is no PEM.
    #[error("the certificate chain cannot be read")]
    Pem(#[from] pem::PemError),
    /// There is no certificate in it.
    #[error("the certificate chain is empty")]
    Empty,
    /// The first certificate cannot be read.
    #[error("the certificate cannot be read")]
    Certificate(#[from] CertificateError),
    /// The key is not that of the certificate, or cannot be used.
    #[error("the key cannot be used with the certificate")]
    Key(#[source] rustls::Error),
}

impl ServerIdentity {
    /// Shows this certificate from now on, in handshakes that begin after it.
    pub fn show(&self, credential: &ServerCredential) -> Result<(), IdentityError> {
        let chain = pem::decode_certificates(&credential.chain_pem)?;
        let first = chain.first().ok_or(IdentityError::Empty)?;
        let facts = CertificateFacts::read(first.as_bytes())?;
        let certificates = chain.iter().map(certificate).collect();
        // rustls wipes the copy when it has decoded it.
        let pkcs8 = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(credential.key.expose_pkcs8().to_vec()));
        let key = CertifiedKey::from_der(certificates, pkcs8, &provider()).map_err(IdentityError::Key)?;
        self.shown.store(Some(Arc::new(Shown { key: Arc::new(key), facts })));
        Ok(())
    }

    /// What the shown certificate says: what is served, not what is on disk.
    pub fn facts(&self) -> Option<CertificateFacts> {
        self.shown.load().as_ref().map(|shown| shown.facts.clone())
    }

    fn key(&self) -> Option<Arc<CertifiedKey>> {
        self.shown.load().as_ref().map(|shown| shown.key.clone())
    }
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.key()
    }
}

impl ResolvesClientCert for ServerIdentity {
    fn resolve(&self, _root_hint_subjects: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.key()
    }

    fn has_certs(&self) -> bool {
        self.shown.load().is_some()
    }
}

/// A certificate as rustls takes it.
pub(super) fn certificate(der: &Der) -> CertificateDer<'static> {
    CertificateDer::from(der.as_bytes().to_vec())
}
