//! What this process counts for Prometheus, in one place for the whole process, as the log is.
//! Writing it out does not live here. No names of secrets, keys or callers.

use std::time::Duration;

use host::exposition::{Counter, Histogram};

/// Upper bounds for hooks, in microseconds.
const OF_HOOKS: [u64; 8] =
    [50_000, 250_000, 1_000_000, 5_000_000, 15_000_000, 60_000_000, 300_000_000, 3_600_000_000];
/// Upper bounds for deliveries.
const OF_DELIVERIES: [u64; 10] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    30_000_000,
    300_000_000,
    3_600_000_000,
];
/// Upper bounds for reads.
const OF_READS: [u64; 9] =
    [500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000, 10_000_000];

/// The counters of this process.
pub static METRICS: Metrics = Metrics::new();

/// What is counted.
#[derive(Debug)]
pub struct Metrics {
    /// Runs of hooks that have ended well.
    pub hooks_ok: Counter,
    /// Runs of hooks that have failed.
    pub hooks_failed: Counter,
    /// How long hooks ran.
    pub hooks: Histogram<{ OF_HOOKS.len() }>,
    /// From when a version was written, by the writer's clock, until a file held it.
    pub deliveries: Histogram<{ OF_DELIVERIES.len() }>,
    /// How long reads of secrets by the local API took.
    pub reads: Histogram<{ OF_READS.len() }>,
}

impl Metrics {
    const fn new() -> Self {
        Self {
            hooks_ok: Counter::new(),
            hooks_failed: Counter::new(),
            hooks: Histogram::new(OF_HOOKS),
            deliveries: Histogram::new(OF_DELIVERIES),
            reads: Histogram::new(OF_READS),
        }
    }

    /// Counts a run of a hook.
    pub fn hook_ran(&self, well: bool, took: Duration) {
        if well { &self.hooks_ok } else { &self.hooks_failed }.add(1);
        self.hooks.observe(took);
    }
}
