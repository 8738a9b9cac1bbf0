//! Counters of this process, and their Prometheus text. No names of secrets or machines.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use shared::wire::v1::shares::OverShare;

/// Upper bounds of the commit histogram in microseconds.
const BOUNDS: [u64; 10] =
    [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 64_000, 256_000, 1_000_000];

/// Classes of answers, by their first digit, from 2 to 5.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// A number that threads share.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }

    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What is counted; what each counter means stands in its help text below.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: [Counter; CLASSES.len()],
    pub strangers: Counter,
    pub clones: Counter,
    pub connections: Counter,
    pub refused_connections: Counter,
    pub followers: Counter,
    pub seq: Counter,
    pub audit: Counter,
    pub failures: Counter,
    pub restored: Counter,
    pub backup_failing: Counter,
    pub disk_used: Counter,
    pub disk_free: Counter,
    pub commits: Counter,
    pub commit_works: Counter,
    commit_micros: Counter,
    commit_buckets: [Counter; BOUNDS.len()],
}

impl Metrics {
    /// Counts an answer by its status.
    pub fn answered(&self, status: u16) {
        let class = usize::from(status / 100).checked_sub(2);
        if let Some(counter) = class.and_then(|class| self.requests.get(class)) {
            counter.add(1);
        }
    }

    /// Counts a commit of `works` pieces of work.
    pub fn committed(&self, works: usize, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commits.add(1);
        self.commit_works.add(works as u64);
        self.commit_micros.add(micros);
        if let Some(bucket) = BOUNDS.iter().position(|bound| micros <= *bound) {
            self.commit_buckets[bucket].add(1);
        }
    }

    /// Writes all in Prometheus' text format, version 0.0.4.
    pub fn render(&self, unread: u64, over: &[OverShare]) -> String {
        let mut text = String::with_capacity(4096);
        let out = &mut text;
        let version = host::version::own();
        head(out, "build_info", "gauge", "Version of the program.");
        let _ = writeln!(out, "vault_server_build_info{{version=\"{version}\"}} 1");
        head(out, "requests_total", "counter", "Answers by class of status.");
        for (class, counter) in CLASSES.iter().zip(&self.requests) {
            let count = counter.get();
            let _ = writeln!(out, "vault_server_requests_total{{class=\"{class}\"}} {count}");
        }
        let plain: [(&str, &str, &str, &Counter); 13] = [
            ("strangers_total", "counter", "Requests by unknown keys.", &self.strangers),
            (
                "clones_total",
                "counter",
                "Times that two processes used one machine's keys in turn.",
                &self.clones,
            ),
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
            (
                "backup_failing",
                "gauge",
                "1 while the backups of the configuration fail.",
                &self.backup_failing,
            ),
            (
                "restored",
                "gauge",
                "1 while the database lacks entries that were given out, else 0.",
                &self.restored,
            ),
            ("store_failures_total", "counter", "Failures of the database.", &self.failures),
            ("disk_used_percent", "gauge", "Used part of the data's disk.", &self.disk_used),
            ("disk_free_bytes", "gauge", "Free bytes on the data's disk.", &self.disk_free),
            (
                "commit_works_total",
                "counter",
                "Pieces of work that shared the commits.",
                &self.commit_works,
            ),
        ];
        for (name, kind, help, value) in plain {
            head(out, name, kind, help);
            let _ = writeln!(out, "vault_server_{name} {}", value.get());
        }
        head(out, "answer_bytes", "gauge", "Bytes of answers that machines have not read yet.");
        let _ = writeln!(out, "vault_server_answer_bytes {unread}");
        head(out, "over_share_total", "counter", "Requests refused over a machine's share.");
        for OverShare { machine, share, count, .. } in over {
            let labels = format!("machine=\"{machine}\",share=\"{share}\"");
            let _ = writeln!(out, "vault_server_over_share_total{{{labels}}} {count}");
        }
        self.render_commits(out);
        text
    }

    fn render_commits(&self, out: &mut String) {
        let name = "vault_server_commit_seconds";
        head(out, "commit_seconds", "histogram", "Time of a commit, the work in it included.");
        let mut below = 0;
        for (bound, counter) in BOUNDS.iter().zip(&self.commit_buckets) {
            below += counter.get();
            let _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {below}", seconds(*bound));
        }
        let count = self.commits.get();
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum {}", seconds(self.commit_micros.get()));
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
    use shared::time::Time;
    use shared::wire::v1::shares::Share;

    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let metrics = Metrics::default();
        metrics.answered(201);
        metrics.answered(403);
        metrics.seq.set(7);
        metrics.audit.set(9);
        metrics.committed(3, Duration::from_micros(400));
        metrics.committed(1, Duration::from_secs(9));
        let (machine, share, last) = (3, Share::Audit, Time::from_micros(1));
        let text = metrics.render(5, &[OverShare { machine, share, count: 812, last }]);
        for line in [
            "vault_server_requests_total{class=\"2xx\"} 1",
            "vault_server_requests_total{class=\"4xx\"} 1",
            "vault_server_log_seq 7",
            "vault_server_audit_records 9",
            "vault_server_commit_works_total 4",
            "vault_server_answer_bytes 5",
            "vault_server_over_share_total{machine=\"3\",share=\"audit\"} 812",
            "vault_server_commit_seconds_bucket{le=\"0.000250\"} 0",
            "vault_server_commit_seconds_bucket{le=\"0.000500\"} 1",
            "vault_server_commit_seconds_bucket{le=\"+Inf\"} 2",
            "vault_server_commit_seconds_sum 9.000400",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
