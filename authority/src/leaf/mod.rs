//! Leaves: who may be named in one here, and the issuer that signs them.

mod issuer;
mod policy;

pub(crate) use issuer::end_entity_template;
pub use issuer::{LeafIssuer, LeafProfile};
pub use policy::{ForeignIdentity, check_local};
