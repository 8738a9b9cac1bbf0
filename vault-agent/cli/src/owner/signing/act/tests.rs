//! Acts against an agent that does as it is told, one that does not, and a log that moves on.

use std::cell::{Cell, RefCell};

use shared::grant::Grants;
use shared::hash::Hash;
use shared::keys::{SignKey, VerifyKey};
use shared::log::{Access, Entry, Number, Put};
use shared::signed::{Envelope, Purpose, VaultId};
use shared::wire::v1::blob::Inline;

use super::*;
use crate::owner::signing::admin::{AdminKey, Work, place};
use crate::owner::signing::passphrase::Source;
use crate::testing::{World, now};
use host::files;
use machine::local::MachineRow;
use machine::paths::Paths;

fn vault() -> VaultId {
    Hash::of(&[b"vault"])
}

/// An admin's file and its passphrase in a world, and the key that verifies.
fn admin(world: &World) -> (AdminFile, Source, VerifyKey) {
    let paths = Paths::resolve(Some(world.path().join("state")), None).unwrap();
    let name = "jonas".parse().unwrap();
    let key = AdminKey { name, vault: vault(), key: SignKey::generate() };
    let passphrase = age::secrecy::SecretString::from("open sesame".to_owned());
    let sealed = key.seal(&passphrase, Work::Little).unwrap();
    files::create_dir_private(&paths.admin()).unwrap();
    files::write_private(&place(&paths, &key.name), &sealed).unwrap();
    let pass = world.path().join("pass");
    files::write_private(&pass, b"open sesame\n").unwrap();
    let file = AdminFile::find(&paths, None).unwrap();
    (file, Source::File(pass), key.key.verify_key())
}

/// Returns what replaces the lists of the machine 1, seen the `look`th time.
fn set(look: Number, read: &str) -> Op {
    let (was, read) = (Hash::of(&[&look.to_be_bytes()]), Grants::parse(&[read]).unwrap());
    Op::AccessSet(Access { number: 1, was, read, write: Grants::default() })
}

fn access(read: &str) -> Op {
    set(1, read)
}

fn rewrap(path: &str) -> Op {
    let hash = Hash::of(&[path.as_bytes()]);
    let path = path.parse().unwrap();
    Op::Rewrap(Put { path, ver: 1, blob: hash, size: 1, commit: hash, readers: hash })
}

/// Builds what was asked for, plus `adds`, one entry for each; `answers` says what becomes of each
/// submission.
struct Scripted {
    adds: Vec<Vec<Op>>,
    /// The same, once what was asked for is in the log.
    left: Vec<Vec<Op>>,
    replace: Option<Op>,
    answers: RefCell<Vec<bool>>,
    /// How often somebody else changes what was shown.
    moves: Cell<usize>,
    /// How often the machines were looked at.
    looks: Cell<Number>,
    prepared: RefCell<Vec<Vec<Op>>>,
    submitted: RefCell<Vec<Envelope>>,
    seq: Cell<u64>,
    /// Whether re-encryptions are left for later.
    leaves: Cell<bool>,
    /// Whether all has to go by one entry.
    at_once: bool,
    /// Re-encryptions that are due; of any, a terminal is shown how far they are.
    due: u64,
    /// Earlier versions that stay with keys which the act replaces.
    behind: u64,
}

fn scripted(adds: Vec<Vec<Op>>, answers: &[bool]) -> Scripted {
    Scripted {
        adds,
        left: Vec::new(),
        replace: None,
        answers: RefCell::new(answers.to_vec()),
        moves: Cell::new(0),
        looks: Cell::new(0),
        prepared: RefCell::default(),
        submitted: RefCell::default(),
        seq: Cell::new(7),
        leaves: Cell::new(false),
        at_once: false,
        due: 0,
        behind: 0,
    }
}

impl Agent for &Scripted {
    fn machines(&self) -> Result<Machines> {
        self.looks.set(self.looks.get() + 1);
        let row = MachineRow {
            name: "vps".parse().unwrap(),
            number: 1,
            active: true,
            sleeps: false,
            sign: SignKey::from_seed(&[1; 32]).verify_key(),
            read: Grants::default(),
            write: Grants::default(),
            seen_at: None,
            agent: None,
        };
        Ok(Machines {
            machines: vec![row],
            next: 2,
            own: None,
            server: Vec::new(),
            checkpoint: None,
        })
    }

