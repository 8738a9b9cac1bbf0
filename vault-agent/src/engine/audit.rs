//! Asking for audit records, and verifying the whole chain against every head that verified records
//! have anchored, or an owner has resumed from.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use shared::audit::{AuditHead, leaf};
use shared::hash::Hash;
use shared::log::{Resumed, State};
use shared::time::Time;
use shared::wire::v1::audit::{AuditPage, AuditQuery, LeavesPage, LeavesQuery};

use super::chain::{Chain, Claim, claims, stands};
use super::parts::Parts;
use crate::state::peers;
use host::hint::hinted;
use host::shown::Shown;
use machine::local::{BadRecord, ResumedAt, Unkept, VerifyResult};
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
    /// Where the records begin that the server still has, if not with the first.
    start: Option<Unkept>,
}

impl Walk {
    /// Begins a walk that is to meet all of `claims`.
    fn through(claims: Vec<Claim>) -> Self {
        let mut anchors = BTreeMap::<u64, Vec<(Hash, String)>>::new();
        // Nobody has to put his name to an empty chain.
        for Claim { head, by } in claims.into_iter().filter(|claim| claim.head.n > 0) {
            anchors.entry(head.n).or_default().push((head.hash, by));
        }
        Self { head: AuditHead::EMPTY, anchors, compared: 0, agreed: 0, start: None }
    }

    /// Adds a leaf; fails if an anchor stands there and differs.
    fn step(&mut self, leaf: Hash) -> Result<(), BadRecord> {
        self.head = self.head.then(leaf);
        self.meet_anchor()
    }

    /// Goes on at `from`: where the chain stands, or behind records that the server has no longer.
    /// These cannot be verified any more, but for an anchor at their very end.
    fn go_on(&mut self, from: AuditHead, until: Option<Time>) -> Result<(), BadRecord> {
        if from.n == self.head.n && from.hash == self.head.hash {
            return Ok(());
        }
        if from.n <= self.head.n {
            let reason = "the records up to here do not lead to where the server goes on".into();
            return Err(BadRecord { n: self.head.n, reason });
        }
        let kept = self.anchors.split_off(&from.n);
        let dropped = std::mem::replace(&mut self.anchors, kept);
        let last = dropped.last_key_value().and_then(|(n, named)| Some((n, named.first()?)));
        if let (Some((n, (_, machine))), true) = (last, self.anchors.is_empty()) {
            let reason = format!(
                "the server has dropped all records up to here, and with them every head that was \
                 anchored, the last by {machine} at {n}"
            );
            return Err(BadRecord { n: from.n, reason });
        }
        (self.head, self.agreed) = (from, from.n);
        self.start =
            Some(Unkept { last: from.n, until: until.unwrap_or_default(), hash: from.hash });
        self.meet_anchor()
    }

    fn meet_anchor(&mut self) -> Result<(), BadRecord> {
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
            if first >= n { "this record".into() } else { format!("a record from {first} on") };
        let reason = format!("{which} has changed since {machine} anchored the chain up to here");
        Err(BadRecord { n, reason })
    }
}

/// Asks the server for records.
pub(super) async fn page(parts: &Parts, query: AuditQuery) -> Result<AuditPage> {
    let client = asked(parts).await?;
    // What was read here a moment ago belongs into the answer.
    parts.accesses.shipping.now(PATIENCE).await;
    Ok(client.audit(&query).await?)
}

