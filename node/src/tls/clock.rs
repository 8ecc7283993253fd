//! The time by which certificates are judged: the replicated log's, never the machine's, so that a wrong clock neither
//! opens nor shuts a door.

use std::{fmt, sync::Arc, time::Duration};

use carrack_authority::time::Timestamp;
use rustls::{pki_types::UnixTime, time_provider::TimeProvider};

/// Tells the time for TLS. A server gives its log time; a client that has no log gives its wall clock.
#[derive(Clone)]
pub struct TlsClock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl TlsClock {
    /// The clock that asks `now`.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for TlsClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsClock({})", self.now())
    }
}

impl TimeProvider for TlsClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix(self.now()))
    }
}

/// The time as rustls and webpki write it.
pub(super) fn unix(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(time.0))
}

/// The time of rustls and webpki as ours.
pub(super) fn timestamp(time: UnixTime) -> Timestamp {
    Timestamp::from_seconds(time.as_secs())
}
