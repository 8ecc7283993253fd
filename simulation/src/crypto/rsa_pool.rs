//! The RSA keys of simulated servers: finding primes takes seconds and cannot be seeded through aws-lc, so that the keys
//! come from files beside this one. They are published, hence secret to nobody.

use carrack::keys::{
    aws_lc::AwsLcKeyMaker,
    secret::{KeyError, KeyMaker as _, SecretKey},
};
use carrack_authority::key::KeyKind;
use p256::pkcs8::{
    PrivateKeyInfo,
    der::{Decode as _, Reader as _, SliceReader, asn1::UintRef},
};

/// The files of a kind; none for a kind that is not RSA.
fn files(kind: KeyKind) -> &'static [&'static str] {
    match kind {
        KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::Ed25519 => &[],
        KeyKind::Rsa2048 => &[include_str!("rsa_pool/rsa-2048-a.pem"), include_str!("rsa_pool/rsa-2048-b.pem")],
        KeyKind::Rsa3072 => &[include_str!("rsa_pool/rsa-3072.pem")],
        KeyKind::Rsa4096 => &[include_str!("rsa_pool/rsa-4096.pem")],
    }
}

/// A key of the pool, chosen by a drawn number.
pub(super) fn choose(kind: KeyKind, drawn: u8) -> Result<SecretKey, KeyError> {
    let files = files(kind);
    let chosen = usize::from(drawn).checked_rem(files.len()).ok_or(KeyError::NotMade { kind })?;
    AwsLcKeyMaker.import(files[chosen])
}

/// The secret numbers of an RSA key in PKCS#8: the private exponent and the two primes (RFC 8017 appendix A.1.2).
pub(super) fn secrets(key: &SecretKey) -> Option<[(&'static str, Vec<u8>); 3]> {
    let info = PrivateKeyInfo::from_der(key.expose_pkcs8()).ok()?;
    let mut fields = SliceReader::new(info.private_key).ok()?;
    fields
        .sequence(|fields| {
            let mut next = || UintRef::decode(fields).map(|number| number.as_bytes().to_vec());
            let (_version, _modulus, _public_exponent) = (next()?, next()?, next()?);
            let secrets = [("private exponent", next()?), ("first prime", next()?), ("second prime", next()?)];
            let _derived_from_these = (next()?, next()?, next()?);
            Ok(secrets)
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_has_keys_of_each_rsa_kind_with_secrets_of_its_size() {
        for (kind, bytes) in [(KeyKind::Rsa2048, 256), (KeyKind::Rsa3072, 384), (KeyKind::Rsa4096, 512)] {
            for drawn in [0, 1, 255] {
                let key = choose(kind, drawn).unwrap();
                assert_eq!(key.kind(), kind);
                let [exponent, first, second] = secrets(&key).unwrap().map(|(_, number)| number.len());
                assert!(exponent > bytes - 8 && exponent <= bytes, "{exponent}");
                assert_eq!((first, second), (bytes / 2, bytes / 2));
            }
        }
        assert_ne!(
            choose(KeyKind::Rsa2048, 0).unwrap().expose_pkcs8(),
            choose(KeyKind::Rsa2048, 1).unwrap().expose_pkcs8()
        );
    }

    #[test]
    fn the_pool_has_nothing_else() {
        for kind in [KeyKind::EcP256, KeyKind::EcP384, KeyKind::Ed25519] {
            assert_eq!(choose(kind, 0).unwrap_err(), KeyError::NotMade { kind });
        }
    }
}
