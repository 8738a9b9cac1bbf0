//! What a rewritten, a cut, and a restored audit chain come to.

use std::collections::BTreeMap;

use shared::keys::{Identity, SignKey};
use shared::log::{Entry, Genesis, Op, Resume, apply};
use shared::name::Actor;
use shared::signed::{Envelope, Purpose};
use shared::time::Time;

use super::*;

/// A vault whose owner resumes it after restores.
struct Vault {
    state: State,
    root: SignKey,
}

impl Vault {
    fn new() -> Self {
        let root = SignKey::generate();
        let genesis = Genesis {
            v: 1,
            name: "home".parse().unwrap(),
            nonce: Hash::ZERO,
            time: Time::default(),
            root: root.verify_key(),
            recovery: Identity::generate().recipient(),
            admins: BTreeMap::new(),
            server: vec![SignKey::generate().verify_key()],
            mounts: Vec::new(),
        };
        let genesis = Envelope::sign(&root, Actor::Root, Purpose::Genesis, &genesis).unwrap();
        Self { state: shared::log::start(&genesis).unwrap(), root }
    }

    fn resume(&mut self, audit: AuditHead) {
        let (seq, head) = (self.state.seq(), self.state.head());
        let from = Resume { seq, head, audit_n: audit.n, audit_head: audit.hash };
        let (time, by) = (Time::default(), Actor::Root);
        let ops = vec![Op::Resume(from)];
        let entry = Entry { seq: seq + 1, prev: head, time, by: by.clone(), ops };
        let purpose = Purpose::Entry(self.state.vault());
        let envelope = Envelope::sign(&self.root, by, purpose, &entry).unwrap();
        apply(&mut self.state, &envelope).unwrap();
    }
}

/// Leaves of records from `from` on.
fn leaves(from: u8, until: u8) -> Vec<Hash> {
    (from..=until).map(|n| Hash::of(&[&[n]])).collect()
}

/// The head of the chain of records 1 to `n`.
fn head(n: u8) -> AuditHead {
    leaves(1, n).into_iter().fold(AuditHead::EMPTY, AuditHead::then)
}

fn claim(head: AuditHead) -> Claim {
    Claim { head, by: "`vps`".into() }
}

#[test]
fn the_audit_log_only_grows() {
    let vault = Vault::new();
    let mut audit = Audit::new(None);
    audit.named(&vault.state, head(5)).unwrap();
    audit.named(&vault.state, head(5)).unwrap();
    let other = AuditHead { hash: Hash::ZERO, ..head(5) };
    for bad in [head(4), AuditHead::EMPTY, other] {
        let error = audit.named(&vault.state, bad).unwrap_err();
        assert_eq!(error.code, Code::AuditRewritten);
    }
    assert_eq!(audit.anchored(&vault.state), head(5));
    audit.named(&vault.state, head(6)).unwrap();
    assert_eq!(audit.anchored(&vault.state), head(6));
}

#[test]
fn a_server_that_forgets_what_it_named_takes_the_next_record() {
    let vault = Vault::new();
    let mut audit = Audit::new(None);
    assert!(!audit.refuse(), "nothing was named");
    audit.named(&vault.state, head(5)).unwrap();
    assert!(audit.refuse());
    assert!(!audit.refuse());
    assert_eq!(audit.anchored(&vault.state), AuditHead::EMPTY);
    // What it has named is not forgotten for that.
    assert!(audit.named(&vault.state, head(4)).is_err());
}

#[test]
fn leaves_lead_to_the_named_head_or_the_log_is_rewritten() {
    let check = |named: AuditHead, leaves: Vec<Hash>, claims: &[Claim], expected: &str| {
        let mut chain = Chain { epoch: Hash::ZERO, followed: head(2), named };
        match chain.follow(&leaves, claims) {
            Ok(()) => assert_eq!(("", chain.followed), (expected, named)),
            Err(error) => {
                assert_eq!((error.code, error.detail.as_str()), (Code::AuditRewritten, expected));
            }
        }
    };
    check(head(6), leaves(3, 6), &[], "");
    // More may have come meanwhile.
    check(head(6), leaves(3, 9), &[claim(head(1)), claim(head(4)), claim(head(6))], "");
    let rewritten = "its leaves do not lead to record 6 as it was named";
    check(AuditHead { hash: Hash::ZERO, ..head(6) }, leaves(3, 6), &[], rewritten);
    let mut edited = leaves(3, 6);
    edited[0] = Hash::ZERO;
    check(head(6), edited.clone(), &[], rewritten);
    // The server names what its edited records lead to; a machine has seen them before.
    let named = edited.iter().copied().fold(head(2), AuditHead::then);
    check(named, edited, &[claim(head(4))], "up to record 4 it is not what `vps` has seen");
    let far = AuditHead { n: u64::MAX, hash: Hash::ZERO };
    check(
        far,
        Vec::new(),
        &[],
        &format!("the server has named record {}, its leaves end at 2", u64::MAX),
    );
}

#[test]
fn what_a_resumption_left_behind_is_not_expected_any_more() {
    let mut vault = Vault::new();
    let mut audit = Audit::new(None);
    audit.named(&vault.state, head(9)).unwrap();
    let first = vault.state.epoch();
    assert!(stands(&vault.state, first, u64::MAX));
    assert!(!stands(&vault.state, Hash::ZERO, 1), "no epoch of this log");
    vault.resume(head(5));
    assert_eq!(audit.anchored(&vault.state), head(5), "in the new epoch nothing else is known");
    // The restored server has counted on from 5 otherwise.
    let on = head(5).then(Hash::ZERO);
    audit.named(&vault.state, on).unwrap();
    let chain = audit.chain.unwrap();
    assert_eq!((chain.followed, chain.named), (head(5), on));
    assert_eq!(chain.epoch, vault.state.epoch());
    let second = vault.state.epoch();
    let standing = |epoch, n| stands(&vault.state, epoch, n);
    assert!(standing(first, 5) && !standing(first, 6) && standing(second, 6));
    assert!(audit.named(&vault.state, head(5)).is_err(), "and from there on it only grows");
    // A later restore to before the first one.
    vault.resume(head(3));
    let standing = |epoch, n| stands(&vault.state, epoch, n);
    assert!(standing(first, 3) && !standing(first, 4) && !standing(second, 5));
    audit.named(&vault.state, head(3)).unwrap();
    assert_eq!(audit.chain.unwrap().followed, head(3));
}

#[test]
fn readers_follow_once_a_minute_and_others_hourly() {
    let vault = Vault::new();
    let mut audit = Audit::new(None);
    let (minute, now) = (Duration::from_mins(1), Instant::now());
    audit.named(&vault.state, head(1)).unwrap();
    assert_eq!(audit.due(true, 1, now), None, "nothing is known of what was before");
    audit.named(&vault.state, head(4)).unwrap();
    let from = audit.due(false, 1, now).unwrap();
    let mut walked = from;
    walked.follow(&leaves(2, 4), &[]).unwrap();
    audit.followed(from, walked.followed);
    audit.rest(now, false);
    assert_eq!(audit.due(true, 1, now + minute), None);
    audit.named(&vault.state, head(6)).unwrap();
    assert_eq!(audit.due(true, 1, now), None);
    assert!(audit.due(true, 1, now + minute).is_some());
    assert_eq!(audit.due(true, 2, now + minute), None, "two readers' own rows");
    assert_eq!(audit.due(false, 1, now + 59 * minute), None);
    assert!(audit.due(false, 1, now + 60 * minute).is_some());
    audit.rest(now, true);
    assert_eq!(audit.due(true, 1, now + 60 * minute), None, "it waits for a person");
}
