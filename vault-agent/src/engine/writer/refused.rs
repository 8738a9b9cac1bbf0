//! Entries that the server has refused: it might commit one all the same, to have its changes
//! written twice. So they are written anew only at the very same place, where but one of the two
//! can stand, or once the log shows there that the first one does not.

use shared::audit::Outcome;
use shared::hash::Hash;

use super::caller::{Attempt, Build, Caller, facts, record, written};
use crate::engine::parts::Parts;
use crate::engine::types::WriteError;

/// Notes with each caller that an entry with its changes was refused.
pub(super) fn note(callers: &mut [Caller], build: &Build, hash: Hash) {
    for (caller, drafts) in callers.iter_mut().zip(&build.drafts) {
        let drafts = drafts.clone();
        caller.refused.push(Attempt { seq: build.seq, hash, time: build.time, drafts });
    }
}

/// Answers the callers whose refused entry is in the log; tells whether there were any. Asked once
/// more after a draft, it holds for that: an entry that comes later takes the place of the draft.
///
/// # Errors
/// If the database fails.
pub(super) async fn settle(parts: &Parts, callers: &mut Vec<Caller>) -> Result<bool, WriteError> {
    let (mut at, before) = (0, callers.len());
    while let Some(caller) = callers.get(at) {
        let Some(attempt) = standing(parts, &caller.refused).await? else {
            at += 1;
            continue;
        };
        let Attempt { seq, time, drafts, .. } = attempt;
        tracing::warn!(seq, "the server has refused an entry that is in its log");
        let written = written(*seq, *time, drafts);
        record(parts, facts(&caller.by, drafts, &Outcome::Ok)).await?;
        callers.remove(at).answer(Ok(written));
    }
    Ok(callers.len() < before)
}

/// Returns the one of the entries that is in the log.
async fn standing<'a>(
    parts: &Parts,
    attempts: &'a [Attempt],
) -> Result<Option<&'a Attempt>, WriteError> {
    for attempt in attempts {
        if parts.ledger.hash_at(attempt.seq).await? == Some(attempt.hash) {
            return Ok(Some(attempt));
        }
    }
    Ok(None)
}
