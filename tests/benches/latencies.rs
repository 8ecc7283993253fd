//! How long things took, sorted, and what people read of that.

use std::time::Duration;

/// Latencies, sorted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// Sorts them.
    pub(crate) fn new(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        Self(latencies)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// How many there are in a second.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(crate) fn rate(&self, seconds: f64) -> f64 {
        self.0.len() as f64 / seconds
    }

    /// The latency in milliseconds that this share of all is not above.
    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        let position = self.0.len() * percent / 100;
        self.0.get(position).or(self.0.last()).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    }
}
