//! Exchanging signed reports: this machine's head, audit head and targets against everybody's
//! latest (design/trust, *Reports*). Coalesced, and never in the way of a change's delivery.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use shared::audit::AuditHead;
use shared::error::Code;
use shared::hash::Hash;
use shared::log::Number;
use shared::report::{Report, TargetReport};
use shared::text::Text;
use shared::wire::v1::report::{ReportReply, ReportRequest};
use tokio::time::{Instant, sleep_until};

use super::alarms::Alarms;
use super::debounced::Debounced;
use super::fleet::{Fleet, PeerHead};
use super::ledger::Ledger;
use super::link::Link;
use super::timing;
use super::types::{Own, Peer, Ticks};
use crate::state::{self, Store, facts};
use host::clock;
use machine::remote::{Client, RemoteError};

/// How long after a change its report is sent: its delivery goes first, and later ones join in.
const AFTER: Duration = Duration::from_millis(100);
/// Least time between two reports.
const APART: Duration = Duration::from_millis(300);
/// How often reports are exchanged when nothing happens.
const IDLE: Duration = Duration::from_secs(60);
/// Program and version, as reported.
const AGENT: &str = concat!("vault-agent ", env!("CARGO_PKG_VERSION"));

/// This machine's reports and everybody's.
pub(super) struct Reports {
    pub(super) own: Arc<Own>,
    pub(super) store: Arc<Store>,
    pub(super) alarms: Arc<Alarms>,
    pub(super) link: Arc<Link>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) ticks: Ticks,
    pub(super) fleet: Mutex<Fleet>,
    pub(super) reporting: Debounced,
}

/// Reports whenever it is due, until the connection ends.
pub(super) async fn run(reports: Arc<Reports>, client: Client) {
    loop {
        let ticket = reports.reporting.next(AFTER, IDLE).await;
        let sent = Instant::now();
        if reports.link.is_caught_up() {
            match reports.exchange(&client).await {
                Ok(()) => {
                    reports.reporting.done(ticket);
                    reports.alarms.server_full(false);
                }
                Err(fault) => {
                    tracing::warn!(%fault, "report not exchanged");
                    if fault.downcast_ref().is_some_and(RemoteError::is_full) {
                        reports.alarms.server_full(true);
                    }
                }
            }
        }
        sleep_until(sent + APART).await;
    }
}

/// Judges the silence of the others whatever the server says: one that takes no reports, or hands
/// none out, must not keep it from being noticed.
pub(super) async fn watch(reports: Arc<Reports>) {
    loop {
        tokio::time::sleep(IDLE).await;
        reports.judge(&[]);
    }
}

impl Reports {
    /// Replaces what this machine reports of its targets.
    pub(super) fn set_targets(&self, targets: Vec<TargetReport>) {
        let mut fleet = self.fleet();
        if fleet.looked_at.as_ref() != Some(&targets) {
            fleet.looked_at = Some(targets);
            self.reporting.soon();
        }
    }

    /// Takes the audit chain as it is shown next: a person has looked at it.
    pub(super) fn forget_audit(&self) {
        self.fleet().audit = AuditHead::EMPTY;
    }

    /// Returns every machine that reported, this one included, by name.
    pub(super) fn peers(&self) -> Vec<Peer> {
        let folded = self.ledger.read();
        let own = self.own.find(&folded.state).map(|(number, _)| number);
        let fleet = self.fleet();
        let present = |(number, peer): (&Number, &Peer)| {
            let mut peer = peer.clone();
            peer.report.machine.clone_from(&folded.state.machine_numbered(*number)?.name);
            // What it last reported may be behind its targets, above all without a server.
            if let Some(targets) = fleet.looked_at.as_ref().filter(|_| own == Some(*number)) {
                peer.report.targets.clone_from(targets);
            }
            Some(peer)
        };
        let mut peers: Vec<Peer> = fleet.peers().iter().filter_map(present).collect();
        peers.sort_by(|a, b| a.report.machine.cmp(&b.report.machine));
        peers
    }

