//! Asking for audit records, and verifying the whole chain against every head that was ever
//! anchored in a verified report.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow};
use shared::audit::{AuditHead, leaf};
use shared::hash::Hash;
use shared::name::Name;
use shared::wire::v1::audit::{AuditPage, AuditQuery, LeavesQuery};

use super::parts::Parts;
use crate::state;
use machine::local::{BadRecord, VerifyResult};
use machine::remote::{Client, RemoteError};

/// How long to wait for local accesses to be shipped first.
const PATIENCE: Duration = Duration::from_secs(2);
/// Records asked for at once.
const PAGE: u64 = 10_000;

/// The chain so far, and the anchors still to be met.
struct Walk {
    head: AuditHead,
    anchors: BTreeMap<u64, (Hash, Name)>,
    compared: u64,
    /// The last record up to which a machine's head agrees.
    agreed: u64,
}

impl Walk {
    /// Adds a leaf; fails if an anchor stands there and differs.
    fn step(&mut self, leaf: Hash) -> Result<(), BadRecord> {
        self.head = self.head.then(leaf);
        let Some((hash, machine)) = self.anchors.remove(&self.head.n) else { return Ok(()) };
        self.compared += 1;
        if hash == self.head.hash {
            self.agreed = self.head.n;
            return Ok(());
        }
        // A chain does not tell which record before a head differs, only that one does.
        let (first, n) = (self.agreed + 1, self.head.n);
        let which =
            if first == n { "this record".into() } else { format!("a record from {first} on") };
        let reason = format!("{which} has changed since `{machine}` reported the chain up to here");
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
    let anchors = parts.store.read(|conn| state::peers::anchors(conn)).await?;
    let mut walk = Walk {
        head: AuditHead::EMPTY,
        anchors: anchors.into_iter().map(|(head, name)| (head.n, (head.hash, name))).collect(),
        compared: 0,
        agreed: 0,
    };
    // Without the right to read records their leaves must do.
    let walked = match records(&client, &mut walk).await {
        Err(fault) if is_denied(&fault) => leaves(&client, &mut walk).await?,
        walked => walked?,
    };
    let bad = walked.and_then(|end| check_end(&walk, end)).err();
    let checked = if bad.is_some() { walk.agreed } else { walk.head.n };
    Ok(VerifyResult { checked, head: walk.head, anchors: walk.compared, bad })
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
    if let Some((n, (_, machine))) = walk.anchors.first_key_value() {
        let reason =
            format!("the chain ends at record {}, `{machine}` has reported {n}", walk.head.n);
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
        let name: Name = "vps".parse().unwrap();
        Walk {
            head: AuditHead::EMPTY,
            anchors: anchors.iter().map(|(n, hash)| (*n, (*hash, name.clone()))).collect(),
            compared: 0,
            agreed: 0,
        }
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
            "this record has changed since `vps` reported the chain up to here"
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
        assert_eq!(fault.reason, "the chain ends at record 1, `vps` has reported 2");
    }
}