/// Recomputes the chain and compares it with every anchored head.
pub(super) async fn verify(parts: &Parts) -> Result<VerifyResult> {
    let client = asked(parts).await?;
    let anchored = parts.store.read(|conn| peers::anchors(conn, 0, u64::MAX)).await?;
    let known = parts.reports.audit().chain;
    let (claims, restored) = {
        let folded = parts.ledger.read();
        let state = &folded.state;
        // A later resumption may have gone on with less of the chain, or with none of it.
        let owners = state.resumed().iter();
        let owners = owners.filter(|it| stands(state, it.epoch, it.from.audit_n)).map(owner_claim);
        let own = own_claims(state, known);
        let claims: Vec<_> = claims(state, anchored).into_iter().chain(owners).chain(own).collect();
        (claims, state.resumed().iter().map(resumed_at).collect())
    };
    let mut walk = Walk::through(claims);
    // Without the right to read records their leaves must do.
    let walked = match records(&client, &mut walk).await {
        Err(fault) if is_denied(&fault) => leaves(&client, &mut walk, u64::MAX).await?,
        walked => walked?,
    };
    let bad = walked.and_then(|end| check_end(&walk, end)).err();
    let checked = if bad.is_some() { walk.agreed } else { walk.head.n };
    let Walk { head, compared: anchors, start: unkept, .. } = walk;
    Ok(VerifyResult { checked, head, anchors, restored, bad, unkept })
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

async fn asked(parts: &Parts) -> Result<Client> {
    // A server that is just back is no reason to refuse.
    parts.link.try_now().await;
    parts.link.client().map_err(|reason| {
        let address = parts.link.now().address.filter(|address| !reason.contains(address.as_str()));
        let tried = address.map(|address| format!("{address}: ")).unwrap_or_default();
        // Of several addresses each has a line.
        let why = format!("the audit log lives on the server, which cannot be asked: {tried}{reason}");
        hinted(
            Shown::text(why),
            "`vault status` says since when; `vault kv get` and `vault log` work without the server",
        )
    })
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

/// Walks the records themselves, and the leaves of those that the server has archived, up to the
/// head that it names first: a chain that grows at every question would have no end.
async fn records(client: &Client, walk: &mut Walk) -> Result<Walked, RemoteError> {
    let mut goal = None;
    loop {
        let before = walk.head.n;
        let query = AuditQuery { after: before, limit: Some(PAGE), ..AuditQuery::default() };
        let page = client.audit(&query).await?;
        let goal = *goal.get_or_insert(page.head.n);
        let archived = page.archived.map_or(0, |archived| archived.last);
        let walked = if archived > before {
            let walked = leaves(client, walk, archived).await?;
            walked.and_then(|_| shown_up_to(walk, archived))
        } else {
            page.records.iter().try_for_each(|record| take_record(walk, record))
        };
        if walked.is_err() || walk.head.n >= goal || walk.head.n == before {
            return Ok(walked.and_then(|()| shown_up_to(walk, goal)).map(|()| page.head));
        }
    }
}

/// Walks one record.
fn take_record(walk: &mut Walk, record: &str) -> Result<(), BadRecord> {
    let n = walk.head.n + 1;
    let follows = walk.head.follow(record.as_bytes());
    let _ = follows.map_err(|error| BadRecord { n, reason: error.detail })?;
    walk.step(leaf(record.as_bytes()))
}

/// Walks the leaves, which every machine may have, up to `upto` or to the head that is named first.
async fn leaves(client: &Client, walk: &mut Walk, upto: u64) -> Result<Walked, RemoteError> {
    let mut goal = upto;
    loop {
        let page = client.leaves(LeavesQuery { after: walk.head.n }).await?;
        // Asking puts a record into the chain: there would always be one more.
        goal = goal.min(page.head.n);
        let walked = take_leaves(walk, &page);
        if walked.is_err() || walk.head.n >= goal {
            return Ok(walked.map(|()| page.head));
        }
    }
}

/// Fails unless the chain has come as far as the server says that it has records.
fn shown_up_to(walk: &Walk, n: u64) -> Result<(), BadRecord> {
    if walk.head.n >= n {
        return Ok(());
    }
    let reason = format!("the server shows none of the records from here to {n}");
    Err(BadRecord { n: walk.head.n + 1, reason })
}

/// Walks the leaves of one page, which must bring the chain further unless it has ended.
fn take_leaves(walk: &mut Walk, page: &LeavesPage) -> Result<(), BadRecord> {
    let before = walk.head.n;
    walk.go_on(page.from, page.until)?;
    page.leaves.iter().try_for_each(|leaf| walk.step(*leaf))?;
    if walk.head.n == before { shown_up_to(walk, page.head.n) } else { Ok(()) }
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

    /// A chain of so many records: its leaves, and its value after each, from the empty one on.
    fn chain(records: u64) -> (Vec<Hash>, Vec<AuditHead>) {
        let leaves: Vec<Hash> = (1..=records).map(|n| leaf(&n.to_be_bytes())).collect();
        let mut heads = vec![AuditHead::EMPTY];
        for leaf in &leaves {
            heads.push(heads[heads.len() - 1].then(*leaf));
        }
        (leaves, heads)
    }

    fn page(
        (leaves, heads): &(Vec<Hash>, Vec<AuditHead>),
        from: usize,
        to: usize,
        unkept: bool,
    ) -> LeavesPage {
        LeavesPage {
            from: heads[from],
            until: unkept.then(Time::default),
            leaves: leaves[from..to].to_vec(),
            head: heads[heads.len() - 1],
        }
    }

    /// Walks a chain of which the first `gone` records are not there any more, in pages that end
    /// at `cuts`.
    fn verdict(
        chain: &(Vec<Hash>, Vec<AuditHead>),
        gone: usize,
        cuts: &[usize],
        anchors: &[(u64, Hash)],
    ) -> (Walk, Result<(), BadRecord>) {
        let (mut walk, all) = (walk(anchors), chain.0.len());
        let mut walked = Ok(());
        let mut from = gone;
        for cut in cuts.iter().copied().filter(|cut| *cut > gone).chain([all]) {
            walked = walked.and_then(|()| take_leaves(&mut walk, &page(chain, from, cut, true)));
            from = cut;
        }
        let end = chain.1[all];
        let walked = walked.and_then(|()| check_end(&walk, end));
        (walk, walked)
    }

    proptest::proptest! {
        /// Wherever segments end and however many were deleted, what is left gets the verdict that
        /// the whole chain gets. What the anchors before it judge goes with them; all of them never
        /// go.
        #[test]
        fn cuts_do_not_change_the_verdict(
            records in 1_usize..60,
            gone in 0_usize..60,
            mut cuts in proptest::collection::vec(1_usize..60, 0..6),
            anchored in proptest::collection::btree_set(1_u64..70, 0..8),
            forged in proptest::option::of(1_u64..70),
        ) {
            let chain = chain(records as u64);
            let gone = gone % records;
            cuts.sort_unstable();
            cuts.dedup();
            cuts.retain(|cut| *cut < records);
            let anchor = |n: &u64| {
                let value = usize::try_from(*n).ok().and_then(|n| chain.1.get(n));
                let hash = value.map_or(Hash::ZERO, |head| head.hash);
                (*n, if forged == Some(*n) { Hash::of(&[b"forged"]) } else { hash })
            };
            let anchors: Vec<_> = anchored.iter().map(anchor).collect();
            let (whole, expected) = verdict(&chain, 0, &[], &anchors);
            let (cut, found) = verdict(&chain, 0, &cuts, &anchors);
            proptest::prop_assert_eq!(&found, &expected);
            proptest::prop_assert_eq!((cut.head, cut.compared), (whole.head, whole.compared));
            let kept: Vec<_> =
                anchors.iter().copied().filter(|(n, _)| *n >= gone as u64).collect();
            let (_, expected) = verdict(&chain, 0, &[], &kept);
            let (left, found) = verdict(&chain, gone, &cuts, &anchors);
            let place = |walked: &Result<(), BadRecord>| walked.as_ref().err().map(|bad| bad.n);
            if kept.is_empty() && !anchors.is_empty() {
                proptest::prop_assert_eq!(place(&found), Some(gone as u64));
                return Ok(());
            }
            proptest::prop_assert_eq!(place(&found), place(&expected));
            proptest::prop_assert_eq!(left.start.map_or(0, |unkept| unkept.last), gone as u64);
        }
    }

    #[test]
    fn a_segment_that_was_changed_is_found_where_the_next_one_begins() {
        let chain = chain(9);
        let mut walk = walk(&[]);
        let mut damaged = page(&chain, 0, 3, false);
        damaged.leaves[1] = Hash::ZERO;
        assert_eq!(take_leaves(&mut walk, &damaged), Ok(()));
        let bad = take_leaves(&mut walk, &page(&chain, 3, 9, false)).unwrap_err();
        assert_eq!(bad.n, 3);
        assert!(bad.reason.starts_with("the records up to here do not lead"), "{}", bad.reason);
    }

    #[test]
    fn a_server_that_shows_nothing_more_is_not_believed_to_be_at_its_end() {
        let chain = chain(9);
        let mut walk = walk(&[]);
        assert_eq!(take_leaves(&mut walk, &page(&chain, 0, 3, false)), Ok(()));
        let bad = take_leaves(&mut walk, &page(&chain, 3, 3, false)).unwrap_err();
        assert_eq!(
            (bad.n, bad.reason.as_str()),
            (4, "the server shows none of the records from here to 9")
        );
        let back = page(&chain, 1, 9, false);
        assert_eq!(take_leaves(&mut walk, &back).unwrap_err().n, 3, "nor one that goes back");
    }
}