    /// Posts this machine's report, takes everybody's, and compares.
    async fn exchange(self: &Arc<Self>, client: &Client) -> Result<()> {
        let report = self.report().await?;
        let report = report.sign(&self.own.keys.sign, self.own.pins.vault)?;
        let asked = clock::since_boot();
        match client.report(&ReportRequest { report }).await {
            Ok(reply) => {
                let took = clock::since_boot().saturating_sub(asked);
                self.alarms.clock_off(timing::off(clock::now(), took, reply.now));
                self.take_reports(reply).await
            }
            Err(RemoteError::Refused(error)) if error.code == Code::Seq => {
                // The database that counted the reports is gone: no count can be past the clock.
                let mut fleet = self.fleet();
                fleet.last = fleet.last.max(clock::now().as_secs());
                self.reporting.soon();
                Err(error.into())
            }
            Err(fault) => Err(fault.into()),
        }
    }

    async fn report(&self) -> Result<Report> {
        let (n, audit, targets) = {
            let own = self.number();
            let mut fleet = self.fleet();
            fleet.last += 1;
            // A one-off command looks at no target, and must not report that there are none.
            let last = || Some(fleet.report_of(own?)?.targets.clone());
            let targets = fleet.looked_at.clone().or_else(last).unwrap_or_default();
            (fleet.last, fleet.audit, targets)
        };
        self.store.write(move |conn| facts::set(conn, facts::REPORT_N, &n)).await?;
        let (machine, seq, head) = {
            let folded = self.ledger.read();
            let state = &folded.state;
            (self.own.name(state).clone(), state.seq(), state.head())
        };
        Ok(Report {
            machine,
            n,
            time: clock::now(),
            seq,
            head,
            audit_n: audit.n,
            audit_head: audit.hash,
            agent: Text::lossy(AGENT),
            targets,
        })
    }

    async fn take_reports(self: &Arc<Self>, reply: ReportReply) -> Result<()> {
        let (accepted, gone, heads) = {
            let folded = self.ledger.read();
            let mut fleet = self.fleet();
            let accepted: Vec<_> = reply
                .reports
                .into_iter()
                .filter_map(|received| fleet.take(&folded.state, received))
                .collect();
            let gone = fleet.prune(&folded.state);
            let own = self.own.find(&folded.state).map(|(number, _)| number);
            let own = own.and_then(|number| fleet.report_of(number));
            let n = own.map_or(0, |report| report.n);
            fleet.last = fleet.last.max(n);
            if let Err(error) = fleet.audit_now(reply.audit) {
                self.alarms.raise(error.code.as_str(), "", error.detail);
            }
            (accepted, gone, fleet.heads())
        };
        let own = Arc::clone(self);
        let known = self.store.write(move |conn| {
            facts::set(conn, facts::AUDIT, &own.fleet().audit)?;
            for name in &gone {
                state::peers::forget(conn, name)?;
            }
            for (report, received) in &accepted {
                own.compare_anchor(conn, report)?;
                state::peers::keep(conn, report, received)?;
            }
            heads
                .into_iter()
                .map(|head| Ok((state::log::hash_at(conn, head.seq)?, head)))
                .collect::<rusqlite::Result<Vec<_>>>()
        });
        let known = known.await.context("storing the reports")?;
        self.judge(&known);
        self.ticks.send_replace(());
        Ok(())
    }

    /// Compares an anchored audit head with the one known at that place.
    fn compare_anchor(&self, conn: &rusqlite::Connection, report: &Report) -> rusqlite::Result<()> {
        let known = state::peers::anchored(conn, report.audit_n)?;
        if known.is_some_and(|known| known.hash != report.audit_head) {
            let why = format!("`{}` has seen another record {}", report.machine, report.audit_n);
            let code = Code::AuditRewritten.as_str();
            self.alarms.raise(code, report.machine.as_str(), why);
        }
        Ok(())
    }

    pub(super) fn judge(self: &Arc<Self>, known: &[(Option<Hash>, PeerHead)]) {
        let now = clock::now();
        let mut forks = Vec::new();
        let (frozen, stale) = {
            let folded = self.ledger.read();
            let mut fleet = self.fleet();
            for (known, head) in known {
                forks.extend(fleet.compare(head, *known, now).err());
            }
            let own = self.own.find(&folded.state).map(|(number, _)| number);
            (fleet.frozen(now), fleet.stale(&folded.state, own, now))
        };
        for error in forks {
            self.link.refuse(&error);
        }
        for (code, found) in [(Code::Frozen, frozen), (Code::Stale, stale)] {
            match found {
                Some(detail) => self.alarms.raise(code.as_str(), "", detail),
                None => self.alarms.clear(code.as_str()),
            }
        }
    }

    /// Returns this machine's number, while it is active.
    fn number(&self) -> Option<Number> {
        self.own.find(&self.ledger.read().state).map(|(number, _)| number)
    }

    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
