//! Where log lines go and what they look like. No value, token or body ever gets into one.

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, fmt};

use crate::config::{Level, Log, LogFormat};

/// Sends this process's log to standard error.
pub(super) fn start(log: Log) {
    let level = match log.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
    let registry = Registry::default();
    // A second start in one process keeps the first one's settings.
    let _ = match log.format {
        LogFormat::Json => registry.with(lines.json().with_filter(level)).try_init(),
        // The journal stamps each line itself.
        LogFormat::Text if std::env::var_os("JOURNAL_STREAM").is_some() => {
            registry.with(lines.without_time().with_filter(level)).try_init()
        }
        LogFormat::Text => {
            registry.with(lines.with_timer(SystemTime).with_filter(level)).try_init()
        }
    };
}
