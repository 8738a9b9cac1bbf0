//! Reading the audit: records for those with a grant on `sys/audit`, leaves for every machine.

use shared::audit::AuditHead;
use shared::error::Code;
use shared::limits;
use shared::wire::v1::audit::{AuditPage, AuditQuery, LeavesPage, LeavesQuery};

use crate::store::audit;

use super::{Caller, Refusal, Vault, admitted, deny};

/// What a machine must be able to read to see audit records.
const GRANT: &str = "sys/audit";
/// Records in a page unless the query says otherwise, and at most.
const RECORDS: (u64, u64) = (1_000, 10_000);
/// Leaves in a page at most.
const LEAVES: u64 = 100_000;

impl Vault {
    /// Returns the records that match.
    ///
    /// # Errors
    /// [`Refusal::Denied`] without a grant, [`Refusal::Rule`] for a limit out of range.
    pub async fn audit(&self, caller: &Caller, query: AuditQuery) -> Result<AuditPage, Refusal> {
        let (usual, most) = RECORDS;
        let limit = query.limit.unwrap_or(usual);
        if limit == 0 || limit > most {
            return Err(Code::Limits.because(format!("limit of {limit} audit records")).into());
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let head = self.enter_audit(caller, "audit_read").await?;
        let found = self
            .0
            .reader
            .ask(move |conn| audit::find(conn, &query, head.n, limit, limits::LOG_PAGE));
        let (records, more) = found.await?;
        Ok(AuditPage { records, more, head })
    }

    /// Returns leaves of the chain.
    ///
    /// # Errors
    /// [`Refusal::Stranger`], [`Refusal::Unavailable`].
    pub async fn leaves(&self, caller: &Caller, query: LeavesQuery) -> Result<LeavesPage, Refusal> {
        let head = self.enter_audit(caller, "audit_leaves").await?;
        let found = self.0.reader.ask(move |conn| audit::leaves(conn, query.after, head.n, LEAVES));
        Ok(LeavesPage { leaves: found.await?, head })
    }

    /// Records the reading itself and returns the chain's head, this record included.
    async fn enter_audit(&self, caller: &Caller, op: &'static str) -> Result<AuditHead, Refusal> {
        let caller = caller.clone();
        self.call(move |desk| {
            let granted = match admitted(desk, &caller) {
                Ok((_, machine)) => GRANT.parse().is_ok_and(|path| machine.read.cover(&path)),
                Err(refusal) => return Ok(Err(refusal)),
            };
            if op == "audit_read" && !granted {
                return deny(desk, caller.row(op), &caller, GRANT);
            }
            desk.record(caller.row(op))?;
            Ok(Ok(desk.audit()))
        })
        .await
    }
}
