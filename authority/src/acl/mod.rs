//! Access control: tokens, policies and what they allow, as far as issuing and operating need them.

mod hcl;
pub mod policy;
pub mod resolve;
pub mod rules;
mod store;
pub mod token;

pub use hcl::SyntaxError;
pub use policy::{Policy, PolicyId};
pub use resolve::Authorizer;
pub use rules::{Rule, RulesError, parse_rules};
pub use store::Acl;
pub use token::{AccessorId, NodeIdentity, RoleId, ServiceIdentity, Token};
