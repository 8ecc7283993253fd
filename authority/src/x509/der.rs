//! A strict reader of DER (X.690 sections 8 and 10): definite minimal lengths, low tag numbers, nothing left over.
//!
//! It does not recurse, so that no input can exhaust the stack, and it accepts one encoding of each value only.

/// Tags that the formats here use.
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;

    /// `[number]`, primitive: an implicitly tagged string or number.
    pub(crate) const fn context(number: u8) -> u8 {
        0x80 | number
    }

    /// `[number]`, constructed: an explicitly tagged value, or an implicitly tagged sequence.
    pub(crate) const fn context_constructed(number: u8) -> u8 {
        0xa0 | number
    }
}

/// The bit of a tag that says that elements are inside.
const CONSTRUCTED: u8 = 0x20;

/// Why bytes are not the DER encoding that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DerError {
    /// The bytes end inside an element.
    #[error("the encoding ends inside an element")]
    Truncated,
    /// Bytes follow the end.
    #[error("{bytes} bytes follow the end of {after}")]
    TrailingBytes {
        /// How many.
        bytes: usize,
        /// What had ended.
        after: &'static str,
    },
    /// A tag number above 30, which nothing here uses.
    #[error("a tag number above 30")]
    LongTag,
    /// A length that is indefinite, not minimal, or above 4 GiB.
    #[error("a length that is not in DER's one form")]
    BadLength,
    /// Elements are nested too deep.
    #[error("elements are nested deeper than {depth_max}")]
    TooDeep {
        /// The limit.
        depth_max: usize,
    },
    /// Another element was expected.
    #[error("{what}: expected an element with tag {expected:#04x}, found {found:#04x}")]
    UnexpectedTag {
        /// What was read.
        what: &'static str,
        /// The tag that was expected.
        expected: u8,
        /// The tag that is there.
        found: u8,
    },
    /// The element is there, but its content is not allowed.
    #[error("{what} is not encoded as DER and RFC 5280 ask")]
    BadValue {
        /// What was read.
        what: &'static str,
    },
    /// An element that may be there once is there twice.
    #[error("{what} is there twice")]
    Duplicate {
        /// What was read.
        what: String,
    },
}

/// One element: tag, content, and the whole encoding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) whole: &'a [u8],
}

impl<'a> Element<'a> {
    /// Reads the elements inside.
    pub(crate) fn inside(self) -> Reader<'a> {
        Reader::new(self.content)
    }

    /// The octets of a BIT STRING whose length is a multiple of eight.
    pub(crate) fn bit_octets(self, what: &'static str) -> Result<&'a [u8], DerError> {
        match self.content.split_first() {
            Some((0, octets)) => Ok(octets),
            _ => Err(DerError::BadValue { what }),
        }
    }

    /// The octets of an INTEGER that is not negative, without the leading zero.
    pub(crate) fn unsigned(self, what: &'static str) -> Result<&'a [u8], DerError> {
        match self.content {
            [] => Err(DerError::BadValue { what }),
            [0, rest @ ..] if rest.first().is_some_and(|byte| *byte >= 0x80) => Ok(rest),
            [0] => Ok(&[]),
            [0, ..] => Err(DerError::BadValue { what }),
            [first, ..] if *first >= 0x80 => Err(DerError::BadValue { what }),
            octets => Ok(octets),
        }
    }

    /// A BOOLEAN.
    pub(crate) fn boolean(self, what: &'static str) -> Result<bool, DerError> {
        match self.content {
            [0] => Ok(false),
            [0xff] => Ok(true),
            _ => Err(DerError::BadValue { what }),
        }
    }

    /// The text of an IA5String, which is ASCII.
    pub(crate) fn ascii(self, what: &'static str) -> Result<&'a str, DerError> {
        let text = std::str::from_utf8(self.content).map_err(|_| DerError::BadValue { what })?;
        if text.is_ascii() { Ok(text) } else { Err(DerError::BadValue { what }) }
    }
}

/// Reads one element after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Reads bytes that are one element and nothing else.
    pub(crate) fn single(bytes: &'a [u8], tag: u8, what: &'static str) -> Result<Element<'a>, DerError> {
        let mut reader = Self::new(bytes);
        let element = reader.expect(tag, what)?;
        reader.finish(what)?;
        Ok(element)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element, whatever it is.
    pub(crate) fn any(&mut self) -> Result<Element<'a>, DerError> {
        let whole = self.rest;
        let (&tag, after_tag) = whole.split_first().ok_or(DerError::Truncated)?;
        if tag & 0x1f == 0x1f {
            return Err(DerError::LongTag);
        }
        let (length, after_length) = read_length(after_tag)?;
        let (content, rest) = after_length.split_at_checked(length).ok_or(DerError::Truncated)?;
        self.rest = rest;
        Ok(Element { tag, content, whole: &whole[..whole.len() - rest.len()] })
    }

    /// The next element, which must have this tag.
    pub(crate) fn expect(&mut self, expected: u8, what: &'static str) -> Result<Element<'a>, DerError> {
        let element = self.any()?;
        if element.tag != expected {
            return Err(DerError::UnexpectedTag { what, expected, found: element.tag });
        }
        Ok(element)
    }

    /// The next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, DerError> {
        if self.rest.first() == Some(&tag) { self.any().map(Some) } else { Ok(None) }
    }

    /// Nothing may be left.
    pub(crate) const fn finish(&self, after: &'static str) -> Result<(), DerError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(DerError::TrailingBytes { bytes: self.rest.len(), after })
    }
}

