//! Permissions: what of HTTP requests is allowed or denied. Which requests a permission fits is decided on their canonical form.

use serde::{Deserialize, Serialize};

use super::{Action, Pattern};

/// What holds for the requests that it fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// What holds.
    pub action: Action,
    /// Of the path.
    pub path: PathTest,
    /// Of the headers: each of them.
    pub headers: Vec<HeaderTest>,
    /// The methods that it is about; empty: all.
    pub methods: Vec<Method>,
    /// Of the request's JWT.
    pub jwt: Option<JwtRequirement>,
}

/// What a path must be, in its canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathTest {
    /// Whatever it is.
    Any,
    /// This.
    Exact(String),
    /// It begins so.
    Prefix(String),
    /// The whole of it fits this.
    Regex(Pattern),
}

/// What a header must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderTest {
    /// Its name, as it was written; letter case does not matter.
    pub name: String,
    /// Its value.
    pub value: ValueTest,
    /// Whether it must be otherwise.
    pub is_inverted: bool,
    /// Whether the case of ASCII letters in the value does not matter.
    pub ignores_case: bool,
}

/// What a header's value must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueTest {
    /// Whatever it is.
    Present,
    /// This.
    Exact(String),
    /// It begins so.
    Prefix(String),
    /// It ends so.
    Suffix(String),
    /// This is somewhere in it.
    Contains(String),
    /// The whole of it fits this.
    Regex(Pattern),
}

/// What the JWT of a request must say: one of these providers vouches for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwtRequirement {
    /// The providers.
    pub providers: Vec<JwtProvider>,
}

/// A provider that vouches for a JWT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwtProvider {
    /// Its name.
    pub name: String,
    /// What the JWT must say beside that: all of it.
    pub claims: Vec<ClaimTest>,
}

/// A claim with a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimTest {
    /// The names on the way to it.
    pub path: Vec<String>,
    /// What it must be, or what must be in the list that it is.
    pub value: String,
}

macro_rules! methods {
    ($($name:ident = $text:literal,)*) => {
        /// A method that a permission may name: those of RFC 9110 and `PATCH`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Method {
            $(#[doc = concat!("`", $text, "`")] $name,)*
        }

        impl Method {
            /// Every method.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

methods! {
    Get = "GET",
    Head = "HEAD",
    Post = "POST",
    Put = "PUT",
    Patch = "PATCH",
    Delete = "DELETE",
    Connect = "CONNECT",
    Options = "OPTIONS",
    Trace = "TRACE",
}

impl Method {
    /// The method of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|method| method.as_str() == name)
    }
}
