//! Searches bytes for many secrets at once, in the forms in which a secret gets out: raw, in base64 (also wrapped, as in
//! PEM, also in JSON), in hexadecimal, as a printed list, as an age identity. An index of eight bytes of each form
//! makes one pass over the bytes enough.

use std::collections::{BTreeMap, BTreeSet};

use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};

/// The shortest secret that is searched: shorter ones occur by chance, and their forms are shorter than the anchors.
pub(super) const SECRET_BYTES_MIN: usize = 16;
/// The bytes by which a form is found before it is compared whole.
const ANCHOR_BYTES: usize = 8;
/// One line break can lie in the first anchor, none in the second: lines of PEM have 64 characters.
const TEXT_ANCHORS: [usize; 2] = [0, ANCHOR_BYTES];
/// The bits of the filter before the index, as a power of two: 128 KiB stay in a cache, and a thousand secrets fill 2 %.
const FILTER_BITS_LOG2: u32 = 20;
/// The most findings that one search answers: one is enough to fail.
const FINDINGS_MAX: usize = 16;

/// How a secret is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// The bytes themselves, also within DER.
    Raw,
    /// Base64 after so many bytes, modulo three, of something else.
    Base64(u8),
    /// Base64 with the alphabet for URLs.
    Base64Url(u8),
    /// Lower-case hexadecimal digits.
    HexLower,
    /// Upper-case hexadecimal digits.
    HexUpper,
    /// Decimal numbers, as `Debug` prints bytes.
    Decimal,
    /// The secret's own text form in upper case.
    TextUpper,
    /// The secret's own text form in lower case.
    TextLower,
}

impl Form {
    const ALL: [Self; 12] = [
        Self::Raw,
        Self::Base64(0),
        Self::Base64(1),
        Self::Base64(2),
        Self::Base64Url(0),
        Self::Base64Url(1),
        Self::Base64Url(2),
        Self::HexLower,
        Self::HexUpper,
        Self::Decimal,
        Self::TextUpper,
        Self::TextLower,
    ];

    /// The secret in this form, without what depends on its surroundings. `None` if it has no such form.
    fn of(self, secret: &Searched) -> Option<Vec<u8>> {
        let bytes = &secret.bytes;
        let hex = || bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let text = match self {
            Self::Raw => return Some(bytes.clone()),
            Self::Base64(before) => within_base64(&BASE64_STANDARD_NO_PAD, bytes, before),
            Self::Base64Url(before) => within_base64(&BASE64_URL_SAFE_NO_PAD, bytes, before),
            Self::HexLower => hex(),
            Self::HexUpper => hex().to_ascii_uppercase(),
            Self::Decimal => bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", "),
            Self::TextUpper => secret.text.as_deref()?.to_ascii_uppercase(),
            Self::TextLower => secret.text.as_deref()?.to_ascii_lowercase(),
        };
        Some(text.into_bytes())
    }

    fn anchors(self) -> &'static [usize] {
        if self == Self::Raw { &TEXT_ANCHORS[..1] } else { &TEXT_ANCHORS }
    }
}

/// The characters of base64 that the secret alone decides when so many bytes stand before it.
fn within_base64(engine: &impl base64::Engine, bytes: &[u8], before: u8) -> String {
    let before = usize::from(before);
    let text = engine.encode([&vec![0; before], bytes].concat());
    // A character has six bits: the first whole one of the secret's, and the end of its last whole one.
    text[(before * 8).div_ceil(6)..(before + bytes.len()) * 8 / 6].to_owned()
}

/// A secret to search for.
pub(super) struct Searched {
    /// Its bytes, at least [`SECRET_BYTES_MIN`].
    pub(super) bytes: Vec<u8>,
    /// Its own text form, if it has one.
    pub(super) text: Option<String>,
}

/// Where a form of a secret was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    /// The secret's number, in the order of insertion.
    pub(super) secret: usize,
    /// Its form.
    pub(super) form: Form,
    /// Where what was compared begins.
    pub(super) offset: usize,
}

/// An occurrence of eight bytes in a form of a secret.
type Anchor = (u64, usize, Form, usize);

/// The secrets and the index of their forms.
pub(super) struct Index {
    secrets: Vec<Searched>,
    anchors: BTreeSet<Anchor>,
    filter: Vec<u64>,
}

impl Default for Index {
    fn default() -> Self {
        Self { secrets: Vec::new(), anchors: BTreeSet::new(), filter: vec![0; 1 << (FILTER_BITS_LOG2 - 6)] }
    }
}

impl Index {
    /// Adds a secret.
    pub(super) fn insert(&mut self, secret: Searched) {
        assert!(secret.bytes.len() >= SECRET_BYTES_MIN, "a secret of {} bytes is found by chance", secret.bytes.len());
        for form in Form::ALL {
            let Some(written) = form.of(&secret) else { continue };
            for &at in form.anchors() {
                let word = word_at(&written[at..]).expect("the forms of 16 bytes have two anchors");
                self.anchors.insert((word, self.secrets.len(), form, at));
                let bit = filter_bit(word);
                self.filter[bit / 64] |= 1 << (bit % 64);
            }
        }
        self.secrets.push(secret);
    }

    /// How many secrets there are.
    pub(super) fn len(&self) -> usize {
        self.secrets.len()
    }

    /// The bytes of a secret.
    pub(super) fn bytes(&self, secret: usize) -> &[u8] {
        &self.secrets[secret].bytes
    }

