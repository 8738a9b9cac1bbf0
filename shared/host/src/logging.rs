//! Where log lines go and what they look like. Bodies, tokens and values never get into one.
//!
//! One event is one line, whatever its texts hold: [`Lines`] writes out what would steer a terminal
//! or forge another line. The same warning is shown a few times a minute at most: [`Sparing`].

mod file;

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash as _, Hasher as _};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, fmt};

use self::file::LogFile;
use crate::shown::Shown;

/// How often the same warning is shown within [`SPELL`].
const OFTEN: u32 = 5;
/// See [`OFTEN`].
const SPELL: Duration = Duration::from_secs(60);
/// Warnings that are told apart at a time.
const MOST_KNOWN: usize = 1_024;

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

/// Sends this process's log to standard error; without times where the journal adds its own. A file
/// there that is `PROGRAM.log` in a private folder is kept from growing without bound.
pub fn start(log: Log, program: &str) {
    let level = match log.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let own = Arc::new(LogFile::own(program));
    let lines = fmt::layer()
        .with_writer(move || Lines(Bounded(Arc::clone(&own))))
        .with_target(false)
        .with_ansi_sanitization(false);
    let registry = Registry::default();
    // A second start in one process keeps the first one's settings.
    let _ = match log.format {
        Format::Json => {
            let lines = lines.json().map_event_format(Sparing::new);
            registry.with(lines.with_filter(level)).try_init()
        }
        Format::Text if logs_to_journal() => {
            let lines = lines.with_ansi(false).event_format(Sparing::new(Journal::new()));
            registry.with(lines.with_filter(level)).try_init()
        }
        Format::Text => registry.with(lines.with_ansi(false).with_filter(level)).try_init(),
    };
}

/// Tells whether standard error is systemd's journal: the variable alone is inherited by everybody.
fn logs_to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Formats events, and the same warning [`OFTEN`] times in a [`SPELL`] only: a trouble that comes
/// back ten times a second must not fill the disk, nor hide all others.
struct Sparing<F> {
    lines: F,
    told: Mutex<HashMap<u64, Told>>,
}

/// A warning, by what it says.
#[derive(Clone, Copy)]
struct Told {
    since: Instant,
    count: u32,
}

impl<F> Sparing<F> {
    fn new(lines: F) -> Self {
        Self { lines, told: Mutex::default() }
    }

    /// Tells how often a warning has come in its spell, this time included.
    fn count(&self, warning: u64, now: Instant) -> u32 {
        let is_over = |told: &Told| now.duration_since(told.since) >= SPELL;
        let mut all = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_KNOWN {
            all.retain(|_, told| !is_over(told));
        }
        if all.len() >= MOST_KNOWN {
            all.clear();
        }
        let told = all.entry(warning).or_insert(Told { since: now, count: 0 });
        if is_over(told) {
            *told = Told { since: now, count: 0 };
        }
        told.count = told.count.saturating_add(1);
        told.count
    }
}

impl<S, N, F> fmt::FormatEvent<S, N> for Sparing<F>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> fmt::FormatFields<'a> + 'static,
    F: fmt::FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &fmt::FmtContext<'_, S, N>,
        mut writer: fmt::format::Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let metadata = event.metadata();
        if *metadata.level() > tracing::Level::WARN {
            return self.lines.format_event(context, writer, event);
        }
        let mut said = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            let _ = write!(said, "{field}={value:?} ");
        });
        let mut hasher = DefaultHasher::new();
        (metadata.file(), metadata.line(), said).hash(&mut hasher);
        let count = self.count(hasher.finish(), Instant::now());
        if count > OFTEN {
            // Nothing is written at all.
            return Ok(());
        }
        if count < OFTEN {
            return self.lines.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.lines.format_event(context, fmt::format::Writer::new(&mut line), event)?;
        let line = line.trim_end_matches('\n');
        match line.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(rest) => writeln!(writer, "{{{rest},\"often\":true}}"),
            None => writeln!(writer, "{line} (the same again is not shown for a minute)"),
        }
    }
}