fn read_length(bytes: &[u8]) -> Result<(usize, &[u8]), DerError> {
    let (&first, rest) = bytes.split_first().ok_or(DerError::Truncated)?;
    if first < 0x80 {
        return Ok((usize::from(first), rest));
    }
    let count = usize::from(first & 0x7f);
    if !(1..=4).contains(&count) {
        return Err(DerError::BadLength);
    }
    let (octets, rest) = rest.split_at_checked(count).ok_or(DerError::Truncated)?;
    let length = octets.iter().fold(0_usize, |length, octet| length << 8 | usize::from(*octet));
    let is_minimal = octets[0] != 0 && length >= 0x80;
    if is_minimal { Ok((length, rest)) } else { Err(DerError::BadLength) }
}

/// One element around these parts.
pub(crate) fn write(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let octets = length.to_be_bytes();
    let octets = &octets[octets.iter().take_while(|octet| **octet == 0).count()..];
    let mut whole = Vec::with_capacity(length + octets.len() + 2);
    whole.push(tag);
    match octets {
        [] => whole.push(0),
        [short @ 0..0x80] => whole.push(*short),
        // A length has at most eight octets.
        long => whole.push(long.iter().fold(0x80, |count, _| count + 1)),
    }
    if length >= 0x80 {
        whole.extend_from_slice(octets);
    }
    parts.iter().for_each(|part| whole.extend_from_slice(part));
    whole
}

/// Checks that the bytes are exactly one well-formed element, nested at most `depth_max` deep, before anything reads them.
pub(crate) fn check_nesting(bytes: &[u8], depth_max: usize, what: &'static str) -> Result<(), DerError> {
    let mut open: Vec<Reader<'_>> = vec![Reader::new(bytes)];
    while let Some(reader) = open.last_mut() {
        if reader.is_empty() {
            open.pop();
            continue;
        }
        let element = reader.any()?;
        if open.len() == 1 {
            open[0].finish(what)?;
        }
        if element.tag & CONSTRUCTED != 0 {
            if open.len() > depth_max {
                return Err(DerError::TooDeep { depth_max });
            }
            open.push(element.inside());
        }
    }
    if bytes.is_empty() { Err(DerError::Truncated) } else { Ok(()) }
}

