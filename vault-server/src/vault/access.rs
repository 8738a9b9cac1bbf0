//! Local reads of machines: what an agent answered from its cache, shipped in batches and kept as
//! audit records.

use shared::error::Code;
use shared::wire::v1::audit::{AccessReply, AccessRequest, LocalRead};

use crate::store::audit::Row;
use crate::store::{Desk, access};

use super::{Caller, Outcome, Refusal, Vault, admitted, refuse};

/// Most local reads in one batch.
const READS: usize = 1000;
/// Longest text of a machine's own that a record keeps, in bytes.
const TEXT: usize = 256;

impl Vault {
    /// Records a batch of local reads, each once.
    ///
    /// # Errors
    /// [`Refusal::Rule`] past 1000 reads.
    pub async fn access(
        &self,
        caller: &Caller,
        request: AccessRequest,
    ) -> Result<AccessReply, Refusal> {
        let caller = caller.clone();
        self.call(move |desk| record(desk, &caller, request)).await
    }
}

fn record(desk: &mut Desk, caller: &Caller, request: AccessRequest) -> Outcome<AccessReply> {
    if let Err(refusal) = admitted(desk, caller) {
        return Ok(Err(refusal));
    }
    let AccessRequest { first, reads } = request;
    if reads.len() > READS || first > u64::MAX / 2 {
        let why = Code::Limits.because(format!("{} local reads from {first}", reads.len()));
        return refuse(desk, caller.row("access"), why);
    }
    let next = access::next(desk.conn(), &caller.name)?;
    let known = usize::try_from(next.saturating_sub(first)).unwrap_or(usize::MAX);
    let after = first + reads.len() as u64;
    for read in reads.into_iter().skip(known) {
        desk.record(row(caller, read))?;
    }
    if after > next {
        access::set_next(desk.conn(), &caller.name, after)?;
    }
    Ok(Ok(AccessReply { next: next.max(after) }))
}

fn row(caller: &Caller, read: LocalRead) -> Row {
    Row {
        who: Some(clip(read.who)),
        at: Some(read.time),
        op: clip(format!("local_{}", read.op)),
        path: Some(read.path.to_string()),
        ver: (read.ver > 0).then_some(read.ver),
        count: Some(read.count),
        result: clip(read.result),
        ..caller.row("")
    }
}

/// Cuts a text that is too long: one odd process name must not hold back a machine's whole batch.
fn clip(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT));
    text
}
