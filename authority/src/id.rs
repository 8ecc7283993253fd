//! The ids that other records and the log refer to. None is ever used again for something else.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A server of one datacenter, from 1 upwards. An id is given once and never again, also after the server's removal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The version of a record or table: the index of the log entry that wrote it last. Zero: it does not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What the state, the stored bytes and the protocol between servers may contain: raised by one command, never lowered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FeatureLevel(pub u32);

impl FeatureLevel {
    /// The highest level that this build understands. No release exists yet: until there is one, everything is of level 1.
    pub const SUPPORTED: Self = Self(1);
}

impl fmt::Display for FeatureLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

macro_rules! bytes_id {
    ($(#[$meta:meta])* $name:ident, $length:literal, $separator:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; $length]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for (position, byte) in self.0.iter().enumerate() {
                    if position > 0 {
                        f.write_str($separator)?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadId;

            /// Reads hexadecimal digits, with or without colons.
            fn from_str(text: &str) -> Result<Self, BadId> {
                parse_hex(text).map(Self).ok_or_else(|| BadId { text: text.into(), bytes: $length })
            }
        }
    };
}

bytes_id!(
    /// One store (log and high-water file) of one server: drawn when the store is made, recorded for its node id.
    StoreId, 16, ""
);
bytes_id!(
    /// A SHA-256 digest.
    Digest, 32, ""
);
bytes_id!(
    /// A subject key identifier: the leftmost 160 bits of SHA-256 of the subject public key (RFC 7093 section 2, method 1).
    /// Roots and issuers are named by it.
    KeyId, 20, ":"
);
bytes_id!(
    /// A certificate's serial number as 20 big-endian octets: 159 random bits, so positive and at most 20 octets (RFC 5280 4.1.2.2).
    Serial, 20, ":"
);

impl Serial {
    /// The serial made of 160 random bits: the top bit cleared, so that it is positive, and never zero.
    pub fn from_random(mut bytes: [u8; 20]) -> Self {
        bytes[0] &= 0x7f;
        bytes[19] |= u8::from(bytes == [0; 20]);
        Self(bytes)
    }

    /// The low 64 bits, which Consul's clients read as `SerialNumber`.
    pub fn low_64_bits(&self) -> u64 {
        self.0[12..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// Text that is no id of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {bytes} bytes in hexadecimal digits")]
pub struct BadId {
    /// What was given.
    pub text: String,
    /// How many bytes the id has.
    pub bytes: usize,
}

fn parse_hex<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    let has_colons = text.len() == LENGTH * 3 - 1;
    let is_colon = |(place, byte): (usize, u8)| (byte == b':') == (has_colons && place % 3 == 2);
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    if digits.len() != LENGTH * 2
        || !digits.iter().all(u8::is_ascii_hexdigit)
        || !text.bytes().enumerate().all(is_colon)
    {
        return None;
    }
    let mut bytes = [0; LENGTH];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_printed() {
        let key = KeyId([0xab; 20]);
        assert_eq!(key.to_string(), ["ab"; 20].join(":"));
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(["ab"; 20].concat().parse(), Ok(key));
        assert_eq!(["AB"; 20].concat().parse(), Ok(key));
        let digest = Digest([0x0f; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(format!("{digest:?}"), format!("Digest({})", "0f".repeat(32)));
    }

    #[test]
    fn what_is_no_hexadecimal_id_is_refused() {
        let good = ["ab"; 20].join(":");
        let signed = format!("+a{}", &good[2..]);
        let spaced = good.replacen(':', " ", 1);
        let shifted = good.replacen("ab:ab", "a:bab", 1);
        let short = &good[3..];
        let trailing = format!("{good}:");
        let wide = good.replacen("ab", "\u{e4}", 1);
        for bad in ["", ":", &signed, &spaced, &shifted, short, &trailing, &wide, &"g".repeat(40), &"ab".repeat(21)] {
            assert_eq!(bad.parse::<KeyId>(), Err(BadId { text: bad.into(), bytes: 20 }), "{bad:?}");
        }
    }

    #[test]
    fn a_serial_is_positive_whatever_is_drawn() {
        assert_eq!(Serial::from_random([0xff; 20]).0[0], 0x7f);
        let mut one = [0; 20];
        one[19] = 1;
        assert_eq!(Serial::from_random([0; 20]), Serial(one));
        let mut top = [0; 20];
        top[0] = 0x80;
        assert_eq!(Serial::from_random(top), Serial(one));
    }

    #[test]
    fn the_low_64_bits_are_the_last_eight_octets() {
        let mut bytes = [0xff; 20];
        bytes[12..].copy_from_slice(&0x0102_0304_0506_0708_u64.to_be_bytes());
        assert_eq!(Serial(bytes).low_64_bits(), 0x0102_0304_0506_0708);
    }
}
