//! Local reads of machines: what an agent answered from its cache, shipped in batches and kept as
//! audit records.

use shared::audit::{Fact, Op};
use shared::error::Code;
use shared::wire::v1::audit::{AccessReply, AccessRequest};

use crate::store::{Transaction, access};

use super::{Caller, Outcome, Refusal, Vault, admitted, refuse};

impl Vault {
    /// Records a batch of local reads, each once.
    ///
    /// # Errors
    /// [`Refusal::Rule`] for a number past all ends, or for anything but local accesses.
    pub async fn access(
        &self,
        caller: Caller,
        request: AccessRequest,
    ) -> Result<AccessReply, Refusal> {
        self.call(caller.number, move |tx| record(tx, caller, request)).await
    }
}

fn record(
    tx: &mut Transaction,
    mut caller: Caller,
    request: AccessRequest,
) -> Outcome<AccessReply> {
    admitted(tx, &mut caller)?;
    let AccessRequest { run, first, mut reads } = request;
    if first > u64::MAX / 2 {
        let why = Code::Limits.because(format!("local reads from {first}"));
        return refuse(tx, caller.fact(Op::Access), why);
    }
    let next = access::next(tx.conn(), caller.number, run)?;
    let after = first + reads.len() as u64;
    let known = usize::try_from(next.saturating_sub(first)).unwrap_or(usize::MAX);
    reads.drain(..known.min(reads.len()));
    if !reads.iter().all(|fact| fact.op.is_local()) {
        let why = Code::Parse.because("an access that is not a local one");
        return refuse(tx, caller.fact(Op::Access), why);
    }
    for fact in reads {
        // What the server itself knows, it takes from no machine.
        let Fact { machine, addr, .. } = caller.fact(Op::Access);
        let count = fact.count.filter(|count| *count > 1);
        tx.record(Fact { machine, addr, key: None, seq: None, count, ..fact })?;
    }
    if after > next {
        access::set_next(tx.conn(), caller.number, run, after)?;
    }
    Ok(AccessReply { next: next.max(after) })
}
