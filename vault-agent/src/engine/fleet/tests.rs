//! Each rule about the others' records, and what hostile members make of them: nothing.

use std::collections::BTreeMap;

use shared::grant::Grants;
use shared::hash::Hash;
use shared::head::Head;
use shared::keys::{Identity, SignKey};
use shared::log::{Entry, Genesis, NewMachine, Op, apply};
use shared::name::Actor;
use shared::signed::Purpose;
use shared::token::MachineLine;

use super::*;

const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A vault and the keys of its machines, by number.
struct Vault {
    state: State,
    root: SignKey,
    server: SignKey,
    keys: BTreeMap<Number, SignKey>,
}

impl Vault {
    /// With machines of these names, and what they write.
    fn new(machines: &[(&str, &[&str])]) -> Self {
        let (root, server) = (SignKey::generate(), SignKey::generate());
        let genesis = Genesis {
            v: 1,
            name: name("home"),
            nonce: Hash::ZERO,
            time: Time::default(),
            root: root.verify_key(),
            recovery: Identity::generate().recipient(),
            admins: BTreeMap::new(),
            server: vec![server.verify_key()],
            mounts: Vec::new(),
        };
        let genesis = Envelope::sign(&root, Actor::Root, Purpose::Genesis, &genesis).unwrap();
        let state = shared::log::start(&genesis).unwrap();
        let mut vault = Self { state, root, server, keys: BTreeMap::new() };
        for (called, write) in machines {
            vault.add(called, write);
        }
        vault
    }

    fn act(&mut self, ops: Vec<Op>) {
        let (seq, prev, by) = (self.state.seq() + 1, self.state.head(), Actor::Root);
        let entry = Entry { seq, prev, time: Time::default(), by: by.clone(), ops };
        let purpose = Purpose::Entry(self.state.vault());
        let entry = Envelope::sign(&self.root, by, purpose, &entry).unwrap();
        apply(&mut self.state, &entry).unwrap();
    }

    fn add(&mut self, called: &str, write: &[&str]) {
        let (sign, number) = (SignKey::generate(), self.state.due_machine());
        let recipient = Identity::generate().recipient();
        let MachineLine { name, recipient, sign: key, proof } =
            MachineLine::new(name(called), recipient, &sign).unwrap();
        self.keys.insert(number, sign);
        let (read, write) = (Grants::default(), Grants::parse(write).unwrap());
        let new = NewMachine { name, number, recipient, sign: key, proof, read, write };
        self.act(vec![Op::MachineAdd(new)]);
    }

    /// The server's signature of the log's end.
    fn head(&self) -> SignedHead {
        self.state.place().sign(&self.server, self.state.vault()).unwrap()
    }

    /// The server's signature of an entry that the log lacks.
    fn ahead(&self) -> SignedHead {
        let head = Head { seq: self.state.seq() + 7, ..self.state.place() };
        head.sign(&self.server, self.state.vault()).unwrap()
    }

    fn record(&self, number: Number, n: u64, head: SignedHead) -> Envelope {
        self.record_by(&self.keys[&number], number, n, head)
    }

    fn record_by(&self, key: &SignKey, machine: Number, n: u64, head: SignedHead) -> Envelope {
        let seen = Seen {
            machine,
            n,
            time: Time::default(),
            epoch: head.epoch,
            seq: head.seq,
            head: head.head,
            server_sig: head.sig,
            audit_n: 500_000,
            audit_head: Hash::ZERO,
            targets: Hash::ZERO,
            wish: None,
        };
        seen.sign(name("any"), key, self.state.vault()).unwrap()
    }

    /// Takes a record and judges it as the log of this vault does.
    fn hear(&self, fleet: &mut Fleet, number: Number, n: u64, head: SignedHead, now: Duration) {
        let record = self.record(number, n, head);
        fleet.take(&self.state, &record, None, Time::default()).unwrap();
        self.judge(fleet, now);
    }

    fn judge(&self, fleet: &mut Fleet, now: Duration) {
        for (source, head) in fleet.to_judge(self.state.seq()) {
            let judged = match head.verify(self.state.server(), self.state.vault()) {
                Err(_) => Judged::Unsigned,
                Ok(()) if head.seq > self.state.seq() => Judged::Ahead,
                Ok(()) => Judged::Held,
            };
            fleet.judged((source, head), judged, self.state.seq(), now);
        }
    }

    fn sleeps(&mut self, number: Number, sleeps: bool) {
        let was = self.state.was_machine(number);
        self.act(vec![Op::MachineSet { number, sleeps, was }]);
    }
}

