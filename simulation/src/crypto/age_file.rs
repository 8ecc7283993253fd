//! Writes the age format (age-encryption.org/v1) with randomness from a stream; the `age` crate reads it, and only draws
//! from the operating system when it writes.

use aws_lc_rs::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    agreement::{PrivateKey, UnparsedPublicKey, X25519, agree},
    error::Unspecified,
    hkdf::{HKDF_SHA256, Salt},
    hmac::{self, HMAC_SHA256},
};
use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use bech32::{Bech32, Hrp};
use zeroize::Zeroizing;

use super::entropy::SeededEntropy;

/// The format's chunk of plaintext. Everything that is sealed here fits in one, which is the last and the only one.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;
/// The nonce of the first chunk if it is the last: eleven bytes of a counter from zero, then the flag.
const ONLY_CHUNK_NONCE: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// The text of the identity with this X25519 private key, and its part after the prefix that all identities share.
pub(super) fn identity_text(private: &[u8; 32]) -> (Zeroizing<String>, usize) {
    const PREFIX: &str = "age-secret-key-";
    let encoded = bech32::encode_upper::<Bech32>(Hrp::parse_unchecked(PREFIX), private);
    (Zeroizing::new(encoded.expect("32 bytes are not too many for Bech32")), PREFIX.len() + 1)
}

/// The X25519 public key in a recipient's text.
pub(super) fn recipient_point(text: &str) -> Result<[u8; 32], Unspecified> {
    let (_, point) = bech32::decode(text).map_err(|_| Unspecified)?;
    point.try_into().map_err(|_| Unspecified)
}

/// Encrypts at most [`CHUNK_BYTES`] to every point.
pub(super) fn encrypt(plaintext: &[u8], points: &[[u8; 32]], entropy: &SeededEntropy) -> Result<Vec<u8>, Unspecified> {
    let file_key = Zeroizing::new(entropy.bytes::<16>());
    let mut header = String::from("age-encryption.org/v1\n");
    for point in points {
        header.push_str(&stanza(&file_key, point, entropy)?);
    }
    header.push_str("---");
    let mac_key = derive(&[], &*file_key, b"header")?;
    let mac = hmac::sign(&hmac::Key::new(HMAC_SHA256, &*mac_key), header.as_bytes());

    let nonce = entropy.bytes::<16>();
    let payload_key = derive(&nonce, &*file_key, b"payload")?;
    let payload = seal(&payload_key, ONLY_CHUNK_NONCE, plaintext)?;
    let mac = format!(" {}\n", BASE64_STANDARD_NO_PAD.encode(mac));
    Ok([header.as_bytes(), mac.as_bytes(), &nonce, &payload].concat())
}

/// The file key for one recipient: an ephemeral key, and the file key under what both keys agree on.
fn stanza(file_key: &[u8; 16], point: &[u8; 32], entropy: &SeededEntropy) -> Result<String, Unspecified> {
    let ephemeral = Zeroizing::new(entropy.bytes::<32>());
    let ephemeral = PrivateKey::from_private_key(&X25519, &*ephemeral)?;
    let share = ephemeral.compute_public_key()?;
    let salt = [share.as_ref(), point].concat();
    let peer = UnparsedPublicKey::new(&X25519, point);
    let wrap_key =
        agree(&ephemeral, peer, Unspecified, |shared| derive(&salt, shared, b"age-encryption.org/v1/X25519"))?;
    // The wrap key is used once, so that the format has no nonce here.
    let wrapped = seal(&wrap_key, [0; 12], file_key)?;
    let [share, wrapped] = [share.as_ref(), &wrapped].map(|bytes| BASE64_STANDARD_NO_PAD.encode(bytes));
    Ok(format!("-> X25519 {share}\n{wrapped}\n"))
}

fn derive(salt: &[u8], secret: &[u8], purpose: &[u8]) -> Result<Zeroizing<[u8; 32]>, Unspecified> {
    let mut key = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA256, salt).extract(secret).expand(&[purpose], HKDF_SHA256)?.fill(&mut *key)?;
    Ok(key)
}

fn seal(key: &[u8; 32], nonce: [u8; 12], plaintext: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key)?);
    let mut sealed = Zeroizing::new(plaintext.to_vec());
    let tag = key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)?;
    Ok([&sealed, tag.as_ref()].concat())
}
