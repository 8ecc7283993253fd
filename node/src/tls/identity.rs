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
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

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
        // Borrowed, because rustls wipes no key bytes that it is given to own.
        let pkcs8 = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(credential.key.expose_pkcs8()));
        let signing = any_supported_type(&pkcs8).map_err(IdentityError::Key)?;
        let key = CertifiedKey::new(chain.iter().map(certificate).collect(), signing);
        key.keys_match().map_err(IdentityError::Key)?;
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

#[cfg(test)]
mod tests {
    use carrack_authority::key::KeyKind;

    use super::*;
    use crate::{
        keys::{aws_lc::AwsLcKeyMaker, secret::KeyMaker},
        tls::testing::{ServerCa, showing},
    };

    #[test]
    fn nothing_is_shown_before_the_first_certificate_and_a_bad_one_changes_nothing() {
        let identity = ServerIdentity::default();
        assert!(!identity.has_certs() && identity.facts().is_none());

        let ca = ServerCa::new(1, "dc1");
        identity.show(&ca.server(1)).unwrap();
        let serial = identity.facts().unwrap().serial;
        let other_key = ServerCredential { key: AwsLcKeyMaker.make(KeyKind::EcP256).unwrap(), ..ca.server(1) };
        assert!(matches!(identity.show(&other_key), Err(IdentityError::Key(_))));
        let empty = ServerCredential { chain_pem: String::new(), ..ca.server(1) };
        assert!(identity.show(&empty).is_err());
        assert_eq!(identity.facts().unwrap().serial, serial);
    }

    #[test]
    fn what_is_shown_prints_no_key_bytes() {
        let credential = ServerCa::new(1, "dc1").server(1);
        let printed = format!("{:?} {credential:?}", showing(&credential));
        let secret = credential.key.expose_pkcs8();
        let numbers = format!("{:?}", &secret[40..56]);
        let digits: String = secret[40..56].iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!printed.contains(numbers.trim_matches(['[', ']'])) && !printed.contains(&digits));
    }
}