/// Writes events, each as one line of visible text. The formatter hands each over whole; JSON
/// means the same afterwards.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = event.strip_suffix(b"\n").unwrap_or(event);
        let line = Shown::line(String::from_utf8_lossy(text)).ended();
        self.0.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Standard error; its file is set aside in time, if it is this program's own.
struct Bounded(Arc<Option<LogFile>>);

impl Write for Bounded {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut err = io::stderr();
        let made = self.0.as_ref().as_ref().map_or(Ok(()), |own| own.make_room(line.len() as u64));
        if let Err(why) = made {
            writeln!(err, "this log grows, and cannot be set aside: {why}")?;
        }
        err.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
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
    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_that_steers_nothing() {
        let hostile = "a\u{1b}[2K\r\n ERROR forged\u{9b}\u{202E}\u{200B}";
        let events = || {
            tracing::info!(field = hostile, shown = %hostile, "{hostile}");
            let _in = tracing::info_span!("span", field = %hostile).entered();
            tracing::info!("{}", "x".repeat(100_000));
        };
        let text = Kept::default();
        let writer = text.clone();
        let layer = fmt::layer().with_ansi(false).with_ansi_sanitization(false);
        let layer = layer.with_writer(move || Lines(writer.clone()));
        tracing::subscriber::with_default(Registry::default().with(layer), events);
        let json = Kept::default();
        let writer = json.clone();
        let layer = fmt::layer().json().with_writer(move || Lines(writer.clone()));
        tracing::subscriber::with_default(Registry::default().with(layer), events);
        for kept in [text, json.clone()] {
            let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(text.contains("u001b[2K"), "{text}");
            let seen = |c: char| c == '\n' || !shared::text::is_invisible(c);
            assert!(text.chars().all(seen), "{text}");
        }
        let first = json.0.lock().unwrap().clone();
        let first = first.split(|byte| *byte == b'\n').next().unwrap();
        #[derive(Deserialize)]
        struct Line {
            fields: Fields,
        }
        #[derive(Deserialize)]
        struct Fields {
            message: String,
            field: String,
        }
        let Line { fields } = serde_json::from_slice(first).unwrap();
        assert_eq!((fields.message.as_str(), fields.field.as_str()), (hostile, hostile));
    }

    #[test]
    fn the_same_warning_is_shown_a_few_times_a_minute() {
        let (text, json) = (Kept::default(), Kept::default());
        let events = || {
            for n in 0..100 {
                tracing::warn!(who = "a", "one");
                tracing::info!("news");
                tracing::error!(n, "each another");
            }
            tracing::warn!(who = "b", "one");
        };
        let writer = text.clone();
        let lines = fmt::layer().without_time().with_ansi(false).map_event_format(Sparing::new);
        let lines = lines.with_writer(move || Lines(writer.clone()));
        tracing::subscriber::with_default(Registry::default().with(lines), events);
        let writer = json.clone();
        let lines = fmt::layer().json().map_event_format(Sparing::new);
        let lines = lines.with_writer(move || Lines(writer.clone()));
        tracing::subscriber::with_default(Registry::default().with(lines), events);
        let [text, json] = [text, json].map(|kept| {
            let kept = kept.0.lock().unwrap().clone();
            String::from_utf8(kept).unwrap()
        });
        for (kept, who, often) in [
            (&text, ["who=\"a\"", "who=\"b\""], "the same again is not shown"),
            (&json, ["\"who\":\"a\"", "\"who\":\"b\""], ",\"often\":true}"),
        ] {
            let count = |part: &str| kept.lines().filter(|line| line.contains(part)).count();
            assert_eq!(who.map(count), [5, 1], "{kept}");
            assert_eq!((count(often), count("news"), count("each another")), (1, 100, 100));
        }
    }

    #[test]
    fn a_warning_is_shown_again_after_a_while_and_few_are_remembered() {
        let (sparing, now) = (Sparing::new(()), Instant::now());
        for expected in 1..=20 {
            assert_eq!(sparing.count(7, now), expected);
        }
        assert_eq!(sparing.count(7, now + SPELL), 1);
        for warning in 0..10_000 {
            sparing.count(warning, now);
        }
        assert!(sparing.told.lock().unwrap().len() <= MOST_KNOWN);
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
