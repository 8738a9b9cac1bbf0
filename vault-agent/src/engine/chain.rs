//! The audit chain as this machine has followed it: it may only grow, and the leaves must lead from
//! the head last followed to the one that the server names now (design/trust, *Reports*, audit).
//! Pure; fetching leaves lives in `leaves`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::audit::AuditHead;
use shared::error::{Code, Result};
use shared::hash::Hash;
use shared::log::State;
use tokio::time::Instant;

use crate::state::peers::Anchor;

/// How often a machine that reads the audit log follows it at most.
const READER: Duration = Duration::from_mins(1);
/// How often any other machine does.
const OTHERS: Duration = Duration::from_hours(1);

/// How far the chain is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chain {
    /// The epoch that it was named in.
    pub(super) epoch: Hash,
    /// The head that the leaves have been followed to.
    pub(super) followed: AuditHead,
    /// The newest head that the server has named.
    pub(super) named: AuditHead,
}

/// A head that somebody has put his name to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) head: AuditHead,
    /// Who, as shown.
    pub(super) by: String,
}

/// The chain, and what has become of following it.
#[derive(Default)]
pub(super) struct Audit {
    /// `None` until the server has named a head that is to be believed.
    pub(super) chain: Option<Chain>,
    /// Whether it was found rewritten: nothing more is followed until a person has looked.
    broken: bool,
    /// Whether the server has refused to be reminded of the head that it named.
    refused: bool,
    followed_at: Option<Instant>,
}

impl Chain {
    /// Begins where the chain is named for the first time: nothing is known of what was before.
    const fn begin(epoch: Hash, now: AuditHead) -> Self {
        Self { epoch, followed: now, named: now }
    }

    /// Goes on in the log's present epoch: what an owner's resumption left behind is not expected
    /// any more.
    fn resume(&mut self, state: &State) {
        for resumed in resumed_after(state, self.epoch).unwrap_or_default() {
            let (n, hash) = (resumed.from.audit_n, resumed.from.audit_head);
            let cut = |head: AuditHead| if head.n > n { AuditHead { n, hash } } else { head };
            (self.followed, self.named) = (cut(self.followed), cut(self.named));
            self.epoch = resumed.epoch;
        }
    }

    /// Takes up the head that the server names now.
    fn name(&mut self, now: AuditHead) -> Result<()> {
        let before = self.named;
        if now.n < before.n {
            let why = format!("it had {} records and has {}", before.n, now.n);
            return Err(Code::AuditRewritten.because(why));
        }
        if now.n == before.n && now.hash != before.hash {
            return Err(Code::AuditRewritten.because(format!("record {} was another", now.n)));
        }
        self.named = now;
        Ok(())
    }

    /// Goes on at `from`, before the leaves of a page: where the chain stands, or behind records
    /// that the server keeps no longer, which cannot be followed any more.
    ///
    /// # Errors
    /// `E_AUDIT_REWRITTEN` anywhere else.
    pub(super) fn go_on(&mut self, from: AuditHead, unkept: bool) -> Result<()> {
        if unkept && (self.followed.n + 1..=self.named.n).contains(&from.n) {
            self.followed = from;
        }
        if from == self.followed {
            return Ok(());
        }
        let n = self.followed.n;
        let why = format!("the records up to {n} do not lead to where the server goes on");
        Err(Code::AuditRewritten.because(why))
    }

    /// Follows leaves up to the named head, through `claims`, which are in order.
    ///
    /// # Errors
    /// `E_AUDIT_REWRITTEN` where they lead elsewhere, or end before it.
    pub(super) fn follow(&mut self, leaves: &[Hash], claims: &[Claim]) -> Result<()> {
        let mut claims = claims.iter().peekable();
        let due = self.named.n.saturating_sub(self.followed.n);
        let due = usize::try_from(due).unwrap_or(usize::MAX);
        if leaves.is_empty() && due > 0 {
            let (named, there) = (self.named.n, self.followed.n);
            let why = format!("the server has named record {named}, its leaves end at {there}");
            return Err(Code::AuditRewritten.because(why));
        }
        for leaf in leaves.iter().take(due) {
            self.followed = self.followed.then(*leaf);
            let n = self.followed.n;
            while let Some(claim) = claims.next_if(|claim| claim.head.n <= n) {
                if claim.head.n == n && claim.head.hash != self.followed.hash {
                    let why = format!("up to record {n} it is not what {} has seen", claim.by);
                    return Err(Code::AuditRewritten.because(why));
                }
            }
        }
        if self.followed.n == self.named.n && self.followed.hash != self.named.hash {
            let why = format!("its leaves do not lead to record {} as it was named", self.named.n);
            return Err(Code::AuditRewritten.because(why));
        }
        Ok(())
    }