    fn prepare(&self, request: &PrepareRequest) -> Result<Preparing> {
        self.prepared.borrow_mut().push(request.ops.clone());
        if self.moves.get() > 0 {
            self.moves.set(self.moves.get() - 1);
            return Ok(Preparing::Moved);
        }
        let mut ops = match &self.replace {
            Some(op) => vec![op.clone()],
            None => request.ops.clone(),
        };
        let mut prev = Hash::ZERO;
        let mut bodies = Vec::new();
        let adds = if request.ops.is_empty() { &self.left } else { &self.adds };
        for (n, add) in adds.iter().enumerate() {
            ops.extend(add.clone());
            let seq = self.seq.get() + 1 + n as u64;
            let entry = Entry { seq, prev, time: now(), by: request.actor.clone(), ops };
            let envelope = Envelope {
                by: request.actor.clone(),
                body: serde_json::to_vec(&entry).unwrap(),
                sig: shared::keys::Signature::from_bytes([0; 64]),
            };
            prev = envelope.hash(Purpose::Entry(vault()));
            bodies.push(Inline(envelope.body));
            ops = Vec::new();
        }
        Ok(Preparing::Ready(Prepared {
            bodies,
            unreadable: Vec::new(),
            left: self.leaves.get() && !request.ops.is_empty(),
            due: self.due,
            behind: self.behind,
        }))
    }

    fn submit(&self, request: &SubmitRequest) -> Result<Option<Submitted>> {
        self.submitted.borrow_mut().push(request.envelope.clone());
        if self.answers.borrow_mut().remove(0) {
            self.seq.set(self.seq.get() + 1);
            return Ok(Some(Submitted { seq: self.seq.get(), head: Hash::ZERO }));
        }
        Ok(None)
    }
}

/// Signs as the world's admin, at a terminal or not; returns who signed as well.
fn sign(
    agent: &Scripted,
    world: &World,
    yes: bool,
    at_terminal: bool,
) -> (Result<Signed>, VerifyKey) {
    signed(agent, agent, world, yes, at_terminal)
}

/// As [`sign`], through an agent of its own kind.
fn signed(
    through: impl Agent,
    agent: &Scripted,
    world: &World,
    yes: bool,
    at_terminal: bool,
) -> (Result<Signed>, VerifyKey) {
    let mut global = world.global();
    global.term.in_is_tty = at_terminal;
    global.term.err_is_tty = agent.due > 0;
    let (admin, passphrase, key) = admin(world);
    let name = "rtx1080".parse().unwrap();
    let pins =
        Pins { vault: vault(), server: Vec::new(), name, addresses: Vec::new(), checkpoint: None };
    let signer = Signer::Admin(admin, passphrase);
    let (global, at_once) = (&global, agent.at_once);
    let owner = Owner { global, pins, signer, yes, history: false, at_once, agent: through };
    let plan = |_: &Machines| {
        global.term.say(format!("look {}", agent.looks.get()));
        Ok(vec![set(agent.looks.get(), "secret/a/")])
    };
    (owner.sign(plan), key)
}

/// Returns the number of the entry that holds the act.
fn entry(signed: Result<Signed>) -> u64 {
    let Signed::Done(done) = signed.unwrap() else { panic!("not done") };
    done.seq
}

fn run(agent: &Scripted, yes: bool) -> Result<Signed> {
    sign(agent, &World::new(""), yes, false).0
}

#[test]
fn an_act_is_signed_by_the_admin_for_this_vault() {
    let agent = scripted(vec![vec![rewrap("secret/a/x")]], &[true]);
    let (done, key) = sign(&agent, &World::new(""), true, false);
    assert_eq!(entry(done), 8);
    let envelope = &agent.submitted.borrow()[0];
    envelope.verify(&key, Purpose::Entry(vault())).unwrap();
    assert_eq!(envelope.by, Actor::Admin("jonas".parse().unwrap()));
}

#[test]
fn what_nobody_asked_for_is_never_signed() {
    let mut widened = scripted(vec![vec![]], &[]);
    widened.replace = Some(access("*"));
    let added = scripted(vec![vec![access("*")]], &[]);
    for agent in [widened, added] {
        let fault = run(&agent, true).unwrap_err().to_string();
        assert!(fault.starts_with("the agent did not prepare what was asked for"), "{fault}");
        assert!(agent.submitted.borrow().is_empty());
    }
}

#[test]
fn without_a_terminal_somebody_must_have_said_yes() {
    let agent = scripted(vec![vec![]], &[]);
    let fault = run(&agent, false).unwrap_err();
    assert_eq!(fault.to_string(), "there is no terminal to agree at");
    assert!(agent.submitted.borrow().is_empty());
}

