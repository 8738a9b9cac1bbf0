//! Reading the audit: records for those with a grant on `sys/audit`, leaves for every machine.

use std::time::Duration;

use shared::audit::{AuditHead, Op};
use shared::error::Code;
use shared::wire::v1::audit::{AuditPage, AuditQuery, LeavesPage, LeavesQuery, RECORDS};
use shared::wire::v1::shares::Share;
use tokio::time::{Instant, timeout_at};

use crate::meter::{ANSWER, Room};
use crate::store::{AUDIT, Transaction, audit, may_read_audit};

use super::{Caller, Outcome, Refusal, Vault, admitted, deny, refuse};

/// Records in a page unless the query says otherwise.
const USUAL: u64 = 1_000;
/// Leaves in a page at most.
const LEAVES: u64 = 15_000;
/// How long a request may wait for a record to come.
const WAIT: Duration = Duration::from_secs(15);

impl Vault {
    /// Returns the records that match.
    ///
    /// # Errors
    /// [`Refusal::Denied`] without a grant, [`Refusal::Rule`] for a limit out of range.
    pub async fn audit(
        &self,
        mut caller: Caller,
        query: AuditQuery,
    ) -> Result<(AuditPage, Room), Refusal> {
        let limit = query.limit.unwrap_or(USUAL);
        if limit == 0 || limit > RECORDS as u64 {
            let why = Code::Limits.because(format!("limit of {limit} audit records"));
            return self
                .call(caller.number, move |tx| refuse(tx, caller.fact(Op::AuditRead), why))
                .await;
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut reader = caller.clone();
        let enter = move |tx: &mut Transaction| {
            may_review(tx, &mut reader)?;
            record(tx, &reader, Op::AuditRead)
        };
        let number = caller.number;
        let own = self.call(number, enter).await?.n;
        let without = query.wait.then_some(own);
        let (mut grown, patience) = (self.0.store.audit(), Instant::now() + WAIT);
        loop {
            let head = *grown.borrow_and_update();
            let (asked, room) = (query.clone(), self.0.meter.room(number, ANSWER).await);
            let folder = self.0.retention.folder.clone();
            let find = self.ask(number, move |conn| {
                let (records, more) = audit::find(conn, &asked, head.n, without, limit)?;
                let archived = audit::archived(conn, &folder)?;
                Ok(AuditPage { records, more, head, archived })
            });
            let page = find.await?;
            if !query.wait {
                return Ok((page, room));
            }
            if !page.records.is_empty() {
                // The grant may have gone while the caller waited.
                return self
                    .call(number, move |tx| may_review(tx, &mut caller))
                    .await
                    .map(|()| (page, room));
            }
            drop(room);
            match timeout_at(patience, grown.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => {
                    let room = self.0.meter.room(number, 0).await;
                    return Ok((page, room));
                }
            }
        }
    }

    /// Returns leaves of the chain.
    pub async fn leaves(
        &self,
        mut caller: Caller,
        query: LeavesQuery,
    ) -> Result<(LeavesPage, Room), Refusal> {
        let number = caller.number;
        let enter = move |tx: &mut Transaction| {
            admitted(tx, &mut caller)?;
            record(tx, &caller, Op::AuditLeaves)
        };
        let head = self.call(number, enter).await?;
        let room = self.0.meter.room(number, ANSWER).await;
        let folder = self.0.retention.folder.clone();
        let found =
            self.ask(number, move |conn| audit::leaves(conn, &folder, query.after, head, LEAVES));
        let (page, passed) = found.await?;
        self.0.meter.take(number, Share::Bytes, passed);
        Ok((page, room))
    }
}

/// Refuses a caller without the grant.
fn may_review(tx: &mut Transaction, caller: &mut Caller) -> Outcome<()> {
    let (_, machine) = admitted(tx, caller)?;
    if may_read_audit(machine) {
        return Ok(());
    }
    deny(tx, caller.fact(Op::AuditRead), caller, AUDIT)
}

/// Records the reading itself and returns the chain's head, this record included.
fn record(tx: &mut Transaction, caller: &Caller, op: Op) -> Outcome<AuditHead> {
    tx.record(caller.fact(op))?;
    Ok(tx.audit())
}
