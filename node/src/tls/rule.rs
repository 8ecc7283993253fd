//! Who decides on a peer's certificates, and the one place that speaks rustls for all of them: both verifier traits, with
//! signatures of TLS 1.3 only. The rules themselves know nothing of rustls.

use std::{fmt, sync::Arc};

use carrack_authority::{time::Timestamp, x509::extension::Purpose};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::verify_tls13_signature,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use tokio::sync::watch;
use webpki::KeyUsage;

use super::{
    clock::timestamp,
    config::signature_algorithms,
    peer::{PeerRefusal, VerifiedServer},
};

/// The end of a connection at which the peer stands (RFC 5280 section 4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerSide {
    /// It has accepted the connection.
    Server,
    /// It has opened the connection.
    Client,
}

impl PeerSide {
    pub(super) fn usage(self) -> KeyUsage {
        match self {
            Self::Server => KeyUsage::server_auth(),
            Self::Client => KeyUsage::client_auth(),
        }
    }

    /// The purpose that the peer's own certificate must name. webpki asks the same of each CA certificate on the way or
    /// of none, and a bridge between two roots names no purpose.
    pub(super) fn purpose(self) -> Purpose {
        match self {
            Self::Server => Purpose::ServerAuth,
            Self::Client => Purpose::ClientAuth,
        }
    }
}

/// Decides who a peer is.
pub(super) trait PeerRule: fmt::Debug + Send + Sync {
    /// Decides on the certificates that a peer has presented, its own first.
    fn verify(
        &self,
        presented: &[CertificateDer<'_>],
        now: Timestamp,
        side: PeerSide,
    ) -> Result<VerifiedServer, PeerRefusal>;
}

/// Lets a peer in or not, whoever it is: all that rustls wants to know.
pub(super) trait Admits: fmt::Debug + Send + Sync {
    /// Decides on the certificates that a peer has presented, its own first.
    fn admit(&self, presented: &[CertificateDer<'_>], now: Timestamp, side: PeerSide) -> Result<(), PeerRefusal>;
}

impl<R: PeerRule + ?Sized> Admits for R {
    fn admit(&self, presented: &[CertificateDer<'_>], now: Timestamp, side: PeerSide) -> Result<(), PeerRefusal> {
        self.verify(presented, now, side).map(drop)
    }
}

/// A rule whose decision may become another one while a connection is open.
pub(super) trait LiveRule: PeerRule {
    /// Tells of each change of what the rule goes by.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// A rule as rustls asks for it.
#[derive(Debug)]
pub(super) struct Verifier<R: ?Sized>(Arc<R>);

impl<R: Admits + ?Sized> Verifier<R> {
    /// Lets in whom the rule lets in.
    pub(super) fn new(rule: Arc<R>) -> Arc<Self> {
        Arc::new(Self(rule))
    }

    fn decide(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        side: PeerSide,
    ) -> Result<(), Error> {
        let presented: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        Ok(self.0.admit(&presented, timestamp(now), side)?)
    }
}

/// What both traits of rustls ask in the same words. TLS 1.2 is never negotiated here, so nothing asks for its
/// signatures.
macro_rules! tls13_signatures_only {
    () => {
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
    };
}

impl<R: Admits + ?Sized> ClientCertVerifier for Verifier<R> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.decide(end_entity, intermediates, now, PeerSide::Client)?;
        Ok(ClientCertVerified::assertion())
    }

    tls13_signatures_only!();
}

impl<R: Admits + ?Sized> ServerCertVerifier for Verifier<R> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.decide(end_entity, intermediates, now, PeerSide::Server)?;
        Ok(ServerCertVerified::assertion())
    }

    tls13_signatures_only!();
}
