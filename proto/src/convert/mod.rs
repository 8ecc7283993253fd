//! Between the wire's messages and the domain's values. What comes from a peer is checked here for its form; what it means is
//! checked by whoever takes it over.

pub mod agent;
pub mod wan;
