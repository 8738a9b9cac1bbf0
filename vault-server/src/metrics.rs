//! Counters of this process, and their Prometheus text. No names of secrets or machines.

use std::time::Duration;

use host::exposition::{Histogram, Kind, Page};
use shared::wire::v1::shares::{NearShare, OverShare};

pub use host::exposition::Counter;

/// Upper bounds of the commit histogram in microseconds.
const BOUNDS: [u64; 10] =
    [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 64_000, 256_000, 1_000_000];

/// Classes of answers, by their first digit, from 2 to 5.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// What is counted; what each counter means stands in its help text below.
#[derive(Debug)]
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
    /// Seconds since 1970; 0 for never.
    pub backup_time: Counter,
    pub database: Counter,
    pub disk_used: Counter,
    pub disk_free: Counter,
    pub commit_works: Counter,
    pub commits: Histogram<{ BOUNDS.len() }>,
}

impl Default for Metrics {
    fn default() -> Self {
        let new = Counter::new;
        Self {
            requests: Default::default(),
            strangers: new(),
            clones: new(),
            connections: new(),
            refused_connections: new(),
            followers: new(),
            seq: new(),
            audit: new(),
            failures: new(),
            restored: new(),
            backup_failing: new(),
            backup_time: new(),
            database: new(),
            disk_used: new(),
            disk_free: new(),
            commit_works: new(),
            commits: Histogram::new(BOUNDS),
        }
    }
}

/// What the meter and the hub know at the moment.
#[derive(Debug, Default)]
pub struct Moment {
    /// Bytes of answers that machines have not read yet.
    pub unread: u64,
    pub over: Vec<OverShare>,
    pub near: Vec<NearShare>,
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
        self.commit_works.add(works as u64);
        self.commits.observe(took);
    }

    /// Writes all in Prometheus' text format.
    pub fn render(&self, moment: &Moment) -> String {
        let mut page = Page::new("vault_server");
        page.family("build_info", Kind::Gauge, "Version of the program.");
        page.sample("build_info", &[("version", host::version::own())], 1);
        page.family("requests_total", Kind::Counter, "Answers by class of status.");
        for (class, counter) in CLASSES.iter().zip(&self.requests) {
            page.sample("requests_total", &[("class", class)], counter.get());
        }
        for (name, kind, help, value) in self.singles() {
            page.single(name, kind, help, value.get());
        }
        let unread = "Bytes of answers that machines have not read yet.";
        page.single("answer_bytes", Kind::Gauge, unread, moment.unread);
        shares(&mut page, moment);
        let help = "Time of a commit, the work in it included.";
        page.histogram("commit_seconds", help, &self.commits);
        page.finish()
    }

    fn singles(&self) -> [(&'static str, Kind, &'static str, &Counter); 15] {
        use Kind::{Counter as Total, Gauge};
        let clones = "Times that two processes used one machine's keys in turn.";
        let refused = "Connections turned away, or that did not finish their handshake.";
        let failing = "1 while the backups of the configuration fail.";
        let backup = "When the last backup of the configuration was made, seconds since 1970; 0 if \
                      none was since the start.";
        let restored = "1 while the database lacks entries that were given out, else 0.";
        let works = "Pieces of work that shared the commits.";
        [
            ("strangers_total", Total, "Requests by unknown keys.", &self.strangers),
            ("clones_total", Total, clones, &self.clones),
            ("connections", Gauge, "Open connections.", &self.connections),
            ("connections_refused_total", Total, refused, &self.refused_connections),
            ("followers", Gauge, "Streams that follow the log.", &self.followers),
            ("log_seq", Gauge, "Last entry of the log.", &self.seq),
            ("audit_records", Gauge, "Records in the audit chain.", &self.audit),
            ("backup_failing", Gauge, failing, &self.backup_failing),
            ("backup_last_timestamp_seconds", Gauge, backup, &self.backup_time),
            ("restored", Gauge, restored, &self.restored),
            ("store_failures_total", Total, "Failures of the database.", &self.failures),
            ("database_bytes", Gauge, "Size of the database's file.", &self.database),
            ("disk_used_percent", Gauge, "Used part of the data's disk.", &self.disk_used),
            ("disk_free_bytes", Gauge, "Free bytes on the data's disk.", &self.disk_free),
            ("commit_works_total", Total, works, &self.commit_works),
        ]
    }
}

/// Writes how much of their shares machines take; they are named by their numbers.
fn shares(page: &mut Page, moment: &Moment) {
    let help = "Requests refused over a machine's share.";
    page.family("over_share_total", Kind::Counter, help);
    for OverShare { machine, share, count, .. } in &moment.over {
        let (machine, share) = (machine.to_string(), share.to_string());
        page.sample("over_share_total", &[("machine", &machine), ("share", &share)], count);
    }
    let help = "Taken part of a machine's share of a day, from 80 on; more than 100 is a debt.";
    page.family("share_used_percent", Kind::Gauge, help);
    for NearShare { machine, share, used_percent, .. } in &moment.near {
        let (machine, share) = (machine.to_string(), share.to_string());
        page.sample(
            "share_used_percent",
            &[("machine", &machine), ("share", &share)],
            used_percent,
        );
    }
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
        let over = vec![OverShare { machine, share, count: 812, last }];
        let near = vec![NearShare { machine, share, used_percent: 85, until: last }];
        let text = metrics.render(&Moment { unread: 5, over, near });
        for line in [
            "vault_server_requests_total{class=\"2xx\"} 1",
            "vault_server_requests_total{class=\"4xx\"} 1",
            "vault_server_log_seq 7",
            "vault_server_audit_records 9",
            "vault_server_commit_works_total 4",
            "vault_server_answer_bytes 5",
            "vault_server_over_share_total{machine=\"3\",share=\"audit\"} 812",
            "vault_server_share_used_percent{machine=\"3\",share=\"audit\"} 85",
            "vault_server_commit_seconds_bucket{le=\"0.000250\"} 0",
            "vault_server_commit_seconds_bucket{le=\"0.000500\"} 1",
            "vault_server_commit_seconds_bucket{le=\"+Inf\"} 2",
            "vault_server_commit_seconds_sum 9.000400",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