/// The numbers of an OBJECT IDENTIFIER's content; `None` if it is malformed or a number exceeds 64 bits.
pub(crate) fn oid_numbers(content: &[u8]) -> Option<Vec<u64>> {
    let mut numbers = Vec::new();
    let mut number = 0_u64;
    let mut is_open = false;
    for octet in content {
        if !is_open && *octet == 0x80 {
            return None;
        }
        number = number.checked_mul(128)?.checked_add(u64::from(octet & 0x7f))?;
        is_open = octet & 0x80 != 0;
        if !is_open {
            match numbers.is_empty() {
                true if number < 80 => numbers.extend([number / 40, number % 40]),
                true => numbers.extend([2, number - 80]),
                false => numbers.push(number),
            }
            number = 0;
        }
    }
    (!is_open && !numbers.is_empty()).then_some(numbers)
}

/// An OBJECT IDENTIFIER's content in dotted form, for messages.
pub(crate) fn oid_text(content: &[u8]) -> String {
    match oid_numbers(content) {
        Some(numbers) => numbers.iter().map(u64::to_string).collect::<Vec<_>>().join("."),
        None => "malformed".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_one_form() {
        let read = |bytes: &[u8]| Reader::new(bytes).any().map(|element| element.content.len());
        assert_eq!(read(&[4, 1, 9]), Ok(1));
        assert_eq!(read(&[4, 0x80, 0, 0]), Err(DerError::BadLength), "indefinite");
        assert_eq!(read(&[4, 0x81, 1, 9]), Err(DerError::BadLength), "one octet suffices");
        assert_eq!(read(&[4, 0x82, 0, 0x80]), Err(DerError::BadLength), "leading zero");
        assert_eq!(read(&[4, 0x85, 1, 0, 0, 0, 0]), Err(DerError::BadLength), "above 4 GiB");
        assert_eq!(read(&[4, 0x84, 0xff, 0xff, 0xff, 0xff]), Err(DerError::Truncated));
        assert_eq!(read(&[0x1f, 0x81, 1, 0]), Err(DerError::LongTag));
    }

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let content = vec![7; length];
            let (first, second) = content.split_at(length / 3);
            let whole = write(tag::SEQUENCE, &[first, second]);
            let read = Reader::single(&whole, tag::SEQUENCE, "it").map(|element| element.content.len());
            assert_eq!(read, Ok(length));
        }
    }

    #[test]
    fn integers_have_one_form() {
        let read = |content: &[u8]| {
            Element { tag: tag::INTEGER, content, whole: content }.unsigned("number").map(<[u8]>::to_vec)
        };
        assert_eq!(read(&[0]), Ok(vec![]));
        assert_eq!(read(&[0, 0x80]), Ok(vec![0x80]));
        assert_eq!(read(&[1, 0]), Ok(vec![1, 0]));
        for bad in [&[][..], &[0, 1], &[0x80], &[0, 0, 0x80]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nesting_is_bounded_without_recursion() {
        let nest = |depth: usize| {
            (0..depth).fold(vec![], |inside: Vec<u8>, _| {
                let length = u8::try_from(inside.len()).expect("the test nests little");
                [&[tag::SEQUENCE, length], inside.as_slice()].concat()
            })
        };
        assert_eq!(check_nesting(&nest(16), 16, "it"), Ok(()));
        assert_eq!(check_nesting(&nest(17), 16, "it"), Err(DerError::TooDeep { depth_max: 16 }));
        assert_eq!(check_nesting(&[], 16, "it"), Err(DerError::Truncated));
        assert_eq!(check_nesting(&[5, 0, 5, 0], 16, "it"), Err(DerError::TrailingBytes { bytes: 2, after: "it" }));
    }

    #[test]
    fn object_identifiers_are_read() {
        assert_eq!(oid_text(&[0x55, 0x1d, 0x11]), "2.5.29.17");
        assert_eq!(oid_text(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14]), "1.2.840.113549.1.9.14");
        assert_eq!(oid_text(&[0x55, 0x80, 1]), "malformed");
        assert_eq!(oid_text(&[0x55, 0x81]), "malformed");
        assert_eq!(oid_text(&[]), "malformed");
    }
}
