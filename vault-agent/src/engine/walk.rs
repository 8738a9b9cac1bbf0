//! A walk along the audit chain: every record or leaf links to what was before it, and every head
//! that somebody has put his name to must be met on the way. Pure, and kept between its pieces.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::audit::{AuditHead, leaf};
use shared::hash::Hash;
use shared::time::Time;
use shared::wire::v1::audit::LeavesPage;

use super::chain::Claim;
use machine::local::{BadRecord, Unkept};

/// The chain so far, and the anchors still to be met.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Walk {
    pub(super) head: AuditHead,
    anchors: BTreeMap<u64, Vec<(Hash, String)>>,
    /// Heads that were met, or passed with what is kept no longer.
    met: Vec<AuditHead>,
    pub(super) compared: u64,
    /// The last record up to which a machine's head agrees.
    pub(super) agreed: u64,
    /// Where the records begin that the server still has, if not with the first.
    pub(super) start: Option<Unkept>,
}

impl Walk {
    /// Begins a walk that is to meet all of `claims`.
    pub(super) fn through(claims: Vec<Claim>) -> Self {
        let mut anchors = BTreeMap::<u64, Vec<(Hash, String)>>::new();
        // Nobody has to put his name to an empty chain.
        for Claim { head, by } in claims.into_iter().filter(|claim| claim.head.n > 0) {
            anchors.entry(head.n).or_default().push((head.hash, by));
        }
        Self {
            head: AuditHead::EMPTY,
            anchors,
            met: Vec::new(),
            compared: 0,
            agreed: 0,
            start: None,
        }
    }

    /// Adds heads that were claimed since the walk began; `false` if it has passed one of them
    /// without meeting it.
    pub(super) fn add(&mut self, claims: Vec<Claim>) -> bool {
        let mut all_met = true;
        for Claim { head, by } in claims.into_iter().filter(|claim| claim.head.n > 0) {
            if head.n <= self.head.n {
                all_met &= self.met.contains(&head);
                continue;
            }
            let there = self.anchors.entry(head.n).or_default();
            if !there.iter().any(|known| known.0 == head.hash) {
                there.push((head.hash, by));
            }
        }
        all_met
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
        let passed = dropped
            .iter()
            .flat_map(|(n, named)| named.iter().map(|(hash, _)| AuditHead { n: *n, hash: *hash }));
        self.met.extend(passed);
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
        self.met.push(self.head);
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

/// Walks one record.
pub(super) fn take_record(walk: &mut Walk, record: &str) -> Result<(), BadRecord> {
    let n = walk.head.n + 1;
    let follows = walk.head.follow(record.as_bytes());
    let _ = follows.map_err(|error| BadRecord { n, reason: error.detail })?;
    walk.step(leaf(record.as_bytes()))
}

/// Fails unless the chain has come as far as the server says that it has records.
pub(super) fn shown_up_to(walk: &Walk, n: u64) -> Result<(), BadRecord> {
    if walk.head.n >= n {
        return Ok(());
    }
    let reason = format!("the server shows none of the records from here to {n}");
    Err(BadRecord { n: walk.head.n + 1, reason })
}

/// Walks the leaves of one page, which must bring the chain further unless it has ended.
pub(super) fn take_leaves(walk: &mut Walk, page: &LeavesPage) -> Result<(), BadRecord> {
    let before = walk.head.n;
    walk.go_on(page.from, page.until)?;
    page.leaves.iter().try_for_each(|leaf| walk.step(*leaf))?;
    if walk.head.n == before { shown_up_to(walk, page.head.n) } else { Ok(()) }
}

/// Checks that the chain reaches every anchor and meets the head that the server claims.
pub(super) fn check_end(walk: &Walk, end: AuditHead) -> Result<(), BadRecord> {
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
