//! Figures of a program in Prometheus' text format, version 0.0.4. What is counted lives with the
//! programs.

use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The media type of the text.
pub const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A number that threads share.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Starts at 0.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds to it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Takes from it what was added.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }

    /// Replaces it.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Returns it.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How long something took, `N` classes and one for all that took longer.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    /// Upper bounds in microseconds, rising.
    bounds: [u64; N],
    buckets: [Counter; N],
    count: Counter,
    micros: Counter,
}

impl<const N: usize> Histogram<N> {
    /// Makes an empty one with these upper bounds in microseconds, which rise.
    pub const fn new(bounds: [u64; N]) -> Self {
        let buckets = [const { Counter::new() }; N];
        Self { bounds, buckets, count: Counter::new(), micros: Counter::new() }
    }

    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.count.add(1);
        self.micros.add(micros);
        if let Some(bucket) = self.bounds.iter().position(|bound| micros <= *bound) {
            self.buckets[bucket].add(1);
        }
    }

    /// Returns how many were counted.
    pub fn count(&self) -> u64 {
        self.count.get()
    }
}

/// What a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the program starts anew.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by class.
    Histogram,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A text that is being written.
#[derive(Debug)]
pub struct Page {
    /// What every name begins with.
    start: &'static str,
    text: String,
}

impl Page {
    /// Begins one of a program; all names are `START_NAME`.
    pub fn new(start: &'static str) -> Self {
        Self { start, text: String::with_capacity(4096) }
    }

    /// Begins a figure, whose samples follow.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let (start, kind) = (self.start, kind.word());
        let _ = writeln!(self.text, "# HELP {start}_{name} {help}\n# TYPE {start}_{name} {kind}");
    }

    /// Adds a sample with its labels.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "{}_{name}", self.start);
        for (n, (label, text)) in labels.iter().enumerate() {
            let open = if n == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{label}=\"{}\"", escaped(text));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }

    /// Adds a figure without labels.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// Adds a histogram; its name ends with its unit, seconds.
    pub fn histogram<const N: usize>(&mut self, name: &str, help: &str, of: &Histogram<N>) {
        self.family(name, Kind::Histogram, help);
        // Read first: one that is counted meanwhile must not make a class larger than all.
        let (count, micros) = (of.count.get(), of.micros.get());
        let mut below = 0;
        let bucket = format!("{name}_bucket");
        for (bound, counter) in of.bounds.iter().zip(&of.buckets) {
            below = (below + counter.get()).min(count);
            self.sample(&bucket, &[("le", &seconds(*bound))], below);
        }
        self.sample(&bucket, &[("le", "+Inf")], count);
        self.sample(&format!("{name}_sum"), &[], seconds(micros));
        self.sample(&format!("{name}_count"), &[], count);
    }

    /// Returns the text.
    pub fn finish(self) -> String {
        self.text
    }
}

/// Writes microseconds as seconds.
pub fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// Escapes the value of a label; what is no visible text is written out first, so that no value
/// steers whoever looks at it.
fn escaped(text: &str) -> String {
    shared::text::visible(text, &[]).replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let took = Histogram::new([250, 1_000_000]);
        took.observe(Duration::from_micros(200));
        took.observe(Duration::from_millis(20));
        took.observe(Duration::from_secs(9));
        let mut page = Page::new("vault_test");
        page.single("log_seq", Kind::Gauge, "Last entry.", 7);
        page.family("lag", Kind::Gauge, "Lag.");
        page.sample("lag", &[("machine", "vps"), ("target", "/a \"b\"\\\n\u{1b}[2J")], 1);
        page.histogram("commit_seconds", "Time.", &took);
        let expected = r#"# HELP vault_test_log_seq Last entry.
# TYPE vault_test_log_seq gauge
vault_test_log_seq 7
# HELP vault_test_lag Lag.
# TYPE vault_test_lag gauge
vault_test_lag{machine="vps",target="/a \"b\"\\\\n\\u001b[2J"} 1
# HELP vault_test_commit_seconds Time.
# TYPE vault_test_commit_seconds histogram
vault_test_commit_seconds_bucket{le="0.000250"} 1
vault_test_commit_seconds_bucket{le="1.000000"} 2
vault_test_commit_seconds_bucket{le="+Inf"} 3
vault_test_commit_seconds_sum 9.020200
vault_test_commit_seconds_count 3
"#;
        assert_eq!(page.finish(), expected);
    }
}
