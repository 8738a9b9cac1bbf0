//! Asking for audit records, and verifying the whole chain against every head that verified records
//! have anchored, or an owner has resumed from.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow};
use shared::audit::{AuditHead, leaf};
use shared::hash::Hash;
use shared::log::{Resumed, State};
use shared::wire::v1::audit::{AuditPage, AuditQuery, LeavesQuery};

use super::chain::{Chain, Claim, claims, stands};
use super::parts::Parts;
use crate::state::peers;
use machine::local::{BadRecord, ResumedAt, VerifyResult};
use machine::remote::{Client, RemoteError};

/// How long to wait for local accesses to be shipped first.
const PATIENCE: Duration = Duration::from_secs(2);
/// Records asked for at once.
const PAGE: u64 = 10_000;

/// The chain so far, and the anchors still to be met.
struct Walk {
    head: AuditHead,
    anchors: BTreeMap<u64, Vec<(Hash, String)>>,
    compared: u64,
    /// The last record up to which a machine's head agrees.
    agreed: u64,
}

impl Walk {
    /// Begins a walk that is to meet all of `claims`.
    fn through(claims: Vec<Claim>) -> Self {
        let mut anchors = BTreeMap::<u64, Vec<(Hash, String)>>::new();
        // Nobody has to put his name to an empty chain.
        for Claim { head, by } in claims.into_iter().filter(|claim| claim.head.n > 0) {
            anchors.entry(head.n).or_default().push((head.hash, by));
        }
        Self { head: AuditHead::EMPTY, anchors, compared: 0, agreed: 0 }
    }

    /// Adds a leaf; fails if an anchor stands there and differs.
    fn step(&mut self, leaf: Hash) -> Result<(), BadRecord> {
        self.head = self.head.then(leaf);
        let Some(anchors) = self.anchors.remove(&self.head.n) else { return Ok(()) };
        self.compared += anchors.len() as u64;
        let differs = anchors.into_iter().find(|(hash, _)| *hash != self.head.hash);
        let Some((_, machine)) = differs else {
            self.agreed = self.head.n;
            return Ok(());
        };
        // A chain does not tell which record before a head differs, only that one does.
        let (first, n) = (self.agreed + 1, self.head.n);
        let which =
            if first == n { "this record".into() } else { format!("a record from {first} on") };
        let reason = format!("{which} has changed since {machine} anchored the chain up to here");
        Err(BadRecord { n, reason })
    }
}

/// Asks the server for records.
pub(super) async fn page(parts: &Parts, query: AuditQuery) -> Result<AuditPage> {
    let client = asked(parts)?;
    // What was read here a moment ago belongs into the answer.
    parts.accesses.shipping.now(PATIENCE).await;
    Ok(client.audit(&query).await?)
}

/// Recomputes the chain and compares it with every anchored head.
pub(super) async fn verify(parts: &Parts) -> Result<VerifyResult> {
    let client = asked(parts)?;
    let anchored = parts.store.read(|conn| peers::anchors(conn, 0, u64::MAX)).await?;
    let known = parts.reports.audit().chain;
    let (claims, restored) = {
        let folded = parts.ledger.read();
        let state = &folded.state;
        let owners = state.resumed().iter().map(owner_claim);
        let own = own_claims(state, known);
        let claims: Vec<_> = claims(state, anchored).into_iter().chain(owners).chain(own).collect();
        (claims, state.resumed().iter().map(resumed_at).collect())
    };
    let mut walk = Walk::through(claims);
    // Without the right to read records their leaves must do.
    let walked = match records(&client, &mut walk).await {
        Err(fault) if is_denied(&fault) => leaves(&client, &mut walk).await?,
        walked => walked?,
    };
    let bad = walked.and_then(|end| check_end(&walk, end)).err();
    let checked = if bad.is_some() { walk.agreed } else { walk.head.n };
    Ok(VerifyResult { checked, head: walk.head, anchors: walk.compared, restored, bad })
}

/// What an owner who resumed has put his name to: the last record before the restore.
fn owner_claim(resumed: &Resumed) -> Claim {
    let head = AuditHead { n: resumed.from.audit_n, hash: resumed.from.audit_head };
    Claim { head, by: format!("`{}`, who resumed after a restore,", resumed.by) }
}

/// What this machine itself has been shown.
fn own_claims(state: &State, known: Option<Chain>) -> impl Iterator<Item = Claim> {
    let heads = known
        .into_iter()
        .flat_map(|chain| [chain.followed, chain.named].map(|head| (chain.epoch, head)));
    heads
        .filter(|(epoch, head)| stands(state, *epoch, head.n))
        .map(|(_, head)| Claim { head, by: "this machine".into() })
}

