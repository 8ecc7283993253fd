//! The bounds of intentions. They hold wherever a row was written; what is within them is not checked further when it is applied.

use super::{
    Effect, Intention, Party, Permission,
    permission::{JwtRequirement, Method, PathTest, ValueTest},
};

/// The most intentions: ten destinations with 10,000 sources each.
pub const INTENTIONS_MAX: usize = 100_000;
/// The most bytes of one intention: the largest `Meta` and as much again for permissions. One change in a follower's log holds at least one.
pub const INTENTION_BYTES_MAX: usize = 64 * 1024;
/// The most bytes of a destination that is written as a whole: one command in the log, about 1,000 plain sources. Larger ones are
/// written source by source.
pub const SERVICE_INTENTIONS_BYTES_MAX: usize = 256 * 1024;
/// The most bytes of all intentions of one destination: four times those of 10,000 plain sources. Agents are told them as a whole.
pub const DESTINATION_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The longest description (Consul's).
pub const DESCRIPTION_BYTES_MAX: usize = 512;
/// The most pairs of `Meta` (Consul's).
pub const META_PAIRS_MAX: usize = 64;
/// The longest key of `Meta` (Consul's).
pub const META_KEY_BYTES_MAX: usize = 128;
/// The longest value of `Meta` (Consul's).
pub const META_VALUE_BYTES_MAX: usize = 512;
/// The most permissions of one intention: each may be looked at for each request.
pub const PERMISSIONS_MAX: usize = 64;
/// The most headers of one permission.
pub const HEADERS_MAX: usize = 16;
/// The most regular expressions of one intention: each costs up to 128 KiB where it is used.
pub const PATTERNS_MAX: usize = 16;
/// The longest regular expression.
pub const PATTERN_BYTES_MAX: usize = 1024;
/// The longest path, header name or value.
pub const TEXT_BYTES_MAX: usize = 2048;
/// The most providers of one JWT requirement.
pub const JWT_PROVIDERS_MAX: usize = 8;
/// The most claims of one provider.
pub const CLAIMS_MAX: usize = 16;
/// The most names on the way to one claim.
pub const CLAIM_PATH_MAX: usize = 8;

/// Something is larger or more than it may be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {found}, at most {limit} are allowed")]
pub struct OutOfBounds {
    /// What, with its unit.
    pub what: &'static str,
    /// How much it is.
    pub found: usize,
    /// How much it may be.
    pub limit: usize,
}

fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), OutOfBounds> {
    if found <= limit { Ok(()) } else { Err(OutOfBounds { what, found, limit }) }
}

/// Whether an intention is within its bounds.
pub(crate) fn check(intention: &Intention) -> Result<(), OutOfBounds> {
    at_most("bytes of the description", intention.description.len(), DESCRIPTION_BYTES_MAX)?;
    at_most("pairs of Meta", intention.meta.len(), META_PAIRS_MAX)?;
    for (key, value) in &intention.meta {
        at_most("bytes of a key of Meta", key.len(), META_KEY_BYTES_MAX)?;
        at_most("bytes of a value of Meta", value.len(), META_VALUE_BYTES_MAX)?;
    }
    at_most("permissions", intention.permissions().len(), PERMISSIONS_MAX)?;
    intention.permissions().iter().try_for_each(check_permission)?;
    let patterns = intention.permissions().iter().map(|permission| permission.patterns().count()).sum();
    at_most("regular expressions", patterns, PATTERNS_MAX)?;
    intention.jwt.as_ref().map_or(Ok(()), check_jwt)?;
    at_most("bytes of the whole", intention.bytes(), INTENTION_BYTES_MAX)
}