    /// The secrets in `haystack`, each once, in their order; at most [`FINDINGS_MAX`].
    pub(super) fn search(&self, haystack: &[u8]) -> Vec<Hit> {
        let mut found = BTreeMap::new();
        for (offset, window) in haystack.windows(ANCHOR_BYTES).enumerate() {
            let Some(word) = word_at(window).filter(|word| self.may_have(*word)) else { continue };
            for hit in self.compare(word, haystack, offset) {
                found.entry(hit.secret).or_insert(hit);
            }
            if found.len() >= FINDINGS_MAX {
                break;
            }
        }
        found.into_values().take(FINDINGS_MAX).collect()
    }

    fn may_have(&self, word: u64) -> bool {
        let bit = filter_bit(word);
        self.filter[bit / 64] >> (bit % 64) & 1 == 1
    }

    fn compare(&self, word: u64, haystack: &[u8], offset: usize) -> impl Iterator<Item = Hit> {
        let candidates = self.anchors.range((word, 0, Form::Raw, 0)..).take_while(move |anchor| anchor.0 == word);
        candidates.filter_map(move |&(_, secret, form, at)| {
            let written = form.of(&self.secrets[secret])?;
            let rest = &haystack[offset..];
            let is_same = if form == Form::Raw { rest.starts_with(&written) } else { is_wrapped(rest, &written[at..]) };
            is_same.then_some(Hit { secret, form, offset })
        })
    }
}

/// The eight bytes at the beginning.
fn word_at(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|first| u64::from_le_bytes(*first))
}

fn filter_bit(word: u64) -> usize {
    // Fibonacci hashing (Knuth, The Art of Computer Programming 6.4): the product's highest bits depend on every bit.
    let product = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(product >> (u64::BITS - FILTER_BITS_LOG2)).expect("20 bits fit")
}

/// Whether `text` begins with `expected`, except for white space and escaped line breaks between its characters.
fn is_wrapped(mut text: &[u8], expected: &[u8]) -> bool {
    for character in expected {
        while text.first() != Some(character) {
            match text {
                [b'\n' | b'\r' | b'\t' | b' ', rest @ ..] | [b'\\', b'n' | b'r' | b't', rest @ ..] => text = rest,
                _ => return false,
            }
        }
        text = &text[1..];
    }
    true
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use rand::Rng as _;

    use super::*;
    use crate::random::Seed;

    fn index_of(secrets: &[&[u8]]) -> Index {
        let mut index = Index::default();
        for secret in secrets {
            index.insert(Searched { bytes: secret.to_vec(), text: None });
        }
        index
    }

    fn drawn<const LENGTH: usize>(purpose: &str) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        Seed(7).stream(purpose).fill_bytes(&mut bytes);
        bytes
    }

    #[test]
    fn every_form_is_found_whatever_stands_before_and_behind() {
        let (first, second) = (drawn::<32>("first"), drawn::<48>("second"));
        let index = index_of(&[&first, &second]);
        for before in 0..9 {
            let bytes = [&vec![0xa5; before][..], &second, &[1, 2]].concat();
            let mut texts = vec![bytes.clone(), format!("{bytes:?}").into_bytes()];
            texts.push(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes());
            texts.push(bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>().into_bytes());
            texts.push(BASE64_STANDARD_NO_PAD.encode(&bytes).into_bytes());
            texts.push(BASE64_URL_SAFE_NO_PAD.encode(&bytes).into_bytes());
            for text in texts {
                let hits = index.search(&[b"before ", &text[..], b" behind"].concat());
                assert_eq!(hits.iter().map(|hit| hit.secret).collect::<Vec<_>>(), [1], "{before}");
            }
        }
    }

    #[test]
    fn a_line_break_anywhere_in_a_text_hides_nothing() {
        let secret = drawn::<32>("secret");
        let index = index_of(&[&secret]);
        for before in 0..3 {
            let text = BASE64_STANDARD_NO_PAD.encode([&vec![7; before][..], &secret].concat());
            for at in 0..text.len() {
                for line_break in ["\n", "\r\n", "\\n", "\n    "] {
                    let wrapped = format!("{}{line_break}{}", &text[..at], &text[at..]);
                    assert_eq!(index.search(wrapped.as_bytes()).len(), 1, "{wrapped}");
                }
            }
        }
    }

    #[test]
    fn a_part_of_a_secret_or_other_bytes_are_not_the_secret() {
        let secret = drawn::<32>("secret");
        let index = index_of(&[&secret]);
        assert!(index.search(&secret[..31]).is_empty());
        assert!(index.search(&secret[1..]).is_empty());
        assert!(index.search(&drawn::<100_000>("noise")).is_empty());
        assert!(index.search(b"").is_empty());
        assert!(index.search(&[0; 64]).is_empty());
    }

    #[test]
    fn a_search_answers_each_secret_once_and_not_without_end() {
        let secrets: Vec<[u8; 32]> = (0..FINDINGS_MAX + 5).map(|number| drawn(&number.to_string())).collect();
        let index = index_of(&secrets.iter().map(|secret| &secret[..]).collect::<Vec<_>>());
        assert_eq!(index.search(&[secrets[0], secrets[0]].concat()).len(), 1);
        assert_eq!(index.search(&secrets.concat()).len(), FINDINGS_MAX);
    }
}
