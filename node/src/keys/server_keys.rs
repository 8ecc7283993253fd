//! The keys of one server and their life: pending while a certificate is asked for, active once it is there, deleted when
//! retired. Each step may be repeated after a crash.

use std::{collections::BTreeSet, sync::Arc};

use carrack_authority::{
    id::KeyId,
    key::{KeyKind, PublicKey, Signer},
    planted::{self, Bug},
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use webpki::EndEntityCert;
use zeroize::Zeroizing;

use super::{
    sealing::{SealError, Sealer, SealingIdentity},
    secret::{KeyError, KeyMaker, SecretKey},
    store::{KeySlot, KeyStore, KeyStoreError},
};

/// The keys of this server, in its key store.
pub struct ServerKeys {
    store: Arc<dyn KeyStore>,
    maker: Arc<dyn KeyMaker>,
    sealer: Arc<dyn Sealer>,
}

/// This server's certificate with its key: what it shows to its peers.
#[derive(Debug)]
pub struct ServerCredential {
    /// The private key.
    pub key: SecretKey,
    /// The certificate and the server CA's certificates, as PEM, in the order in which they are served.
    pub chain_pem: String,
}

/// The keys of this server could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ServerKeysError {
    /// The key store failed.
    #[error("the key store failed")]
    Store(#[from] KeyStoreError),
    /// A key could not be made or read.
    #[error("the key in {slot} cannot be used")]
    Key {
        /// Which.
        slot: KeySlot,
        /// Why.
        source: KeyError,
    },
    /// The sealing key could not be made or read.
    #[error("the key in {} cannot be used", KeySlot::Sealing)]
    Sealing(#[source] SealError),
    /// A file is not text.
    #[error("{slot} is damaged: it is not text")]
    NotText {
        /// Which.
        slot: KeySlot,
    },
    /// The certificate cannot be read.
    #[error("{} is damaged: it does not begin with a certificate in PEM", KeySlot::ServerCertificate)]
    BadCertificate,
    /// No key belongs to the certificate.
    #[error(
        "neither server.key nor server.pending.key belongs to the certificate in server.pem: restore the missing key, or let this server join again with an empty data directory"
    )]
    NoKeyForCertificate,
    /// A certificate came for an issuer key that is not here.
    #[error("the certificate is for issuer key {wanted}, but the pending key is {pending}")]
    OtherIssuer {
        /// The key of the certificate.
        wanted: KeyId,
        /// The key that waits for one; `none` if there is none.
        pending: String,
    },
}

impl ServerKeys {
    /// The keys in `store`, made and read by `maker` and `sealer`.
    pub fn new(store: Arc<dyn KeyStore>, maker: Arc<dyn KeyMaker>, sealer: Arc<dyn Sealer>) -> Self {
        Self { store, maker, sealer }
    }

    /// The key that waits for a server certificate: the one already there if it is of this kind, else a new one.
    pub fn pending_server_key(&self, kind: KeyKind) -> Result<SecretKey, ServerKeysError> {
        self.pending(KeySlot::ServerPending, kind)
    }

    /// Makes the pending key the active one, with the chain that was issued for it. Repeating it is success.
    pub fn activate_server(&self, chain_pem: &str) -> Result<ServerCredential, ServerKeysError> {
        let spki = first_public_key(chain_pem)?;
        if !self.holds(KeySlot::ServerPending, &spki)? && !self.holds(KeySlot::Server, &spki)? {
            return Err(ServerKeysError::NoKeyForCertificate);
        }
        // The certificate goes first: `server` finishes the step from there if a crash parts the two.
        self.store.write(KeySlot::ServerCertificate, chain_pem.as_bytes())?;
        self.server()?.ok_or(ServerKeysError::NoKeyForCertificate)
    }

    /// The active certificate and key, or `None` before the first certificate.
    pub fn server(&self) -> Result<Option<ServerCredential>, ServerKeysError> {
        let Some(chain_pem) = self.text(KeySlot::ServerCertificate)? else { return Ok(None) };
        let chain_pem = chain_pem.to_string();
        let spki = first_public_key(&chain_pem)?;
        if !self.holds(KeySlot::Server, &spki)? {
            if !self.holds(KeySlot::ServerPending, &spki)? {
                return Err(ServerKeysError::NoKeyForCertificate);
            }
            self.store.rename(KeySlot::ServerPending, KeySlot::Server)?;
        }
        let key = self.key(KeySlot::Server)?.ok_or(ServerKeysError::NoKeyForCertificate)?;
        Ok(Some(ServerCredential { key, chain_pem }))
    }

    /// A new key that waits for an issuer certificate, in the place of any that has waited before: that one may have had its
    /// certificate, and have missed the whole life of it. No issuer key is certified twice.
    pub fn new_issuer_key(&self, kind: KeyKind) -> Result<SecretKey, ServerKeysError> {
        if planted::is(Bug::OldKeyOverwritten) {
            self.issuers()?.into_iter().try_for_each(|id| self.delete_issuer(id))?;
        }
        self.make(KeySlot::IssuerPending, kind)
    }

    /// Makes the pending issuer key an active one, because the certificate for `id` is in the state. Repeating it is success.
    pub fn activate_issuer(&self, id: KeyId) -> Result<SecretKey, ServerKeysError> {
        if let Some(key) = self.issuer(id)? {
            return Ok(key);
        }
        let pending = match self.key(KeySlot::IssuerPending)? {
            Some(key) => Some(self.public_key(KeySlot::IssuerPending, &key)?.id),
            None => None,
        };
        if pending != Some(id) {
            let pending = pending.map_or_else(|| "none".into(), |id| id.to_string());
            return Err(ServerKeysError::OtherIssuer { wanted: id, pending });
        }
        self.store.rename(KeySlot::IssuerPending, KeySlot::Issuer(id))?;
        self.issuer(id)?.ok_or_else(|| KeyStoreError::Missing { slot: KeySlot::Issuer(id) }.into())
    }