    /// Returns how many records are still to be followed.
    pub(super) const fn due(&self) -> u64 {
        self.named.n.saturating_sub(self.followed.n)
    }
}

impl Audit {
    pub(super) fn new(chain: Option<Chain>) -> Self {
        Self { chain, ..Self::default() }
    }

    /// Returns the head that this machine's next record anchors, in the log's present epoch.
    pub(super) fn anchored(&self, state: &State) -> AuditHead {
        let known = self.chain.filter(|chain| !self.refused && stands(state, chain.epoch, 0));
        let present = known.map(|mut chain| {
            chain.resume(state);
            chain.named
        });
        present.unwrap_or(AuditHead::EMPTY)
    }

    /// Takes up the head that the server names now.
    ///
    /// # Errors
    /// `E_AUDIT_REWRITTEN` unless it has only grown.
    pub(super) fn named(&mut self, state: &State, now: AuditHead) -> Result<()> {
        let known = self.chain.as_mut().filter(|chain| stands(state, chain.epoch, 0));
        match known {
            Some(chain) => {
                chain.resume(state);
                chain.name(now)?;
            }
            // Never named before, or in a log that this machine has left.
            None => self.chain = Some(Chain::begin(state.epoch(), now)),
        }
        self.refused = false;
        Ok(())
    }

    /// Notes that the server refuses the head that it has named; tells whether that is news.
    pub(super) const fn refuse(&mut self) -> bool {
        !std::mem::replace(&mut self.refused, true) && self.chain.is_some()
    }

    /// Returns the chain if its leaves are to be followed now. Following puts records into it:
    /// growth by no more than all `readers` together make of it is no reason.
    pub(super) fn due(&self, is_reader: bool, readers: u64, now: Instant) -> Option<Chain> {
        let chain = self.chain.filter(|chain| chain.due() > 0 && !self.broken)?;
        let since = self.followed_at.map(|at| now.saturating_duration_since(at));
        let is_due = since.is_none_or(|since| {
            since >= OTHERS || (is_reader && since >= READER && chain.due() > readers)
        });
        is_due.then_some(chain)
    }

    /// Notes how far `from` was followed, unless a person has begun anew meanwhile.
    pub(super) fn followed(&mut self, from: Chain, to: AuditHead) {
        let same =
            |chain: &&mut Chain| (chain.epoch, chain.followed) == (from.epoch, from.followed);
        if let Some(chain) = self.chain.as_mut().filter(same) {
            chain.followed = to;
        }
    }

    /// Notes that a round of following ends.
    pub(super) const fn rest(&mut self, now: Instant, broken: bool) {
        self.followed_at = Some(now);
        self.broken = broken;
    }
}

/// Returns the heads that must be in the chain, in order: those that machines have anchored and no
/// resumption has cut off.
pub(super) fn claims(state: &State, anchors: Vec<Anchor>) -> Vec<Claim> {
    let standing = anchors.into_iter().filter(|anchor| stands(state, anchor.epoch, anchor.audit.n));
    let claim = |Anchor { machine, audit, .. }| {
        let name = state.machine_numbered(machine).map(|machine| machine.name.to_string());
        let by = name.unwrap_or_else(|| format!("machine {machine}"));
        Claim { head: audit, by }
    };
    standing.map(claim).collect()
}

/// Tells whether a head of record `n` that was named in `epoch` must still be in the chain: every
/// resumption since has kept that record.
pub(super) fn stands(state: &State, epoch: Hash, n: u64) -> bool {
    resumed_after(state, epoch)
        .is_some_and(|later| later.iter().all(|resumed| n <= resumed.from.audit_n))
}

/// Returns the resumptions since an epoch; `None` if the log has no such epoch.
fn resumed_after(state: &State, epoch: Hash) -> Option<&[shared::log::Resumed]> {
    let all = state.resumed();
    if epoch == state.vault() {
        return Some(all);
    }
    let at = all.iter().position(|resumed| resumed.epoch == epoch)?;
    all.get(at + 1..)
}

#[cfg(test)]
mod tests;
