//! Agents show a key: the handshake proves that they have it, and the replicated state says whose it is. So an agent that slept past
//! the end of its certificate comes back, and a removed one does not, whatever its certificate says.

use std::{fmt, sync::Arc};

use carrack_authority::{id::Digest, x509::CertificateFacts};
use rustls::{
    CertificateError, CommonState, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::verify_tls13_signature,
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::config::signature_algorithms;

/// Lets in who shows no certificate, and who has the key of the one that he shows.
pub(super) struct KeyHolder(());

impl KeyHolder {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(()))
    }
}

impl fmt::Debug for KeyHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHolder")
    }
}

impl ClientCertVerifier for KeyHolder {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // Nothing that it says is believed; only its key is looked at, in the handshake's signature and in the state.
        let readable = CertificateFacts::read(end_entity).is_ok();
        readable.then(ClientCertVerified::assertion).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::InvalidCertificate(CertificateError::BadSignature))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, signature_algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        signature_algorithms().supported_schemes()
    }
}

/// The key that the client of a finished handshake has shown to have.
pub(super) fn shown_key(connection: &CommonState) -> Option<Digest> {
    let certificate = connection.peer_certificates()?.first()?;
    let facts = CertificateFacts::read(certificate).ok()?;
    Some(facts.public_key.digest())
}
