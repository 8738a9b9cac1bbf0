//! Asking for audit records, and verifying the whole chain against every head that was ever
//! anchored in a verified report.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow};
use shared::audit::{AuditHead, leaf};
use shared::hash::Hash;
use shared::name::Name;
use shared::wire::v1::audit::{AuditPage, AuditQuery, LeavesQuery};

use super::access::Accesses;
use super::link::Link;
use super::types::{AuditFault, VerifyResult};
use crate::state::{self, Store};
use machine::remote::{Client, RemoteError};

/// How long to wait for local accesses to be shipped first.
const PATIENCE: Duration = Duration::from_secs(2);
/// Records asked for at once.
const PAGE: u64 = 10_000;

/// The chain so far, and the anchors still to be met.
struct Walk {
    head: AuditHead,
    anchors: BTreeMap<u64, (Hash, Name)>,
    compared: usize,
    /// The last record up to which a machine's head agrees.
    agreed: u64,
}

impl Walk {
    /// Adds a leaf; returns what is wrong if an anchor stands there and differs.
    fn step(&mut self, leaf: Hash) -> Option<AuditFault> {
        self.head = self.head.then(leaf);
        let (hash, machine) = self.anchors.remove(&self.head.n)?;
        self.compared += 1;
        if hash == self.head.hash {
            self.agreed = self.head.n;
            return None;
        }
        // A chain does not tell which record before a head differs, only that one does.
        let (first, n) = (self.agreed + 1, self.head.n);
        let which =
            if first == n { "this record".into() } else { format!("a record from {first} on") };
        let detail = format!("{which} has changed since `{machine}` reported the chain up to here");
        Some(AuditFault { n, detail })
    }
}

/// Asks the server for records.
pub(super) async fn page(link: &Link, accesses: &Accesses, query: AuditQuery) -> Result<AuditPage> {
    let client = asked(link)?;
    // What was read here a moment ago belongs into the answer.
    accesses.ship_now(PATIENCE).await;
    Ok(client.audit(&query).await?)
}

/// Recomputes the chain and compares it with every anchored head.
pub(super) async fn verify(link: &Link, store: &Store) -> Result<VerifyResult> {
    let client = asked(link)?;
    let anchors = store.read(state::peers::anchors).await?;
    let mut walk = Walk {
        head: AuditHead::EMPTY,
        anchors: anchors.into_iter().map(|(head, name)| (head.n, (head.hash, name))).collect(),
        compared: 0,
        agreed: 0,
    };
    let (fault, read_records, end) = match records(&client, &mut walk).await {
        Ok((fault, end)) => (fault, true, end),
        Err(fault) if is_denied(&fault) => {
            let (fault, end) = leaves(&client, &mut walk).await?;
            (fault, false, end)
        }
        Err(fault) => return Err(fault.into()),
    };
    let fault = fault.or_else(|| unmet(&walk, end));
    let records = if fault.is_some() { walk.agreed } else { walk.head.n };
    Ok(VerifyResult { records, head: walk.head, read_records, anchors: walk.compared, fault })
}

fn asked(link: &Link) -> Result<Client> {
    link.client().map_err(|reason| anyhow!("the server cannot be asked: {reason}"))
}

fn is_denied(fault: &RemoteError) -> bool {
    match fault {
        RemoteError::Status { status, .. } => *status == 403,
        RemoteError::Refused(error) => error.code == shared::error::Code::Denied,
        RemoteError::Conflict(_) | RemoteError::Lost(_) | RemoteError::Protocol(_) => false,
    }
}

/// Walks the records themselves; returns the first fault and the head the server claims.
async fn records(
    client: &Client,
    walk: &mut Walk,
) -> Result<(Option<AuditFault>, AuditHead), RemoteError> {
    loop {
        let query = AuditQuery { after: walk.head.n, limit: Some(PAGE), ..AuditQuery::default() };
        let page = client.audit(&query).await?;
        for record in &page.records {
            if let Err(error) = walk.head.follow(record.as_bytes()) {
                let fault = AuditFault { n: walk.head.n + 1, detail: error.detail };
                return Ok((Some(fault), page.head));
            }
            if let Some(fault) = walk.step(leaf(record.as_bytes())) {
                return Ok((Some(fault), page.head));
            }
        }
        if !page.more || page.records.is_empty() {
            return Ok((None, page.head));
        }
    }
}

/// Walks the leaves, which every machine may have.
async fn leaves(
    client: &Client,
    walk: &mut Walk,
) -> Result<(Option<AuditFault>, AuditHead), RemoteError> {
    loop {
        let page = client.leaves(LeavesQuery { after: walk.head.n }).await?;
        if page.leaves.is_empty() {
            return Ok((None, page.head));
        }
        for leaf in &page.leaves {
            if let Some(fault) = walk.step(*leaf) {
                return Ok((Some(fault), page.head));
            }
        }
        // Asking puts a record into the chain: there would always be one more.
        if walk.head.n >= page.head.n {
            return Ok((None, page.head));
        }
    }
}

/// Returns the anchor or head that the chain does not reach or meet.
fn unmet(walk: &Walk, end: AuditHead) -> Option<AuditFault> {
    if let Some((n, (_, machine))) = walk.anchors.first_key_value() {
        let detail =
            format!("the chain ends at record {}, `{machine}` has reported {n}", walk.head.n);
        return Some(AuditFault { n: walk.head.n + 1, detail });
    }
    // The chain may have grown since the last page; it may not differ where it stands.
    (end.n == walk.head.n && end.hash != walk.head.hash).then(|| AuditFault {
        n: end.n,
        detail: "the chain's head is not what its records hash to".into(),
    })
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
        assert_eq!(good.step(leaf(b"1")), None);
        assert_eq!(unmet(&good, first), None);
        let mut bad = walk(&[(1, first.hash), (2, Hash::ZERO), (4, Hash::ZERO)]);
        assert_eq!(bad.step(leaf(b"1")), None);
        let fault = bad.step(leaf(b"2")).unwrap();
        assert_eq!(fault.n, 2);
        assert_eq!(
            fault.detail,
            "this record has changed since `vps` reported the chain up to here"
        );
        assert_eq!(bad.step(leaf(b"3")), None);
        let fault = bad.step(leaf(b"4")).unwrap();
        assert_eq!((fault.n, bad.agreed), (4, 1));
        assert!(fault.detail.starts_with("a record from 2 on has changed"), "{}", fault.detail);
    }

    #[test]
    fn a_cut_chain_is_named() {
        let mut cut = walk(&[(2, Hash::ZERO)]);
        assert_eq!(cut.step(leaf(b"1")), None);
        let fault = unmet(&cut, cut.head).unwrap();
        assert_eq!(fault.detail, "the chain ends at record 1, `vps` has reported 2");
    }
}
