//! The leader's decisions, as pure functions from what was observed to what shall be done next. They hold no state and read no clock.

pub mod acknowledge;
pub mod initialize;
pub mod members;
pub mod reissue;
pub mod renew;
pub mod rotate;
pub mod seal;
pub mod sign;
