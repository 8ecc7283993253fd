//! Who looks on at what this server says to other servers inside of TLS. On a real machine nobody does; the simulator searches it for
//! private keys.

use std::sync::Arc;

use crate::telemetry::labels::Port;

/// Sees the plaintext that is sent on one connection, in its order.
pub type Tap = Box<dyn FnMut(&[u8]) + Send>;

/// Makes the tap of each connection of a port, whichever side opened it.
pub type Taps = Arc<dyn Fn(Port) -> Tap + Send + Sync>;
