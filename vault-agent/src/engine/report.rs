//! Exchanging signed reports: this machine's head, audit head and targets against everybody's
//! latest (design/trust, *Reports*). Coalesced, and never in the way of a change's delivery.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use shared::error::Code;
use shared::hash::Hash;
use shared::name::Name;
use shared::report::Report;
use shared::text::Text;
use shared::wire::v1::report::{ReportReply, ReportRequest};
use tokio::time::{Instant, sleep_until};

use super::Inner;
use super::fleet::{Accepted, PeerHead};
use super::send::SERVER_FULL;
use crate::state::{self, facts};
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

/// Reports whenever it is due, until the connection ends.
pub(super) async fn run(inner: Arc<Inner>, client: Client) {
    loop {
        let ticket = inner.reporting.next(AFTER, IDLE).await;
        let sent = Instant::now();
        if inner.link.borrow().caught_up {
            match exchange(&inner, &client).await {
                Ok(()) => {
                    inner.reporting.done(ticket);
                    inner.clear_alarm(SERVER_FULL);
                }
                Err(fault) => {
                    tracing::warn!(%fault, "report not exchanged");
                    if fault.downcast_ref().is_some_and(RemoteError::is_full) {
                        inner.server_full();
                    }
                }
            }
        }
        sleep_until(sent + APART).await;
    }
}

/// Judges the silence of the others whatever the server says: one that takes no reports, or hands
/// none out, must not keep it from being noticed.
pub(super) async fn watch(inner: Arc<Inner>) {
    loop {
        tokio::time::sleep(IDLE).await;
        inner.judge(&[]);
    }
}

/// Posts this machine's report, takes everybody's, and compares.
async fn exchange(inner: &Arc<Inner>, client: &Client) -> Result<()> {
    let report = inner.report().await?;
    let report = report.sign(&inner.keys.sign, inner.pins.vault)?;
    match client.report(&ReportRequest { report }).await {
        Ok(reply) => inner.take_reports(reply).await,
        Err(RemoteError::Refused(error)) if error.code == Code::Seq => {
            // The database that counted the reports is gone: no count can be past the clock.
            inner.report_n.fetch_max(clock::now().as_secs(), Ordering::Relaxed);
            inner.reporting.soon();
            Err(error.into())
        }
        Err(fault) => Err(fault.into()),
    }
}

impl Inner {
    async fn report(&self) -> Result<Report> {
        let n = self.report_n.fetch_add(1, Ordering::Relaxed) + 1;
        self.store.write(move |conn| facts::set(conn, facts::REPORT_N, &n)).await?;
        let (seq, head) = {
            let ledger = self.ledger();
            (ledger.state.seq(), ledger.state.head())
        };
        let (audit, reported) = {
            let fleet = self.fleet();
            (fleet.audit, fleet.targets(&self.name))
        };
        // A one-off command looks at no target, and must not report that there are none.
        let targets = self.targets.borrow().clone().unwrap_or(reported);
        Ok(Report {
            machine: self.name.clone(),
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
        let (accepted, gone, heads) = self.accept(reply);
        let own = self.fleet().n(&self.name);
        self.report_n.fetch_max(own, Ordering::Relaxed);
        let own = Arc::clone(self);
        let known = self.store.write(move |conn| {
            facts::set(conn, facts::AUDIT, &own.fleet().audit)?;
            for name in &gone {
                state::peers::forget(conn, name)?;
            }
            for Accepted { report, envelope, at } in &accepted {
                own.compare_anchor(conn, report)?;
                state::peers::keep(conn, report, envelope, *at)?;
            }
            heads
                .into_iter()
                .map(|head| Ok((state::log::hash_at(conn, head.seq)?, head)))
                .collect::<rusqlite::Result<Vec<_>>>()
        });
        let known = known.await.context("storing the reports")?;
        self.judge(&known);
        self.tick();
        Ok(())
    }

    fn accept(&self, reply: ReportReply) -> (Vec<Accepted>, Vec<Name>, Vec<PeerHead>) {
        let ledger = self.ledger();
        let mut fleet = self.fleet();
        let accepted: Vec<Accepted> = reply
            .reports
            .into_iter()
            .filter_map(|received| fleet.take(&ledger.state, received))
            .collect();
        let gone = fleet.prune(&ledger.state);
        if let Err(error) = fleet.audit_now(reply.audit) {
            self.raise(error.code.as_str(), "", error.detail);
        }
        (accepted, gone, fleet.heads())
    }

    /// Compares an anchored audit head with the one known at that place.
    fn compare_anchor(&self, conn: &rusqlite::Connection, report: &Report) -> rusqlite::Result<()> {
        let known = state::peers::anchored(conn, report.audit_n)?;
        if known.is_some_and(|known| known.hash != report.audit_head) {
            let why = format!("`{}` has seen another record {}", report.machine, report.audit_n);
            let code = Code::AuditRewritten.as_str();
            self.raise(code, report.machine.as_str(), why);
        }
        Ok(())
    }

    pub(super) fn judge(self: &Arc<Self>, known: &[(Option<Hash>, PeerHead)]) {
        let now = clock::now();
        let mut forks = Vec::new();
        let (frozen, stale) = {
            let ledger = self.ledger();
            let mut fleet = self.fleet();
            for (known, head) in known {
                forks.extend(fleet.compare(head, *known, now).err());
            }
            (fleet.frozen(now), fleet.stale(&ledger.state, &self.name, now))
        };
        for error in forks {
            self.refuse(&error);
        }
        for (code, found) in [(Code::Frozen, frozen), (Code::Stale, stale)] {
            match found {
                Some(detail) => self.raise(code.as_str(), "", detail),
                None => self.alarms().clear(code.as_str()),
            }
        }
    }
}
