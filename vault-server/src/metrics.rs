//! Counters of this process, and their Prometheus text. No names of secrets or machines.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the commit histogram in microseconds.
const BOUNDS: [u64; 10] =
    [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 64_000, 256_000, 1_000_000];

/// Classes of answers, by their first digit, from 2 to 5.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// What is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: [AtomicU64; CLASSES.len()],
    strangers: AtomicU64,
    connections: AtomicU64,
    refused_connections: AtomicU64,
    followers: AtomicU64,
    seq: AtomicU64,
    audit: AtomicU64,
    failures: AtomicU64,
    commits: AtomicU64,
    commit_works: AtomicU64,
    commit_micros: AtomicU64,
    commit_buckets: [AtomicU64; BOUNDS.len()],
}

impl Metrics {
    /// Counts an answer by its status.
    pub fn answered(&self, status: u16) {
        let class = usize::from(status / 100).saturating_sub(2);
        if let Some(counter) = self.requests.get(class) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Counts a request by a key that belongs to no active machine.
    pub fn stranger(&self) {
        self.strangers.fetch_add(1, Relaxed);
    }

    /// Notes a connection that was opened.
    pub fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// Notes a connection that was closed.
    pub fn disconnected(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// Counts a connection that was turned away.
    pub fn turned_away(&self) {
        self.refused_connections.fetch_add(1, Relaxed);
    }

    /// Notes how many streams follow the log.
    pub fn following(&self, followers: usize) {
        self.followers.store(u64::try_from(followers).unwrap_or(u64::MAX), Relaxed);
    }

    /// Notes how far the log and the audit chain are.
    pub fn reached(&self, seq: u64, audit: u64) {
        self.seq.store(seq, Relaxed);
        self.audit.store(audit, Relaxed);
    }

    /// Counts a failure of the database.
    pub fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// Counts a commit of `works` pieces of work.
    pub fn committed(&self, works: usize, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commits.fetch_add(1, Relaxed);
        self.commit_works.fetch_add(u64::try_from(works).unwrap_or(u64::MAX), Relaxed);
        self.commit_micros.fetch_add(micros, Relaxed);
        let bucket = BOUNDS.iter().position(|bound| micros <= *bound);
        if let Some(counter) = bucket.and_then(|at| self.commit_buckets.get(at)) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Returns how many commits there were, and how many pieces of work they carried.
    #[must_use]
    #[cfg(test)]
    pub fn commits(&self) -> (u64, u64) {
        (self.commits.load(Relaxed), self.commit_works.load(Relaxed))
    }

    /// Writes all in Prometheus' text format, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(4096);
        let out = &mut text;
        let version = env!("CARGO_PKG_VERSION");
        head(out, "build_info", "gauge", "Version of the program.");
        let _ = writeln!(out, "vault_server_build_info{{version=\"{version}\"}} 1");
        head(out, "requests_total", "counter", "Answers by class of status.");
        for (class, counter) in CLASSES.iter().zip(&self.requests) {
            let count = counter.load(Relaxed);
            let _ = writeln!(out, "vault_server_requests_total{{class=\"{class}\"}} {count}");
        }
        let plain: [(&str, &str, &str, &AtomicU64); 8] = [
            ("strangers_total", "counter", "Requests by unknown keys.", &self.strangers),
            ("connections", "gauge", "Open connections.", &self.connections),
            (
                "connections_refused_total",
                "counter",
                "Connections turned away, or that did not finish their handshake.",
                &self.refused_connections,
            ),
            ("followers", "gauge", "Streams that follow the log.", &self.followers),
            ("log_seq", "gauge", "Last entry of the log.", &self.seq),
            ("audit_records", "gauge", "Records in the audit chain.", &self.audit),
            ("store_failures_total", "counter", "Failures of the database.", &self.failures),
            (
                "commit_works_total",
                "counter",
                "Pieces of work that shared the commits.",
                &self.commit_works,
            ),
        ];
        for (name, kind, help, value) in plain {
            head(out, name, kind, help);
            let _ = writeln!(out, "vault_server_{name} {}", value.load(Relaxed));
        }
        self.render_commits(out);
        text
    }

    fn render_commits(&self, out: &mut String) {
        let name = "vault_server_commit_seconds";
        head(out, "commit_seconds", "histogram", "Time of a commit, the work in it included.");
        let mut below = 0;
        for (bound, counter) in BOUNDS.iter().zip(&self.commit_buckets) {
            below += counter.load(Relaxed);
            let _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {below}", seconds(*bound));
        }
        let count = self.commits.load(Relaxed);
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum {}", seconds(self.commit_micros.load(Relaxed)));
        let _ = writeln!(out, "{name}_count {count}");
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP vault_server_{name} {help}\n# TYPE vault_server_{name} {kind}");
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let metrics = Metrics::default();
        metrics.answered(201);
        metrics.answered(403);
        metrics.reached(7, 9);
        metrics.committed(3, Duration::from_micros(400));
        metrics.committed(1, Duration::from_secs(9));
        let text = metrics.render();
        for line in [
            "vault_server_requests_total{class=\"2xx\"} 1",
            "vault_server_requests_total{class=\"4xx\"} 1",
            "vault_server_log_seq 7",
            "vault_server_audit_records 9",
            "vault_server_commit_works_total 4",
            "vault_server_commit_seconds_bucket{le=\"0.000250\"} 0",
            "vault_server_commit_seconds_bucket{le=\"0.000500\"} 1",
            "vault_server_commit_seconds_bucket{le=\"+Inf\"} 2",
            "vault_server_commit_seconds_sum 9.000400",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
