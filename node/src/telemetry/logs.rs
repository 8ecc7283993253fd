//! Log lines: for people on a terminal, one JSON object a line otherwise, on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::{
    EnvFilter,
    filter::ParseError,
    fmt::MakeWriter,
    layer::{Layer, SubscriberExt},
    registry::Registry,
    util::SubscriberInitExt,
};

use crate::config::{LogFormat, LogSettings};

/// The variable that overrides the configured filter: `info`, `debug`, `info,carrack_raft=debug`.
pub const FILTER_VARIABLE: &str = "CARRACK_LOG";

/// Log lines could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The filter is none.
    #[error("`{filter}` is no log filter: expected a level such as `info`, or `info,carrack_raft=debug`")]
    BadFilter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Something else in this process logs already.
    #[error("log lines are set up already")]
    AlreadySet(#[source] tracing_subscriber::util::TryInitError),
}

/// Sets up log lines for the whole process, once. `variable` is the value of [`FILTER_VARIABLE`].
pub fn init(settings: &LogSettings, variable: Option<&str>) -> Result<(), LogsError> {
    let form = resolve(settings.format, io::stderr().is_terminal());
    let layer = layer(form, variable.unwrap_or(&settings.level), io::stderr)?;
    tracing_subscriber::registry().with(layer).try_init().map_err(LogsError::AlreadySet)
}

/// The form that `Auto` stands for.
fn resolve(format: LogFormat, is_terminal: bool) -> LogFormat {
    match format {
        LogFormat::Auto if is_terminal => LogFormat::Pretty,
        LogFormat::Auto => LogFormat::Json,
        chosen => chosen,
    }
}

fn layer<W>(form: LogFormat, filter: &str, writer: W) -> Result<Box<dyn Layer<Registry> + Send + Sync>, LogsError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let bad = |source| LogsError::BadFilter { filter: filter.into(), source };
    let filter = EnvFilter::builder().parse(filter).map_err(bad)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    Ok(match form {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_filter(filter).boxed(),
        LogFormat::Auto | LogFormat::Pretty => lines.compact().with_filter(filter).boxed(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines_of(form: LogFormat, filter: &str) -> String {
        let written = Written::default();
        let sink = written.clone();
        let subscriber = tracing_subscriber::registry().with(layer(form, filter, move || sink.clone()).unwrap());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(node = 3, "a server joined");
            tracing::debug!("unimportant");
        });
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_have_their_fields_at_the_top() {
        let text = lines_of(LogFormat::Json, "info");
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["level"], &line["message"]), (&"INFO".into(), &"a server joined".into()));
        assert_eq!(line["node"], 3);
    }

    #[test]
    fn the_filter_decides_what_is_written() {
        assert_eq!(lines_of(LogFormat::Pretty, "debug").lines().count(), 2);
        assert_eq!(lines_of(LogFormat::Pretty, "warn"), "");
        assert!(matches!(layer(LogFormat::Json, "info,=,,[", io::sink), Err(LogsError::BadFilter { .. })));
    }

    #[test]
    fn auto_is_pretty_on_a_terminal_only() {
        assert_eq!(resolve(LogFormat::Auto, true), LogFormat::Pretty);
        assert_eq!(resolve(LogFormat::Auto, false), LogFormat::Json);
        assert_eq!(resolve(LogFormat::Json, true), LogFormat::Json);
    }
}