fn check_permission(permission: &Permission) -> Result<(), OutOfBounds> {
    at_most("headers of a permission", permission.headers.len(), HEADERS_MAX)?;
    at_most("methods of a permission", permission.methods.len(), Method::ALL.len())?;
    let texts = permission.headers.iter().flat_map(|header| [header.name.len(), header.value.text().len()]);
    let longest = texts.chain([permission.path.text().len()]).max().unwrap_or_default();
    at_most("bytes of a path or header", longest, TEXT_BYTES_MAX)?;
    let longest = permission.patterns().map(|pattern| pattern.as_str().len()).max().unwrap_or_default();
    at_most("bytes of a regular expression", longest, PATTERN_BYTES_MAX)?;
    permission.jwt.as_ref().map_or(Ok(()), check_jwt)
}

fn check_jwt(jwt: &JwtRequirement) -> Result<(), OutOfBounds> {
    at_most("JWT providers", jwt.providers.len(), JWT_PROVIDERS_MAX)?;
    for provider in &jwt.providers {
        at_most("claims of a JWT provider", provider.claims.len(), CLAIMS_MAX)?;
        let longest = provider.claims.iter().map(|claim| claim.path.len()).max().unwrap_or_default();
        at_most("names on the way to a claim", longest, CLAIM_PATH_MAX)?;
    }
    Ok(())
}

/// What an intention has beside its texts: id, times, revisions, lengths.
const FIXED_BYTES: usize = 96;
/// What stands before each text: its length.
const LENGTH_BYTES: usize = 8;

impl Intention {
    /// How many bytes it has where it is stored, a few more or less.
    pub fn bytes(&self) -> usize {
        let name = |party: &Party| party.as_str().len();
        let meta = self.meta.iter().map(|(key, value)| 2 * LENGTH_BYTES + key.len() + value.len());
        let effect = match &self.effect {
            Effect::Action(_) => 0,
            Effect::Permissions(permissions) => permissions.iter().map(Permission::bytes).sum(),
        };
        let jwt = self.jwt.as_ref().map_or(0, JwtRequirement::bytes);
        let texts = name(&self.destination) + name(&self.source) + self.description.len();
        FIXED_BYTES + texts + meta.sum::<usize>() + effect + jwt
    }
}

impl Permission {
    fn bytes(&self) -> usize {
        let headers = self.headers.iter();
        let headers = headers.map(|header| 4 * LENGTH_BYTES + header.name.len() + header.value.text().len());
        let jwt = self.jwt.as_ref().map_or(0, JwtRequirement::bytes);
        6 * LENGTH_BYTES + self.path.text().len() + headers.sum::<usize>() + 4 * self.methods.len() + jwt
    }

    pub(super) fn patterns(&self) -> impl Iterator<Item = &super::Pattern> {
        let path = match &self.path {
            PathTest::Regex(pattern) => Some(pattern),
            _ => None,
        };
        let headers = self.headers.iter().filter_map(|header| match &header.value {
            ValueTest::Regex(pattern) => Some(pattern),
            _ => None,
        });
        path.into_iter().chain(headers)
    }
}

impl PathTest {
    fn text(&self) -> &str {
        match self {
            Self::Any => "",
            Self::Exact(text) | Self::Prefix(text) => text,
            Self::Regex(pattern) => pattern.as_str(),
        }
    }
}

impl ValueTest {
    fn text(&self) -> &str {
        match self {
            Self::Present => "",
            Self::Exact(text) | Self::Prefix(text) | Self::Suffix(text) | Self::Contains(text) => text,
            Self::Regex(pattern) => pattern.as_str(),
        }
    }
}

impl JwtRequirement {
    fn bytes(&self) -> usize {
        let claims = self.providers.iter().flat_map(|provider| &provider.claims);
        let names = self.providers.iter().map(|provider| 2 * LENGTH_BYTES + provider.name.len());
        let paths = claims.map(|claim| {
            let path = claim.path.iter().map(|name| LENGTH_BYTES + name.len());
            2 * LENGTH_BYTES + claim.value.len() + path.sum::<usize>()
        });
        LENGTH_BYTES + names.sum::<usize>() + paths.sum::<usize>()
    }
}
