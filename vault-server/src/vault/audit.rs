//! Reading the audit: records for those with a grant on `sys/audit`, leaves for every machine.

use std::time::Duration;

use rusqlite::Connection;
use shared::audit::{AuditHead, Op};
use shared::error::Code;
use shared::limits;
use shared::log::Machine;
use shared::wire::v1::audit::{AuditPage, AuditQuery, LeavesPage, LeavesQuery};
use tokio::time::{Instant, timeout_at};

use crate::store::audit::{self, Span};

use super::{Caller, Refusal, Vault, admitted, deny, refuse};

/// What a machine must be able to read to see audit records.
const GRANT: &str = "sys/audit";
/// Records in a page unless the query says otherwise, and at most.
const RECORDS: (u64, u64) = (1_000, 10_000);
/// Leaves in a page at most.
const LEAVES: u64 = 100_000;
/// How long a request may wait for a record to come.
const WAIT: Duration = Duration::from_secs(15);

fn may_review(machine: &Machine) -> bool {
    GRANT.parse().is_ok_and(|path| machine.read.cover(&path))
}

impl Vault {
    /// Returns the records that match.
    ///
    /// # Errors
    /// [`Refusal::Denied`] without a grant, [`Refusal::Rule`] for a limit out of range.
    pub async fn audit(&self, caller: &Caller, query: AuditQuery) -> Result<AuditPage, Refusal> {
        let (usual, most) = RECORDS;
        let limit = query.limit.unwrap_or(usual);
        if limit == 0 || limit > most {
            let why = Code::Limits.because(format!("limit of {limit} audit records"));
            let row = caller.fact(Op::AuditRead);
            return self.call(move |tx| refuse(tx, row, why)).await;
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let own = self.enter_audit(caller, Op::AuditRead).await?.n;
        let without = query.wait.then_some(own);
        let (mut grown, patience) = (self.0.store.audit(), Instant::now() + WAIT);
        loop {
            let head = *grown.borrow_and_update();
            let asked = query.clone();
            let find = move |conn: &Connection| {
                let span = Span { upto: head.n, without };
                audit::find(conn, &asked, span, limit, limits::LOG_PAGE)
            };
            let (records, more) = self.0.reader.ask(find).await?;
            let page = AuditPage { records, more, head };
            if !query.wait {
                return Ok(page);
            }
            if !page.records.is_empty() {
                return self.unless_revoked(caller, page).await;
            }
            match timeout_at(patience, grown.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Ok(page),
            }
        }
    }

    /// Returns a page to a caller whose grant still stands: it may have waited for the page.
    async fn unless_revoked(&self, caller: &Caller, page: AuditPage) -> Result<AuditPage, Refusal> {
        let caller = caller.clone();
        self.call(move |tx| {
            let granted = match admitted(tx, &caller) {
                Ok((_, machine)) => may_review(machine),
                Err(refusal) => return Ok(Err(refusal)),
            };
            if granted {
                Ok(Ok(page))
            } else {
                deny(tx, caller.fact(Op::AuditRead), &caller, GRANT)
            }
        })
        .await
    }

    /// Returns leaves of the chain.
    ///
    /// # Errors
    /// [`Refusal::Stranger`], [`Refusal::Unavailable`].
    pub async fn leaves(&self, caller: &Caller, query: LeavesQuery) -> Result<LeavesPage, Refusal> {
        let head = self.enter_audit(caller, Op::AuditLeaves).await?;
        let found = self.0.reader.ask(move |conn| audit::leaves(conn, query.after, head.n, LEAVES));
        Ok(LeavesPage { leaves: found.await?, head })
    }

    /// Records the reading itself and returns the chain's head, this record included.
    async fn enter_audit(&self, caller: &Caller, op: Op) -> Result<AuditHead, Refusal> {
        let caller = caller.clone();
        self.call(move |tx| {
            let granted = match admitted(tx, &caller) {
                Ok((_, machine)) => may_review(machine),
                Err(refusal) => return Ok(Err(refusal)),
            };
            if op == Op::AuditRead && !granted {
                return deny(tx, caller.fact(op), &caller, GRANT);
            }
            tx.record(caller.fact(op))?;
            Ok(Ok(tx.audit()))
        })
        .await
    }
}
