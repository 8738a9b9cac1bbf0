//! Where log lines go and what they look like. Bodies, tokens and values never get into one.

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, fmt};

use crate::config::{Format, Level, Log, logs_to_journal};

/// Sends this process's log to standard error.
pub fn start(log: &Log) {
    let level = match log.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let registry = Registry::default();
    // A second start in one process keeps the first one's settings.
    let _ = match log.format {
        Format::Json => registry.with(lines.json().with_filter(level)).try_init(),
        Format::Human if logs_to_journal() => {
            registry.with(lines.with_ansi(false).without_time().with_filter(level)).try_init()
        }
        Format::Human => {
            let lines = lines.with_ansi(false).with_timer(SystemTime);
            registry.with(lines.with_filter(level)).try_init()
        }
    };
}
