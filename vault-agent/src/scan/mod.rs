//! The host's own scan: looks for the values that lie here where they do not belong, and reports
//! what it finds to those who review (guide/scan). This loop says when; a thread does it.

mod content;
mod control;
mod found;
mod journal;
mod memory;
mod places;
mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use host::clock;
use machine::config::{Config, Scan};
use machine::scan::forms::Bytes;
use machine::scan::guessable;
use shared::hash::Hash;
use shared::log::Number;
use shared::scan::{Findings, Wish};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};

use crate::engine::Engine;

use control::Control;
use found::Holder;
use memory::Memory;
use places::Except;
use worker::{Job, Outcome};

/// The alarm of a scan that cannot go on, or that nobody hears of.
const ALARM: &str = "E_SCAN";
/// How long a disk may take to answer until it is told.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often that is looked at, and the calendar.
const LOOK: Duration = Duration::from_secs(20);

/// Scans this host as the configurations say, until `shutdown` is true; `own` are folders of the
/// agent that are not looked into.
pub async fn run(
    engine: Engine,
    mut configs: watch::Receiver<Arc<Config>>,
    own: Vec<PathBuf>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut changes = engine.changes();
    let mut scans = Scans::begin(engine, own).await;
    loop {
        let config = configs.borrow_and_update().clone();
        scans.adopt(&config).await;
        let due = scans.due();
        tokio::select! {
            () = stopped(&mut shutdown) => break,
            changed = configs.changed() => if changed.is_err() { break },
            changed = changes.changed() => {
                if changed.is_err() {
                    break;
                }
                scans.changed();
            }
            ended = ended(&mut scans.running) => scans.ended(ended).await,
            () = sleep(due.map_or(LOOK, |due| due.min(LOOK))) => scans.look().await,
        }
    }
    if let Some(running) = &scans.running {
        running.control.stop();
    }
}

/// Waits until the agent ends.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // Whoever would tell may be gone, which is the end too.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Waits for the end of the search that runs, for ever if none does.
async fn ended(running: &mut Option<Running>) -> Option<Outcome> {
    match running {
        Some(running) => (&mut running.outcome).await.ok(),
        None => std::future::pending().await,
    }
}

/// A search that runs.
struct Running {
    control: Arc<Control>,
    outcome: oneshot::Receiver<Outcome>,
    /// What it will have found in, but for the finds.
    findings: Findings,
}

struct Scans {
    engine: Engine,
    started: Instant,
    own: Vec<PathBuf>,
    /// The settings in force, and the files that hold values on purpose.
    settings: Option<Scan>,
    targets: Vec<PathBuf>,
    /// Whether settings were ever looked at, and whether they are others than those of the last
    /// scan.
    is_begun: bool,
    is_other: bool,
    memory: Memory,
    running: Option<Running>,
    /// Who reviewed when the findings were sealed.
    reviewers: Option<Hash>,
}

impl Scans {
    async fn begin(engine: Engine, own: Vec<PathBuf>) -> Self {
        let memory = match engine.kept_scan().await {
            Ok(text) => text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
            Err(why) => {
                tracing::error!("what was found before is not known: {why:#}");
                Memory::default()
            }
        };
        Self {
            engine,
            started: Instant::now(),
            own,
            settings: None,
            targets: Vec::new(),
            is_begun: false,
            is_other: false,
            memory,
            running: None,
            reviewers: None,
        }
    }

    /// Takes up the settings.
    async fn adopt(&mut self, config: &Config) {
        let targets = config.targets.iter().map(|target| target.path.clone());
        self.targets =
            targets.chain(config.sources.iter().map(|source| source.path.clone())).collect();
        if self.is_begun && self.settings == config.scan {
            return;
        }
        let was_begun = std::mem::replace(&mut self.is_begun, true);
        self.settings.clone_from(&config.scan);
        self.is_other = was_begun;
        if let Some(running) = &self.running {
            running.control.stop();
        }
        if self.settings.is_some() {
            self.report();
        } else {
            if self.memory.findings.take().is_some() {
                self.keep().await;
            }
            self.reviewers = None;
            self.engine.clear_alarm(ALARM);
            // What is smaller than before fits.
            let _ = self.engine.report_no_scan();
        }
    }

    /// Returns how long until the next scan.
    fn due(&self) -> Option<Duration> {
        let settings = self.settings.as_ref().filter(|_| self.running.is_none())?;
        if self.is_other && settings.every.is_some() {
            return Some(Duration::ZERO);
        }
        let (wishes, up) = (self.engine.scan_wishes(), self.started.elapsed());
        self.memory.due(settings.every, &wishes, clock::now(), up)
    }

    /// Has a search make room for what is delivered, and seals the findings anew for those who
    /// review by now.
    fn changed(&mut self) {
        if let Some(running) = &self.running {
            running.control.pause();
        }
        if self.settings.is_some() && self.reviewers != Some(self.engine.reviewers()) {
            self.report();
        }
    }

