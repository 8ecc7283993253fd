//! Intentions: which service may reach which, in Consul's terms. A row is one source of one destination, so that a write of one does not
//! touch the others; who decides among them is [`decide`].

mod authorize;
pub mod bounds;
mod by_source;
mod canonical;
pub mod claims;
mod decide;
mod draft;
mod entry;
mod pattern;
pub mod permission;
mod precedence;
mod request;
mod store;
mod verify;

pub use authorize::{Authorized, Connection, Ground, Known, authorize};
pub use by_source::IntentionsBySource;
pub use canonical::{Ambiguous, canonical_path};
pub use decide::{Decider, Decision, DefaultPolicy, L7Verdict, decide};
pub use draft::{
    ClaimDraft, EntryDraft, HeaderDraft, HttpDraft, JwtDraft, JwtProviderDraft, PermissionDraft, SourceDraft,
};
pub use entry::{Action, DestinationKey, Effect, Intention, IntentionKey, Party};
pub use pattern::Pattern;
pub use permission::Permission;
pub use request::Request;
pub use store::Intentions;
pub use verify::{BadIntention, party_of_path, service_of_path};