#[test]
fn an_older_record_and_a_strangers_are_passed_over() {
    let vault = Vault::new(&[("home", &["*"]), ("vps", &[])]);
    let (mut fleet, head) = (Fleet::default(), vault.head());
    let mut take = |record: &Envelope| fleet.take(&vault.state, record, Some(1), Time::default());
    assert!(take(&vault.record(2, 2, head)).unwrap().newer);
    assert!(!take(&vault.record(2, 2, head)).unwrap().newer, "a replay");
    assert!(!take(&vault.record(2, 1, head)).unwrap().newer);
    assert!(!take(&vault.record(1, 9, head)).unwrap().newer, "this machine's own");
    // In another's name, with one's own key.
    let forged = vault.record_by(&vault.keys[&2], 1, 3, head);
    assert_eq!(take(&forged).unwrap_err().code, Code::BadSig);
    let stranger = vault.record_by(&SignKey::generate(), 2, 3, head);
    assert_eq!(take(&stranger).unwrap_err().code, Code::BadSig);
    assert_eq!(
        take(&vault.record_by(&vault.keys[&2], 99, 3, head)).unwrap_err().code,
        Code::Missing
    );
    let mut broken = vault.record(2, 3, head);
    broken.body.truncate(10);
    assert_eq!(take(&broken).unwrap_err().code, Code::Parse);
    assert_eq!(fleet.peers()[&2].seen.n, 2);
    assert_eq!(fleet.peers().len(), 1);
}

#[test]
fn a_removed_machine_is_forgotten_with_all_that_it_said() {
    let mut vault = Vault::new(&[("home", &["*"]), ("vps", &[])]);
    let mut fleet = Fleet::default();
    vault.hear(&mut fleet, 2, 1, vault.ahead(), Duration::ZERO);
    let reason = shared::text::Text::default();
    vault.act(vec![Op::MachineRemove { number: 2, reason }]);
    fleet.prune(&vault.state);
    assert!(fleet.peers().is_empty());
    assert_eq!(fleet.frozen(&vault.state, HOUR), None);
    assert!(fleet.to_judge(vault.state.seq()).is_empty());
}

#[test]
fn what_the_server_has_signed_may_be_withheld_for_ten_minutes_of_connection() {
    let mut vault = Vault::new(&[("home", &["*"]), ("vps", &[])]);
    let mut fleet = Fleet::default();
    let ahead = vault.ahead();
    vault.hear(&mut fleet, 2, 1, ahead, MINUTE);
    // Newer ones do not begin the time anew.
    let further = Head { seq: ahead.seq + 1, ..ahead.place() };
    let further = further.sign(&vault.server, vault.state.vault()).unwrap();
    vault.hear(&mut fleet, 2, 2, further, 5 * MINUTE);
    assert_eq!(fleet.frozen(&vault.state, 10 * MINUTE), None);
    let told = fleet.frozen(&vault.state, 11 * MINUTE).unwrap();
    let end = "which `vps` has shown, and withheld its entries for 10 minutes of connection";
    assert!(told.ends_with(end), "{told}");
    // The entries have come; the next is ahead since now.
    vault.sleeps(2, true);
    fleet.judged((Source::Peer(2), ahead), Judged::Held, 9, 11 * MINUTE);
    assert_eq!(fleet.frozen(&vault.state, 11 * MINUTE), None);
    vault.judge(&mut fleet, 11 * MINUTE);
    assert_eq!(fleet.frozen(&vault.state, 20 * MINUTE), None);
    assert!(fleet.frozen(&vault.state, 21 * MINUTE).is_some());
    // The log has gone over to another branch.
    fleet.judged((Source::Peer(2), further), Judged::Left, 9, 21 * MINUTE);
    assert_eq!(fleet.frozen(&vault.state, 21 * MINUTE), None);
}

#[test]
fn a_member_alone_freezes_nothing() {
    let vault = Vault::new(&[("home", &["*"]), ("vps", &[])]);
    let mut fleet = Fleet::default();
    let forged = vault.ahead().place().sign(&vault.keys[&2], vault.state.vault()).unwrap();
    vault.hear(&mut fleet, 2, 1, forged, Duration::ZERO);
    assert_eq!(fleet.frozen(&vault.state, 9 * HOUR), None);
}

#[test]
fn entries_without_a_signed_head_are_noticed_after_ten_minutes() {
    let vault = Vault::new(&[]);
    let mut fleet = Fleet::default();
    fleet.unsigned(true, MINUTE);
    fleet.unsigned(true, 9 * MINUTE);
    assert_eq!(fleet.frozen(&vault.state, 10 * MINUTE), None);
    assert!(fleet.frozen(&vault.state, 11 * MINUTE).unwrap().contains("without a signed head"));
    fleet.unsigned(false, 11 * MINUTE);
    assert_eq!(fleet.frozen(&vault.state, 99 * MINUTE), None);
}