    fn report(&mut self) {
        self.reviewers = Some(self.engine.reviewers());
        let running = self.running.as_ref().map(|running| running.findings.begun);
        match self.engine.report_scan(running, self.memory.findings.as_ref()) {
            Ok(()) => self.engine.clear_alarm(ALARM),
            Err(why) => {
                let hint = "give `sys/audit` to fewer machines: `vault access set`";
                let text = format!("the scan's findings reach nobody: {why:#} (hint: {hint})");
                self.engine.alarm(ALARM, text);
            }
        }
    }

    /// Begins a scan that is due, and tells of one that hangs.
    async fn look(&mut self) {
        if let Some(running) = &self.running {
            if let Some(place) = running.control.hangs(PATIENCE) {
                let text = format!(
                    "the scan waits for `{place}`, whose disk does not answer (hint: see whether \
                     the server of its mount is there, or leave it out by `except` of `[scan]`)"
                );
                self.engine.alarm(ALARM, text);
            }
        } else if self.due().is_some_and(|due| due.is_zero()) {
            self.start().await;
        }
    }

    async fn start(&mut self) {
        let Some(settings) = self.settings.clone() else { return };
        let wishes: BTreeMap<Number, Wish> = self.engine.scan_wishes();
        let now = clock::now();
        self.is_other = false;
        self.memory.begins(now, &wishes);
        // A host that crashes meanwhile does not scan again and again.
        self.keep().await;
        let mut findings = Findings {
            begun: now,
            every: settings.every.map(|every| every.as_secs()),
            ..Findings::default()
        };
        let values = self.values(settings.older_versions, &mut findings).await;
        let homes = places::homes();
        let before = self.memory.findings.as_ref().map(|known| known.finds.clone());
        let job = Job {
            values,
            places: places::of(&settings, &homes),
            except: Except::of(&settings, &homes),
            own: self.own.iter().chain(&self.targets).cloned().collect(),
            journal: settings.journal,
            max_files: settings.max_files,
            max_bytes: settings.max_bytes,
            max_time: settings.max_time,
            before: before.unwrap_or_default(),
            now,
        };
        let control = Arc::new(Control::default());
        match worker::start(job, control.clone()) {
            Ok(outcome) => {
                tracing::info!(values = findings.values, "the scan of this host begins");
                self.running = Some(Running { control, outcome, findings });
                if let Err(why) = self.engine.report_running(Some(now)) {
                    tracing::error!("that a scan runs is not reported: {why:#}");
                }
            }
            Err(why) => self.engine.alarm(ALARM, format!("the host is not scanned: {why}")),
        }
    }

    /// Takes what lies here of the secrets that this machine reads.
    async fn values(&self, older: usize, findings: &mut Findings) -> Vec<(Holder, Bytes)> {
        let mut all: Vec<(Holder, Bytes)> = Vec::new();
        for (secret, versions) in self.engine.scanned_versions(older) {
            let (first, newest) = (all.len(), versions.first().copied());
            let (mut is_read, mut knows_newest) = (false, false);
            for ver in versions {
                let Some(values) = self.engine.values_here(&secret, ver).await else { continue };
                is_read = true;
                let is_newest = Some(ver) == newest;
                knows_newest |= is_newest;
                for (key, bytes) in values {
                    if guessable::judge(&bytes, None).is_some() {
                        findings.left_out += 1;
                        continue;
                    }
                    // What a value was before and is again is the newest version's.
                    let mut known = all[first..].iter();
                    if !known.any(|(holder, same)| holder.key == key && *same == bytes) {
                        let old = knows_newest && !is_newest;
                        all.push((Holder { secret: secret.clone(), key, ver, old }, bytes));
                    }
                }
            }
            findings.secrets += u64::from(is_read);
        }
        findings.values = all.len() as u64;
        all
    }

    /// Takes the end of a search; one that was stopped has found nothing.
    async fn ended(&mut self, outcome: Option<Outcome>) {
        let Some(running) = self.running.take() else { return };
        self.engine.clear_alarm(ALARM);
        let Some(Outcome { finds, more, files, bytes, missed }) = outcome else {
            if self.settings.is_some()
                && let Err(why) = self.engine.report_running(None)
            {
                tracing::error!("that no scan runs is not reported: {why:#}");
            }
            return;
        };
        let ended = clock::now();
        tracing::info!(found = finds.len(), files, bytes, "the scan of this host has ended");
        if self.settings.is_some() {
            let findings =
                Findings { ended, files, bytes, missed, finds, more, ..running.findings };
            self.memory.findings = Some(findings);
            self.keep().await;
            self.report();
        }
    }

    async fn keep(&self) {
        let kept = match serde_json::to_string(&self.memory) {
            Ok(text) => self.engine.keep_scan(text).await,
            Err(why) => Err(why.into()),
        };
        if let Err(why) = kept {
            tracing::error!("what the scan has found is not kept: {why:#}");
        }
    }
}