#[test]
fn a_person_is_shown_the_act_and_may_say_no() {
    let (world, agent) = (World::new("n\n"), scripted(vec![vec![rewrap("secret/a/x")]], &[]));
    assert_eq!(sign(&agent, &world, false, true).0.unwrap(), Signed::Declined);
    insta::assert_snapshot!(world.err(), @r"
    look 1
    `jonas` signs for vault e6f0a1fb:
      set the access of the machine `vps` (number 1)
        it reads   secret/a/
        it writes  nothing
      re-encrypt `secret/a/x` to its new readers
    Sign this? [y/N]
    nothing was signed
    ");
    assert!(agent.submitted.borrow().is_empty());
}

#[test]
fn when_the_log_moves_on_the_act_is_prepared_and_signed_again() {
    let agent = scripted(vec![vec![]], &[false, false, true]);
    assert_eq!(entry(run(&agent, true)), 8);
    let prepared = agent.prepared.borrow();
    assert_eq!(*prepared, vec![vec![access("secret/a/")]; 3], "the same, on another head");
    let endless = scripted(vec![vec![]], &[false; 8]);
    assert!(run(&endless, true).unwrap_err().to_string().contains("moves on faster"));
}

#[test]
fn once_the_first_entry_is_in_only_re_encryptions_are_repeated() {
    let adds = vec![vec![rewrap("secret/a/x")], vec![rewrap("secret/a/y")]];
    let mut agent = scripted(adds, &[true, false, true]);
    agent.left = vec![vec![rewrap("secret/a/y")]];
    assert_eq!(entry(run(&agent, true)), 8);
    assert_eq!(*agent.prepared.borrow(), [vec![access("secret/a/")], vec![]]);
    assert_eq!(agent.submitted.borrow().len(), 3);
}

#[test]
fn an_act_is_done_when_somebody_else_has_made_its_re_encryptions() {
    let agent = scripted(vec![vec![], vec![rewrap("secret/a/y")]], &[true, false]);
    assert_eq!(entry(run(&agent, true)), 8);
    assert_eq!(*agent.prepared.borrow(), [vec![access("secret/a/")], vec![]]);
}

#[test]
fn what_somebody_changed_meanwhile_is_shown_and_asked_again() {
    let (world, agent) = (World::new("y\n"), scripted(vec![vec![]], &[true]));
    agent.moves.set(1);
    assert_eq!(entry(sign(&agent, &world, false, true).0), 8);
    insta::assert_snapshot!(world.err(), @r"
    look 1
    somebody has changed this meanwhile; now it is so:
    look 2
    `jonas` signs for vault e6f0a1fb:
      set the access of the machine `vps` (number 1)
        it reads   secret/a/
        it writes  nothing
      re-encrypt nothing
    Sign this? [y/N]
    ");
    let prepared = agent.prepared.borrow();
    assert_eq!(*prepared, [vec![set(1, "secret/a/")], vec![set(2, "secret/a/")]]);
}

#[test]
fn a_yes_to_one_state_is_none_to_the_next() {
    // Agreed, but the entry comes too late, and then the state is another.
    struct Late<'a>(&'a Scripted);
    impl Agent for Late<'_> {
        fn machines(&self) -> Result<Machines> {
            self.0.machines()
        }

        fn prepare(&self, request: &PrepareRequest) -> Result<Preparing> {
            self.0.prepare(request)
        }

        fn submit(&self, request: &SubmitRequest) -> Result<Option<Submitted>> {
            let sent = self.0.submit(request)?;
            self.0.moves.set(usize::from(sent.is_none()));
            Ok(sent)
        }
    }
    let (world, agent) = (World::new("y\nn\n"), scripted(vec![vec![]], &[false]));
    assert_eq!(signed(Late(&agent), &agent, &world, false, true).0.unwrap(), Signed::Declined);
    assert_eq!((agent.looks.get(), agent.submitted.borrow().len()), (2, 1));
}

#[test]
fn nobody_is_asked_for_ever() {
    let (world, agent) = (World::new(""), scripted(vec![vec![]], &[]));
    agent.moves.set(usize::MAX);
    let fault = sign(&agent, &world, false, true).0.unwrap_err();
    assert_eq!(fault.to_string(), "E_MOVED: somebody has changed it since it was looked at");
    assert_eq!(agent.looks.get(), 4);
}

#[test]
fn with_yes_a_change_by_somebody_else_ends_the_act() {
    let agent = scripted(vec![vec![]], &[]);
    agent.moves.set(1);
    let fault = run(&agent, true).unwrap_err();
    assert_eq!(fault.to_string(), "E_MOVED: somebody has changed it since it was looked at");
    let hint = "look again, then repeat the command if it is still wanted";
    assert_eq!(host::hint::hint(&fault).as_deref(), Some(hint));
    assert!(agent.submitted.borrow().is_empty());
}