    /// An active issuer key.
    pub fn issuer(&self, id: KeyId) -> Result<Option<SecretKey>, ServerKeysError> {
        self.key(KeySlot::Issuer(id))
    }

    /// The ids of the active issuer keys, in order.
    pub fn issuers(&self) -> Result<Vec<KeyId>, ServerKeysError> {
        let slots = self.store.list()?;
        Ok(slots.into_iter().filter_map(|slot| if let KeySlot::Issuer(id) = slot { Some(id) } else { None }).collect())
    }

    /// The ids of every issuer key that is here: the active ones, and the one that waits for its certificate.
    pub fn held_issuers(&self) -> Result<BTreeSet<KeyId>, ServerKeysError> {
        let mut held: BTreeSet<KeyId> = self.issuers()?.into_iter().collect();
        if let Some(key) = self.key(KeySlot::IssuerPending)? {
            held.insert(self.public_key(KeySlot::IssuerPending, &key)?.id);
        }
        Ok(held)
    }

    /// Deletes the key of a retired issuer. Success if it is gone already.
    pub fn delete_issuer(&self, id: KeyId) -> Result<(), ServerKeysError> {
        Ok(self.store.delete(KeySlot::Issuer(id))?)
    }

    /// This server's sealing identity, made at the first call.
    pub fn sealing(&self) -> Result<SealingIdentity, ServerKeysError> {
        if let Some(text) = self.text(KeySlot::Sealing)? {
            return self.sealer.read_identity(text.trim()).map_err(ServerKeysError::Sealing);
        }
        let identity = self.sealer.generate().map_err(ServerKeysError::Sealing)?;
        let line = Zeroizing::new(format!("{}\n", identity.expose_text()));
        self.store.write(KeySlot::Sealing, line.as_bytes())?;
        Ok(identity)
    }

    /// Keeps the text of the token with which this server's datacenter joins the primary. It survives a crash until it is used.
    pub fn keep_federation_token(&self, text: &str) -> Result<(), ServerKeysError> {
        Ok(self.store.write(KeySlot::FederationToken, text.as_bytes())?)
    }

    /// The text of that token, while it is not used.
    pub fn federation_token(&self) -> Result<Option<Zeroizing<String>>, ServerKeysError> {
        self.text(KeySlot::FederationToken)
    }

    /// Forgets that token. Success if it is gone already.
    pub fn forget_federation_token(&self) -> Result<(), ServerKeysError> {
        Ok(self.store.delete(KeySlot::FederationToken)?)
    }

    /// The signer of a key of this server.
    pub fn signer(&self, key: &SecretKey) -> Result<Arc<dyn Signer>, KeyError> {
        self.maker.signer(key)
    }

    fn pending(&self, slot: KeySlot, kind: KeyKind) -> Result<SecretKey, ServerKeysError> {
        let Some(key) = self.key(slot)?.filter(|key| key.kind() == kind) else { return self.make(slot, kind) };
        // A write that failed at its last step may have left it in the operating system alone; from here on it is relied upon.
        self.store.write(slot, key.to_pem().as_bytes())?;
        Ok(key)
    }

    fn make(&self, slot: KeySlot, kind: KeyKind) -> Result<SecretKey, ServerKeysError> {
        let key = self.maker.make(kind).map_err(|source| ServerKeysError::Key { slot, source })?;
        self.store.write(slot, key.to_pem().as_bytes())?;
        Ok(key)
    }

    fn holds(&self, slot: KeySlot, spki: &[u8]) -> Result<bool, ServerKeysError> {
        let Some(key) = self.key(slot)? else { return Ok(false) };
        Ok(self.public_key(slot, &key)?.spki.as_bytes() == spki)
    }

    fn public_key(&self, slot: KeySlot, key: &SecretKey) -> Result<PublicKey, ServerKeysError> {
        let signer = self.maker.signer(key).map_err(|source| ServerKeysError::Key { slot, source })?;
        Ok(signer.public_key().clone())
    }

    fn key(&self, slot: KeySlot) -> Result<Option<SecretKey>, ServerKeysError> {
        let Some(pem) = self.text(slot)? else { return Ok(None) };
        self.maker.import(&pem).map(Some).map_err(|source| ServerKeysError::Key { slot, source })
    }

    fn text(&self, slot: KeySlot) -> Result<Option<Zeroizing<String>>, ServerKeysError> {
        let Some(bytes) = self.store.read(slot)? else { return Ok(None) };
        let text = std::str::from_utf8(&bytes).map_err(|_| ServerKeysError::NotText { slot })?;
        Ok(Some(Zeroizing::new(text.to_owned())))
    }
}

fn first_public_key(chain_pem: &str) -> Result<Vec<u8>, ServerKeysError> {
    let first = CertificateDer::from_pem_slice(chain_pem.as_bytes()).map_err(|_| ServerKeysError::BadCertificate)?;
    let certificate = EndEntityCert::try_from(&first).map_err(|_| ServerKeysError::BadCertificate)?;
    Ok(certificate.subject_public_key_info().to_vec())
}

#[cfg(test)]
mod tests;
