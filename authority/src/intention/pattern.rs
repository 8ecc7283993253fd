//! Regular expressions of permissions. They are checked when they are written, stored as text, compiled when they are first needed,
//! and run in time linear in what they look at.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most bytes of a compiled expression, and of what it remembers as it runs, each. A class repeated a thousand times is above it.
const COMPILED_BYTES_MAX: usize = 64 * 1024;

/// A regular expression that must fit the whole text. Bytes, not characters: paths and headers are ASCII.
#[derive(Clone)]
pub struct Pattern {
    text: Arc<str>,
    /// `None`: this build does not take it.
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// The pattern of this text, unchecked.
    pub fn new(text: &str) -> Self {
        Self { text: text.into(), compiled: OnceLock::new() }
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Why it is no expression that is taken.
    pub fn check(&self) -> Result<(), String> {
        compile(&self.text).map(|_| ()).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => format!("it needs more than {COMPILED_BYTES_MAX} bytes when compiled"),
            // The last line says what is wrong; those before draw where.
            error => error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
        })
    }

    /// Whether this build takes the expression.
    pub fn is_taken(&self) -> bool {
        self.compiled().is_some()
    }

    /// Whether the whole text fits; `None` if this build does not take the expression.
    pub fn fits(&self, text: &str) -> Option<bool> {
        self.compiled().map(|regex| regex.is_match(text.as_bytes()))
    }

    fn compiled(&self) -> Option<&Regex> {
        self.compiled.get_or_init(|| compile(&self.text).ok()).as_ref()
    }
}

fn compile(text: &str) -> Result<Regex, regex::Error> {
    // By itself first: `a)|(b` would otherwise close the group around it and leave the anchors.
    build(text)?;
    build(&format!(r"\A(?:{text})\z"))
}

fn build(text: &str) -> Result<Regex, regex::Error> {
    let mut builder = RegexBuilder::new(text);
    builder.unicode(false).size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).build()
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Arc::<str>::deserialize(deserializer).map(|text| Self { text, compiled: OnceLock::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_text_must_fit() {
        for (pattern, text, fits) in [
            ("/v[0-9]+", "/v12", true),
            ("/v[0-9]+", "/v12/admin", false),
            ("/v[0-9]+", "/x/v12", false),
            ("/a|/b", "/b", true),
            ("/a|/b", "/a/b", false),
            ("(?i)/a", "/A", true),
            ("/a$", "/a\n", false),
        ] {
            assert_eq!(Pattern::new(pattern).fits(text), Some(fits), "{pattern} {text:?}");
        }
    }

    #[test]
    fn what_would_leave_its_anchors_or_grow_without_bound_is_refused() {
        for pattern in ["a)|(b", "(?x)a #", "(", "[", r"\p{Greek}", "(a{1000}){1000}", "(?:[a-z0-9]{200}){200}"] {
            let pattern = Pattern::new(pattern);
            let why = pattern.check().unwrap_err();
            assert!(!why.is_empty() && !why.contains('\n'), "{pattern:?}: {why:?}");
            assert_eq!(pattern.fits("/a"), None, "{pattern:?}");
        }
        assert_eq!(Pattern::new("/[a-z]{1,64}/.*").check(), Ok(()));
    }
}
