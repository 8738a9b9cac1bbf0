//! `sys/metrics`: figures of this agent, and of the fleet as it sees it, as Prometheus reads them.
//! Labels are names of machines, paths of files and words of ours: no key, no secret, no caller.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use host::clock;
use host::exposition::{Kind, Page, TYPE};
use machine::findings::findings;
use machine::local::{ForwardRow, Status, TargetRow};
use shared::log::State;
use tokio::time::timeout;

use crate::metrics::METRICS;

use super::context::Api;
use super::envelope::ApiAnswer;
use super::error::ApiFault;
use super::request::Call;

/// Targets with a row of their own; of more the first are shown.
const TARGETS: usize = 1_000;
/// How long the fleet may take to be known.
const PATIENCE: Duration = Duration::from_secs(8);

/// Answers as Vault's `sys/metrics?format=prometheus`; it has no other format here.
pub(super) async fn answer(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    call.require_all()?;
    match call.query.get("format").as_deref() {
        None | Some("" | "prometheus") => {}
        Some(_) => {
            let text = "figures have one format\nhint: use `format=prometheus`";
            return Err(ApiFault::Refused(text.to_owned()));
        }
    }
    Ok(plain(text(call.api).await))
}

/// Answers with figures.
pub(super) fn plain(text: String) -> ApiAnswer {
    let mut answer = Response::new(Body::from(text));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Writes all figures.
pub(super) async fn text(api: &Api) -> String {
    let mut page = Page::new("vault_agent");
    page.family("build_info", Kind::Gauge, "Version of the program.");
    page.sample("build_info", &[("version", host::version::own())], 1);
    let engine = &api.engine;
    let seq = engine.state(State::seq);
    page.single("log_seq", Kind::Gauge, "Last entry of the log that was verified here.", seq);
    if let Some(records) = engine.audit_records() {
        let help = "Records in the audit chain, as the server has named it last.";
        page.single("audit_records", Kind::Gauge, help, records);
    }
    connection(&mut page, api);
    match timeout(PATIENCE, engine.fleet()).await {
        Ok(Ok(status)) => fleet(&mut page, &status),
        Ok(Err(why)) => tracing::warn!("figures of the fleet are missing: {why:#}"),
        Err(_) => tracing::warn!("figures of the fleet are missing: they take too long"),
    }
    own(&mut page);
    if let Some(all) = &api.forwarding {
        forwards(&mut page, &all.rows());
    }
    page.finish()
}

fn connection(page: &mut Page, api: &Api) {
    let away = api.engine.away();
    let help = "1 while the log is followed, else 0.";
    page.single("connected", Kind::Gauge, help, u8::from(away.is_none()));
    let age = away.map_or(0, |since| clock::now().seconds_since(since));
    let help = "Seconds since this machine knew to be at the head of the log; 0 while it is.";
    page.single("cache_age_seconds", Kind::Gauge, help, age);
}

/// Writes what `vault status` knows.
fn fleet(page: &mut Page, status: &Status) {
    let told = u8::from(status.told);
    let help = "1 if the server says how the others stand, else 0: they are as last heard then.";
    page.single("fleet_told", Kind::Gauge, help, told);
    let found = findings(status);
    let help = "Things that are not as they should be, as `vault status` counts them.";
    page.single("findings", Kind::Gauge, help, found.len());
    let mut by_code: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    let now = clock::now();
    for finding in &found {
        let (count, age) = by_code.entry(finding.kind.word()).or_default();
        *count += 1;
        *age = finding.since.map_or(0, |since| now.seconds_since(since)).max(*age);
    }
    page.family("findings_by_code", Kind::Gauge, "The same by code.");
    for (code, (count, _)) in &by_code {
        page.sample("findings_by_code", &[("code", code)], count);
    }
    page.family("findings_age_seconds", Kind::Gauge, "Seconds since the oldest of a code began.");
    for (code, (_, age)) in &by_code {
        page.sample("findings_age_seconds", &[("code", code)], age);
    }
    machines(page, status);
    targets(page, status);
}

fn machines(page: &mut Page, status: &Status) {
    let now = clock::now();
    page.family("machine_awake", Kind::Gauge, "1 while a machine follows the log, else 0.");
    for machine in &status.machines {
        let name = [("machine", machine.machine.as_str())];
        page.sample("machine_awake", &name, u8::from(machine.awake));
    }
    let help = "1 while a machine that does not sleep is missed, else 0.";
    page.family("machine_silent", Kind::Gauge, help);
    for machine in &status.machines {
        let name = [("machine", machine.machine.as_str())];
        page.sample("machine_silent", &name, u8::from(machine.silent));
    }
    let help = "Seconds since a machine was heard; none for one that never was.";
    page.family("machine_heard_seconds", Kind::Gauge, help);
    for machine in &status.machines {
        let age =
            if machine.awake { Some(0) } else { machine.seen_at.map(|at| now.seconds_since(at)) };
        if let Some(age) = age {
            page.sample("machine_heard_seconds", &[("machine", machine.machine.as_str())], age);
        }
    }
    let help = "Taken part of a machine's share of a day, from 80 on, as the server says.";
    page.family("share_used_percent", Kind::Gauge, help);
    for near in &status.near {
        let share = near.share.to_string();
        let labels = [("machine", near.machine.as_str()), ("share", &*share)];
        page.sample("share_used_percent", &labels, near.used_percent);
    }
    if let Some(room) = status.room {
        let help = "Used part of the server's disk, as it says while it is 80 or more.";
        page.single("server_disk_used_percent", Kind::Gauge, help, room.used_percent);
    }
    let help = "1 while the server's own backups fail, as it says.";
    let failing = u8::from(status.backup_failing.is_some());
    page.single("server_backup_failing", Kind::Gauge, help, failing);
}

fn targets(page: &mut Page, status: &Status) {
    let mut states: BTreeMap<(&str, String), usize> = BTreeMap::new();
    // A target has a row for each of its secrets; the one that is furthest behind counts.
    let mut files: BTreeMap<(&str, &str), (u64, bool)> = BTreeMap::new();
    for row in &status.targets {
        let at = (row.machine.as_str(), row.target.as_str());
        let (lag, fails) = files.entry(at).or_default();
        *lag = lag_of(row).max(*lag);
        *fails |= row.fails();
        *states.entry((row.machine.as_str(), row.state.to_string())).or_default() += 1;
    }
    page.family("targets", Kind::Gauge, "Secrets in targets, by machine and state.");
    for ((machine, state), count) in &states {
        page.sample("targets", &[("machine", machine), ("state", state)], count);
    }
    let help = "Versions that a file is behind the newest, of its secret that is furthest behind.";
    page.family("target_lag_versions", Kind::Gauge, help);
    for ((machine, target), (lag, _)) in files.iter().take(TARGETS) {
        page.sample("target_lag_versions", &[("machine", machine), ("target", target)], lag);
    }
    let help = "1 while a file is not what it should be, or its hook has failed, else 0.";
    page.family("target_failing", Kind::Gauge, help);
    for ((machine, target), (_, fails)) in files.iter().take(TARGETS) {
        let labels = [("machine", *machine), ("target", *target)];
        page.sample("target_failing", &labels, u8::from(*fails));
    }
    let omitted = files.len().saturating_sub(TARGETS);
    let help = "Targets beyond the number that have rows of their own.";
    page.single("targets_omitted", Kind::Gauge, help, omitted);
}

fn lag_of(row: &TargetRow) -> u64 {
    if row.lags() { row.wanted.abs_diff(row.applied) } else { 0 }
}

/// Writes what this process counts.
fn own(page: &mut Page) {
    page.family("hook_runs_total", Kind::Counter, "Runs of hooks, by how they ended.");
    for (result, counter) in [("ok", &METRICS.hooks_ok), ("failed", &METRICS.hooks_failed)] {
        page.sample("hook_runs_total", &[("result", result)], counter.get());
    }
    page.histogram("hook_seconds", "How long hooks ran.", &METRICS.hooks);
    let help = "From when a version was written, by the writer's clock, until a file held it.";
    page.histogram("delivery_seconds", help, &METRICS.deliveries);
    let help = "How long reads of secrets by the local API took.";
    page.histogram("read_seconds", help, &METRICS.reads);
}

fn forwards(page: &mut Page, rows: &[ForwardRow]) {
    let now = clock::now();
    let failing = |row: &ForwardRow| row.failing.map_or(0, |since| now.seconds_since(since).max(1));
    type Value<'a> = &'a dyn Fn(&ForwardRow) -> u64;
    let figures: [(&str, Kind, &str, Value<'_>); 4] = [
        ("forward_sent_total", Kind::Counter, "Messages that were taken.", &|row| row.sent),
        ("forward_dropped_total", Kind::Counter, "Messages that were dropped.", &|row| row.dropped),
        ("forward_queue", Kind::Gauge, "Messages that wait.", &|row| row.queued),
        (
            "forward_failing_seconds",
            Kind::Gauge,
            "Seconds since nothing is taken; 0 while all is well.",
            &failing,
        ),
    ];
    for (name, kind, help, value) in figures {
        page.family(name, kind, help);
        for row in rows {
            page.sample(name, &[("forward", row.name.as_str()), ("to", &row.to)], value(row));
        }
    }
}