#[test]
fn what_is_left_for_later_follows_the_act() {
    let mut agent = scripted(vec![vec![]], &[false, true, true]);
    agent.leaves.set(true);
    agent.left = vec![vec![rewrap("secret/a/x")]];
    let world = World::new("y\n");
    assert_eq!(entry(sign(&agent, &world, false, true).0), 8);
    assert!(world.err().contains("then re-encrypt what it makes necessary"), "{}", world.err());
    let act = || vec![access("secret/a/")];
    assert_eq!(*agent.prepared.borrow(), [act(), act(), vec![]]);
}

#[test]
fn what_stays_with_the_keys_of_before_is_told_before_the_question() {
    let (world, mut agent) = (World::new("n\n"), scripted(vec![vec![]], &[]));
    agent.behind = 2;
    assert_eq!(sign(&agent, &world, false, true).0.unwrap(), Signed::Declined);
    let told = "2 earlier versions stay encrypted to the keys of before, which no host has any \
                more then\nhint: `--history` re-encrypts them, too\n";
    let (said, asked) = (world.err().find(told), world.err().find("Sign this?"));
    assert!(said.is_some() && said < asked, "{}", world.err());
}

#[test]
fn what_has_to_go_at_once_is_refused_where_one_entry_cannot_hold_it() {
    let of = |adds: Vec<Vec<Op>>, leaves: bool| {
        let mut agent = scripted(adds, &[true]);
        (agent.at_once, agent.leaves) = (true, Cell::new(leaves));
        (run(&agent, true).map_err(|fault| fault.to_string()), agent.submitted.borrow().len())
    };
    let [x, y] = ["secret/a/x", "secret/a/y"].map(|path| vec![rewrap(path)]);
    assert_eq!(entry(of(vec![x.clone()], false).0.map_err(anyhow::Error::msg)), 8);
    for (adds, leaves) in [(vec![x, y], false), (vec![vec![]], true)] {
        let (refused, submitted) = of(adds, leaves);
        let refused = refused.unwrap_err();
        assert!(refused.starts_with("this host cannot re-encrypt "), "{refused}");
        assert_eq!(submitted, 0);
    }
}

#[test]
fn a_terminal_is_shown_how_far_re_encrypting_is() {
    let mut agent = scripted(vec![vec![]], &[true, true]);
    (agent.left, agent.due) = (vec![vec![rewrap("secret/a/x")]], 2);
    agent.leaves.set(true);
    let world = World::new("");
    assert_eq!(entry(sign(&agent, &world, true, false).0), 8);
    let shown = world.err();
    for line in ["] 0/2 re-encrypted", "[############            ] 1/2 re-encrypted"] {
        assert!(shown.contains(line), "{shown:?}");
    }
}

#[test]
fn an_act_that_is_done_is_told_even_if_re_encrypting_fails() {
    let mut agent =
        scripted(vec![vec![]], &[true, false, false, false, false, false, false, false, false]);
    agent.leaves.set(true);
    agent.left = vec![vec![rewrap("secret/a/x")]];
    let fault = format!("{:#}", run(&agent, true).unwrap_err());
    assert!(fault.starts_with("entry 8 is in the log; re-encryptions are left: "), "{fault}");
}

#[test]
fn root_goes_on_with_the_key_that_its_own_entry_has_set() {
    let (old, new) = (SignKey::from_seed(&[1; 32]), SignKey::from_seed(&[2; 32]));
    let keys = [old.verify_key(), new.verify_key()];
    let agent = scripted(vec![vec![], vec![rewrap("secret/a/x")]], &[true, true]);
    let (world, name) = (World::new(""), "rtx1080".parse().unwrap());
    let global = world.global();
    let pins =
        Pins { vault: vault(), server: Vec::new(), name, addresses: Vec::new(), checkpoint: None };
    let signer = Signer::Root { key: Box::new(old), next: Some(Box::new(new)) };
    let ([yes, history, at_once], global) = ([true, true, false], &global);
    let owner = Owner { global, pins, signer, yes, history, at_once, agent: &agent };
    let set = Op::RootSet { key: keys[1].clone() };
    assert_eq!(entry(owner.sign(|_| Ok(vec![set.clone()]))), 8);
    let submitted = agent.submitted.borrow();
    for (envelope, key) in submitted.iter().zip(&keys) {
        envelope.verify(key, Purpose::Entry(vault())).unwrap();
        assert_eq!(envelope.by, Actor::Root);
    }
    assert_eq!(submitted.len(), 2);
}
