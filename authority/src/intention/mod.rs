//! Intentions: which service may reach which, in Consul's terms. A row is one source of one destination, so that a write of one does not
//! touch the others.

pub mod bounds;
mod canonical;
mod draft;
mod entry;
mod pattern;
pub mod permission;
mod precedence;
mod verify;

pub use canonical::{Ambiguous, canonical_path};
pub use draft::{
    ClaimDraft, EntryDraft, HeaderDraft, HttpDraft, JwtDraft, JwtProviderDraft, PermissionDraft, SourceDraft,
};
pub use entry::{Action, DestinationKey, Intention, IntentionKey, Party, Rule};
pub use pattern::Pattern;
pub use permission::Permission;
pub use verify::{BadIntention, party_of_path, service_of_path};
