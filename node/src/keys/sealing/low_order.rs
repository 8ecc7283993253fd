//! The X25519 recipients that are not secret to anybody: points of low order, whose shared secret is zero whatever the
//! other key is (RFC 7748 section 6.1). The `age` crate panics when it seals to one, so a hostile joiner must not name it.

/// Whether a recipient that `age` has parsed and written names a point of low order.
pub(super) fn has_low_order(recipient: &str) -> bool {
    let Some(mut point) = point(recipient) else { return true };
    // X25519 ignores the top bit of the last byte (RFC 7748 section 5).
    point[31] &= 0x7f;
    LOW_ORDER.contains(&point)
}

/// The 32 bytes in a Bech32 text whose checksum and length were checked before.
fn point(recipient: &str) -> Option<[u8; 32]> {
    let symbols = recipient.strip_prefix("age1")?;
    let mut bytes = Vec::with_capacity(32);
    let (mut value, mut bits) = (0u16, 0);
    for symbol in symbols.bytes().take(symbols.len().checked_sub(CHECKSUM_SYMBOLS)?) {
        let position = SYMBOLS.iter().position(|known| *known == symbol)?;
        value = value << 5 | u16::try_from(position).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((value >> bits).to_le_bytes()[0]);
            value &= (1 << bits) - 1;
        }
    }
    bytes.try_into().ok()
}

/// Bech32's alphabet, in the order of its values (BIP 173).
const SYMBOLS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// The symbols of a Bech32 checksum.
const CHECKSUM_SYMBOLS: usize = 6;

/// Every encoding of a point of low order on Curve25519 and its twist: 0, 1, the two of order 8, p - 1, p, p + 1.
const LOW_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    small(1),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
        0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    near_prime(0xec),
    near_prime(0xed),
    near_prime(0xee),
];

const fn small(lowest: u8) -> [u8; 32] {
    let mut point = [0; 32];
    point[0] = lowest;
    point
}

/// 2^255 - 1 with its lowest byte replaced; the prime is 2^255 - 19, whose lowest byte is 0xed.
const fn near_prime(lowest: u8) -> [u8; 32] {
    let mut point = [0xff; 32];
    point[0] = lowest;
    point[31] = 0x7f;
    point
}
