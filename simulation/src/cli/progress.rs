//! What the command says to whoever waits for it: on standard error, so that what is asked for stands alone on standard output.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Says something.
#[expect(clippy::print_stderr, reason = "this is a command line")]
pub(super) fn say(text: &str) {
    eprintln!("{text}");
}

/// A bar for so many seeds. Off a terminal it stays silent.
pub(super) fn bar(seeds: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(seeds), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
