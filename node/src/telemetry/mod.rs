//! What a running server tells about itself: log lines, metrics, alarms before certificates end. And what it does not
//! tell: core dumps and debuggers are shut out.

pub mod expiry;
pub mod exposition;
pub mod hardening;
pub mod labels;
pub mod logs;
pub mod metrics;