#[test]
fn each_other_witness_is_missed_after_a_day_of_connection() {
    let vault = Vault::new(&[("own", &["*"]), ("a", &["*"]), ("b", &["*"]), ("vps", &[])]);
    let mut fleet = Fleet::default();
    let silence =
        |fleet: &mut Fleet, hours: u32| fleet.silence(&vault.state, Some(1), hours * HOUR);
    assert_eq!(silence(&mut fleet, 0), Silence::Heard, "the time begins");
    assert_eq!(silence(&mut fleet, 23), Silence::Heard);
    vault.hear(&mut fleet, 2, 1, vault.head(), 23 * HOUR);
    let told = "nothing new of `b` for 24 hours of connection".to_owned();
    assert_eq!(silence(&mut fleet, 24), Silence::Silent(told));
    // The same record again, and one whose head nobody can verify, break no silence.
    vault.hear(&mut fleet, 3, 1, vault.ahead(), 25 * HOUR);
    let forged = vault.head().place().sign(&vault.keys[&3], vault.state.vault()).unwrap();
    vault.hear(&mut fleet, 3, 2, forged, 25 * HOUR);
    assert!(matches!(silence(&mut fleet, 25), Silence::Silent(_)));
    vault.hear(&mut fleet, 3, 3, vault.head(), 26 * HOUR);
    assert_eq!(silence(&mut fleet, 26), Silence::Heard, "the VPS is not missed");
    vault.hear(&mut fleet, 2, 1, vault.head(), 47 * HOUR);
    assert!(matches!(silence(&mut fleet, 47), Silence::Silent(_)), "a replay");
}

#[test]
fn without_a_witness_more_than_half_of_the_others_must_be_heard() {
    let vault = Vault::new(&[("own", &["*"]), ("a", &[]), ("b", &["secret/"]), ("c", &[])]);
    let mut fleet = Fleet::default();
    assert_eq!(fleet.silence(&vault.state, Some(1), Duration::ZERO), Silence::Heard);
    vault.hear(&mut fleet, 2, 1, vault.head(), 20 * HOUR);
    let told = "nothing new of `b`, `c` for 24 hours of connection".to_owned();
    let silence = |fleet: &mut Fleet| fleet.silence(&vault.state, Some(1), 24 * HOUR);
    assert_eq!(silence(&mut fleet), Silence::Silent(told));
    vault.hear(&mut fleet, 4, 1, vault.head(), 20 * HOUR);
    assert_eq!(silence(&mut fleet), Silence::Heard);
}

#[test]
fn who_sleeps_is_not_missed_and_nobody_else_is_no_alarm() {
    let mut vault = Vault::new(&[("own", &["*"]), ("laptop", &["*"])]);
    let mut fleet = Fleet::default();
    assert_eq!(fleet.silence(&vault.state, Some(1), Duration::ZERO), Silence::Heard);
    assert!(matches!(fleet.silence(&vault.state, Some(1), 24 * HOUR), Silence::Silent(_)));
    vault.sleeps(2, true);
    assert_eq!(fleet.silence(&vault.state, Some(1), 24 * HOUR), Silence::NotJudged);
    // Its time begins when it is said to sleep no longer.
    vault.sleeps(2, false);
    assert_eq!(fleet.silence(&vault.state, Some(1), 47 * HOUR), Silence::Heard);
    let alone = Vault::new(&[("own", &["*"])]);
    assert_eq!(Fleet::default().silence(&alone.state, Some(1), 99 * HOUR), Silence::NotJudged);
}

#[test]
fn a_fork_is_news_once() {
    let vault = Vault::new(&[("own", &["*"]), ("home", &["*"])]);
    let (mut fleet, head) = (Fleet::default(), vault.head());
    let record = vault.record(2, 1, head);
    fleet.take(&vault.state, &record, None, Time::default()).unwrap();
    assert!(fleet.proven((Source::Peer(2), head)));
    assert!(fleet.to_judge(vault.state.seq()).is_empty(), "it is judged");
    // Somebody has decided, and the agent starts again.
    let stored = vec![(record, Time::default())];
    let mut fleet = Fleet::load(stored.clone(), BTreeMap::new(), BTreeMap::new(), &vault.state);
    assert_eq!(fleet.to_judge(vault.state.seq()), [(Source::Peer(2), head)]);
    assert!(!fleet.proven((Source::Peer(2), head)));
    // One that only the entries since then have shown to be a fork.
    let ahead = vault.ahead();
    let stored = vec![(vault.record(2, 1, ahead), Time::default())];
    let mut fleet = Fleet::load(stored, BTreeMap::new(), BTreeMap::new(), &vault.state);
    vault.judge(&mut fleet, HOUR);
    assert!(fleet.proven((Source::Peer(2), ahead)));
}

#[test]
fn a_restart_breaks_no_silence() {
    let vault = Vault::new(&[("own", &["*"]), ("home", &["*"])]);
    let mut fleet = Fleet::default();
    vault.hear(&mut fleet, 2, 1, vault.head(), HOUR);
    let stored = vec![(vault.record(2, 1, vault.head()), Time::default())];
    let mut fleet = Fleet::load(stored, fleet.heard().clone(), BTreeMap::new(), &vault.state);
    vault.judge(&mut fleet, 24 * HOUR);
    assert_eq!(fleet.silence(&vault.state, Some(1), 24 * HOUR), Silence::Heard);
    assert!(matches!(fleet.silence(&vault.state, Some(1), 25 * HOUR), Silence::Silent(_)));
    vault.hear(&mut fleet, 2, 2, vault.head(), 25 * HOUR);
    assert_eq!(fleet.silence(&vault.state, Some(1), 25 * HOUR), Silence::Heard);
}