fn resumed_at(resumed: &Resumed) -> ResumedAt {
    ResumedAt { n: resumed.from.audit_n, time: resumed.time, by: resumed.by.clone() }
}

fn asked(parts: &Parts) -> Result<Client> {
    parts.link.client().map_err(|reason| anyhow!("the server cannot be asked: {reason}"))
}

fn is_denied(fault: &RemoteError) -> bool {
    match fault {
        RemoteError::Status { status, .. } => *status == 403,
        RemoteError::Refused(error) => error.code == shared::error::Code::Denied,
        RemoteError::Conflict(_) | RemoteError::Lost(_) | RemoteError::Protocol(_) => false,
    }
}

/// The head that the server claims, or the first fault before it.
type Walked = Result<AuditHead, BadRecord>;

/// Walks the records themselves.
async fn records(client: &Client, walk: &mut Walk) -> Result<Walked, RemoteError> {
    loop {
        let query = AuditQuery { after: walk.head.n, limit: Some(PAGE), ..AuditQuery::default() };
        let page = client.audit(&query).await?;
        for record in &page.records {
            let n = walk.head.n + 1;
            let follows = walk.head.follow(record.as_bytes());
            let follows = follows.map_err(|error| BadRecord { n, reason: error.detail });
            if let Err(bad) = follows.and_then(|_| walk.step(leaf(record.as_bytes()))) {
                return Ok(Err(bad));
            }
        }
        if !page.more || page.records.is_empty() {
            return Ok(Ok(page.head));
        }
    }
}

/// Walks the leaves, which every machine may have.
async fn leaves(client: &Client, walk: &mut Walk) -> Result<Walked, RemoteError> {
    loop {
        let page = client.leaves(LeavesQuery { after: walk.head.n }).await?;
        if let Err(bad) = page.leaves.iter().try_for_each(|leaf| walk.step(*leaf)) {
            return Ok(Err(bad));
        }
        // Asking puts a record into the chain: there would always be one more.
        if page.leaves.is_empty() || walk.head.n >= page.head.n {
            return Ok(Ok(page.head));
        }
    }
}

/// Checks that the chain reaches every anchor and meets the head that the server claims.
fn check_end(walk: &Walk, end: AuditHead) -> Result<(), BadRecord> {
    let missed = walk.anchors.iter().find_map(|(n, named)| Some((n, named.first()?)));
    if let Some((n, (_, machine))) = missed {
        let reason =
            format!("the chain ends at record {}, {machine} has anchored {n}", walk.head.n);
        return Err(BadRecord { n: walk.head.n + 1, reason });
    }
    // The chain may have grown since the last page; it may not differ where it stands.
    if end.n == walk.head.n && end.hash != walk.head.hash {
        let reason = "the chain's head is not what its records hash to".into();
        return Err(BadRecord { n: end.n, reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(anchors: &[(u64, Hash)]) -> Walk {
        let claim = |(n, hash): &(u64, Hash)| Claim {
            head: AuditHead { n: *n, hash: *hash },
            by: "`vps`".into(),
        };
        Walk::through(anchors.iter().map(claim).collect())
    }

    #[test]
    fn an_anchor_that_differs_is_named() {
        let first = AuditHead::EMPTY.then(leaf(b"1"));
        let mut good = walk(&[(1, first.hash)]);
        assert_eq!(good.step(leaf(b"1")), Ok(()));
        assert_eq!(check_end(&good, first), Ok(()));
        let mut bad = walk(&[(1, first.hash), (2, Hash::ZERO), (4, Hash::ZERO)]);
        assert_eq!(bad.step(leaf(b"1")), Ok(()));
        let fault = bad.step(leaf(b"2")).unwrap_err();
        assert_eq!(fault.n, 2);
        assert_eq!(
            fault.reason,
            "this record has changed since `vps` anchored the chain up to here"
        );
        assert_eq!(bad.step(leaf(b"3")), Ok(()));
        let fault = bad.step(leaf(b"4")).unwrap_err();
        assert_eq!((fault.n, bad.agreed), (4, 1));
        assert!(fault.reason.starts_with("a record from 2 on has changed"), "{}", fault.reason);
    }

    #[test]
    fn a_cut_chain_is_named() {
        let mut cut = walk(&[(2, Hash::ZERO)]);
        assert_eq!(cut.step(leaf(b"1")), Ok(()));
        let fault = check_end(&cut, cut.head).unwrap_err();
        assert_eq!(fault.reason, "the chain ends at record 1, `vps` has anchored 2");
    }
}
