//! The one form in which paths are compared. What two servers could read in two ways has none (CVE-2024-10005, CVE-2024-10006).

use std::fmt::Write;

/// The longest path that is looked at.
const PATH_BYTES_MAX: usize = 8 * 1024;

/// Why something of a request has no canonical form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request's {what} `{text}` {reason}")]
pub struct Ambiguous {
    /// Which part.
    pub what: &'static str,
    /// Its beginning, escaped.
    pub text: String,
    /// Why.
    pub reason: &'static str,
}

pub(super) fn ambiguous(what: &'static str, text: &str, reason: &'static str) -> Ambiguous {
    Ambiguous { what, text: text.chars().take(64).flat_map(char::escape_default).collect(), reason }
}

/// RFC 9110 section 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_allowed)
}

/// A path without its query in its one form: what may stand in a path unescaped is unescaped, everything else is escaped in capitals,
/// `.` and `..` are gone, slashes are single (RFC 3986 section 6.2.2).
pub fn canonical_path(path: &str) -> Result<String, Ambiguous> {
    let refused = |reason| Err(ambiguous("path", path, reason));
    if path.len() > PATH_BYTES_MAX {
        return refused("is too long");
    }
    if !path.starts_with('/') {
        return refused("does not begin with `/`");
    }
    let unescaped = match unescape(path) {
        Ok(unescaped) => unescaped,
        Err(reason) => return refused(reason),
    };
    let Some(segments) = segments(&unescaped) else { return refused("leaves the root by `..`") };
    if segments.iter().any(|segment| is_dot_with_parameter(segment)) {
        return refused("has a `.` or `..` with a parameter");
    }
    Ok(segments.iter().flat_map(|segment| ["/", segment]).collect())
}

/// What may stand in a path's segment as it is (RFC 3986 section 3.3, `pchar`).
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'@') || is_sub_delimiter(byte)
}

const fn is_sub_delimiter(byte: u8) -> bool {
    matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

fn unescape(path: &str) -> Result<String, &'static str> {
    let (mut unescaped, mut bytes) = (String::with_capacity(path.len()), path.bytes());
    while let Some(byte) = bytes.next() {
        let is_escaped = byte == b'%';
        let byte = match is_escaped {
            true => escaped_byte(bytes.next(), bytes.next()).ok_or("has a `%` without two hexadecimal digits")?,
            false => byte,
        };
        match byte {
            b'/' if !is_escaped => unescaped.push('/'),
            b'/' => return Err("has an escaped `/`, which some read as a separator"),
            b'\\' => return Err("has a `\\`, which some read as a separator"),
            b'#' if !is_escaped => return Err("has a fragment"),
            0..0x20 | 0x7f => return Err("has a control character"),
            byte if is_plain(byte) => unescaped.push(char::from(byte)),
            byte => write!(unescaped, "%{byte:02X}").expect("a string takes whatever is written"),
        }
    }
    Ok(unescaped)
}

fn escaped_byte(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high?)? * 16 + digit(low?)?).ok()
}

/// The segments without `.`, `..` and empty ones; the last is empty if it names a directory. `None`: `..` above the root.
fn segments(path: &str) -> Option<Vec<&str>> {
    let mut kept = Vec::new();
    let mut is_directory = true;
    for segment in path.split('/') {
        is_directory = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()?),
            segment => kept.push(segment),
        }
    }
    if is_directory {
        kept.push("");
    }
    Some(kept)
}

/// Some servers cut off `;x` and then see a dot segment.
fn is_dot_with_parameter(segment: &str) -> bool {
    segment.split_once(';').is_some_and(|(name, _)| matches!(name, "." | ".."))
}

#[cfg(test)]
mod tests;
