//! Where log lines go and what they look like. Bodies, tokens and values never get into one.

use serde::Deserialize;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, fmt};

/// What is logged, and how: `[log]` of every program's configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The least important messages shown.
    pub level: Level,
    /// How they look.
    pub format: Format,
}

/// How important a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Failures.
    Error,
    /// What needs a look.
    Warn,
    /// What was done.
    #[default]
    Info,
    /// Why.
    Debug,
    /// All of it; in release builds the same as `debug`.
    Trace,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people and journald.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Sends this process's log to standard error; without times where the journal adds its own.
pub fn start(log: Log) {
    let level = match log.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let registry = Registry::default();
    // A second start in one process keeps the first one's settings.
    let _ = match log.format {
        Format::Json => registry.with(lines.json().with_filter(level)).try_init(),
        Format::Text if logs_to_journal() => {
            let lines = lines.with_ansi(false).event_format(Journal::new());
            registry.with(lines.with_filter(level)).try_init()
        }
        Format::Text => registry.with(lines.with_ansi(false).with_filter(level)).try_init(),
    };
}

/// Tells whether standard error is systemd's journal: the variable alone is inherited by everybody.
fn logs_to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(std::io::stderr())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Lines for systemd's journal: it stamps them itself, and takes the priority off their beginning
/// (sd-daemon(3)), so that `journalctl -p warning` shows what it says.
struct Journal(fmt::format::Format<fmt::format::Full, ()>);

impl<S, N> fmt::FormatEvent<S, N> for Journal
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> fmt::FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &fmt::FmtContext<'_, S, N>,
        mut writer: fmt::format::Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let priority = match *event.metadata().level() {
            tracing::Level::ERROR => 3,
            tracing::Level::WARN => 4,
            tracing::Level::INFO => 6,
            tracing::Level::DEBUG | tracing::Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}

impl Journal {
    fn new() -> Self {
        let lines = fmt::format().with_target(false).with_ansi(false).without_time();
        Self(lines)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_journal_gets_a_priority_and_no_time() {
        let kept = Kept::default();
        let writer = kept.clone();
        let lines = fmt::layer().event_format(Journal::new()).with_writer(move || writer.clone());
        tracing::subscriber::with_default(Registry::default().with(lines), || {
            tracing::error!(file = "x", "one");
            tracing::warn!("two");
            tracing::info!("three");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "<3>ERROR one file=\"x\"\n<4> WARN two\n<6> INFO three\n");
    }
}
