//! P-256 and P-384 keys from given scalars, and signers that choose their nonces by RFC 6979: the same message gives the
//! same signature. aws-lc draws its nonces, so it cannot sign here; it reads the keys, multiplies points and verifies the signatures.

use std::fmt;

use aws_lc_rs::agreement::{self, UnparsedPublicKey};
use carrack::keys::secret::{KeyError, SecretKey};
use carrack_authority::key::{KeyKind, PublicKey, Signer, SignerError};
use p256::{
    elliptic_curve::{Curve as _, PrimeField as _, bigint::ArrayEncoding as _, ops::Reduce, sec1::ToEncodedPoint as _},
    pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _},
};
use sha2::{Digest as _, Sha256, Sha384};
use zeroize::Zeroizing;

/// The bytes of the largest scalar here, that of P-384.
pub(super) const SCALAR_BYTES_MAX: usize = 48;

/// The length of a scalar of a curve.
pub(super) const fn scalar_bytes(kind: KeyKind) -> usize {
    if matches!(kind, KeyKind::EcP384) { SCALAR_BYTES_MAX } else { 32 }
}

/// The key with a scalar of the curve's length. `None` if the scalar is zero or not below the curve's order.
pub(super) fn key_of_scalar(kind: KeyKind, scalar: &[u8]) -> Option<SecretKey> {
    let pkcs8 = if kind == KeyKind::EcP384 {
        p384::SecretKey::from_slice(scalar).ok()?.to_pkcs8_der()
    } else {
        p256::SecretKey::from_slice(scalar).ok()?.to_pkcs8_der()
    };
    let pkcs8 = pkcs8.expect("a key of a named curve has a PKCS#8 form");
    Some(SecretKey::from_checked_pkcs8(kind, Zeroizing::new(pkcs8.as_bytes().to_vec())))
}

/// Signs with ECDSA on P-256 with SHA-256 or on P-384 with SHA-384, in DER.
pub(super) struct CurveSigner {
    key: CurveKey,
    public_key: PublicKey,
}

enum CurveKey {
    P256(p256::SecretKey),
    P384(p384::SecretKey),
}

macro_rules! deterministic_ecdsa {
    ($name:ident, $curve:ident, $order:ty, $hash:ty, $agreement:expr) => {
        /// Signs (FIPS 186-5 section 6.4.1) with a nonce by RFC 6979 section 3.2, in DER. `None` for a chance of one in 2^255.
        fn $name(key: &$curve::SecretKey, message: &[u8]) -> Option<Vec<u8>> {
            let digest = <$curve::Scalar as Reduce<_>>::reduce_bytes(&<$hash>::digest(message));
            let secret = *key.to_nonzero_scalar();
            let order = <$order>::ORDER.to_be_byte_array();
            let nonce = rfc6979::generate_k::<$hash, _>(&secret.to_repr(), &order, &digest.to_repr(), b"");
            // The abscissa of the nonce's multiple of the base point is what the nonce agrees on with whoever has the key 1.
            let base = $curve::AffinePoint::GENERATOR.to_encoded_point(false);
            let of_nonce = agreement::PrivateKey::from_private_key($agreement, &nonce).ok()?;
            let base = UnparsedPublicKey::new($agreement, base.as_bytes());
            let abscissa =
                agreement::agree(&of_nonce, base, (), |bytes| Ok($curve::FieldBytes::clone_from_slice(bytes)));
            let r = <$curve::Scalar as Reduce<_>>::reduce_bytes(&abscissa.ok()?);
            let nonce = Option::<$curve::Scalar>::from($curve::Scalar::from_repr(nonce))?;
            let s = Option::<$curve::Scalar>::from(nonce.invert())? * (digest + r * secret);
            Some($curve::ecdsa::Signature::from_scalars(r, s).ok()?.to_der().as_bytes().to_vec())
        }
    };
}

deterministic_ecdsa!(sign_p256, p256, p256::NistP256, Sha256, &agreement::ECDH_P256);
deterministic_ecdsa!(sign_p384, p384, p384::NistP384, Sha384, &agreement::ECDH_P384);

impl CurveSigner {
    /// The signer of a key of kind P-256 or P-384, whose public key the caller knows.
    pub(super) fn new(key: &SecretKey, public_key: PublicKey) -> Result<Self, KeyError> {
        let kind = key.kind();
        let damaged = |_| KeyError::Damaged { kind };
        let key = if kind == KeyKind::EcP384 {
            CurveKey::P384(p384::SecretKey::from_pkcs8_der(key.expose_pkcs8()).map_err(damaged)?)
        } else {
            CurveKey::P256(p256::SecretKey::from_pkcs8_der(key.expose_pkcs8()).map_err(damaged)?)
        };
        Ok(Self { key, public_key })
    }
}

impl Signer for CurveSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        let signed = match &self.key {
            CurveKey::P256(key) => sign_p256(key, message),
            CurveKey::P384(key) => sign_p384(key, message),
        };
        signed.ok_or_else(|| SignerError {
            kind: self.public_key.kind,
            id: self.public_key.id,
            reason: "this message has no signature with this key".into(),
        })
    }
}

impl fmt::Debug for CurveSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CurveSigner({} {}, ...)", self.public_key.kind, self.public_key.id)
    }
}

#[cfg(test)]
mod tests {
    use carrack::keys::signer::SoftwareSigner;

    use super::*;

    fn bytes_of(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// An ECDSA-Sig-Value (RFC 3279 section 2.2.3) of less than 128 bytes.
    fn der_of(r: &str, s: &str) -> Vec<u8> {
        let integer = |hex| {
            let mut bytes = bytes_of(hex);
            if bytes[0] >= 0x80 {
                bytes.insert(0, 0);
            }
            [vec![2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
        };
        let both = [integer(r), integer(s)].concat();
        [vec![0x30, u8::try_from(both.len()).unwrap()], both].concat()
    }

    fn sign(kind: KeyKind, scalar: &str, message: &[u8]) -> Vec<u8> {
        let key = key_of_scalar(kind, &bytes_of(scalar)).unwrap();
        let public_key = SoftwareSigner::new(&key).unwrap().public_key().clone();
        CurveSigner::new(&key, public_key).unwrap().sign(message).unwrap()
    }

    /// RFC 6979 appendix A.2.5.
    #[test]
    fn p256_signs_as_rfc_6979_says() {
        let scalar = "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721";
        let of_sample = der_of(
            "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
            "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
        );
        let of_test = der_of(
            "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367",
            "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083",
        );
        assert_eq!(sign(KeyKind::EcP256, scalar, b"sample"), of_sample);
        assert_eq!(sign(KeyKind::EcP256, scalar, b"test"), of_test);
    }

    /// RFC 6979 appendix A.2.6.
    #[test]
    fn p384_signs_as_rfc_6979_says() {
        let scalar = "6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D8
                      96D5724E4C70A825F872C9EA60D2EDF5";
        let of_sample = der_of(
            "94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C
             81A648152E44ACF96E36DD1E80FABE46",
            "99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94F
             A329C145786E679E7B82C71A38628AC8",
        );
        assert_eq!(sign(KeyKind::EcP384, scalar, b"sample"), of_sample);
    }

    #[test]
    fn a_scalar_outside_of_the_curves_order_is_no_key() {
        for kind in [KeyKind::EcP256, KeyKind::EcP384] {
            assert!(key_of_scalar(kind, &vec![0; scalar_bytes(kind)]).is_none());
            assert!(key_of_scalar(kind, &vec![0xff; scalar_bytes(kind)]).is_none());
        }
    }
}
