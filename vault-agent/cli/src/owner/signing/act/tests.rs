//! Acts against an agent that does as it is told, one that does not, and a log that moves on.

use std::cell::{Cell, RefCell};

use shared::grant::Grants;
use shared::hash::Hash;
use shared::keys::{SignKey, VerifyKey};
use shared::log::{Access, Entry, Put};
use shared::signed::{Envelope, Purpose, VaultId};
use shared::wire::v1::blob::Inline;

use super::*;
use crate::owner::signing::admin::{Work, place};
use crate::testing::{World, now};
use host::files;
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

fn access(read: &str) -> Op {
    let read = Grants::parse(&[read]).unwrap();
    Op::AccessSet(Access { name: "vps".parse().unwrap(), read, write: Grants::default() })
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
    replace: Option<Op>,
    answers: RefCell<Vec<bool>>,
    prepared: RefCell<Vec<Vec<Op>>>,
    submitted: RefCell<Vec<Envelope>>,
    seq: Cell<u64>,
}

fn scripted(adds: Vec<Vec<Op>>, answers: &[bool]) -> Scripted {
    Scripted {
        adds,
        replace: None,
        answers: RefCell::new(answers.to_vec()),
        prepared: RefCell::default(),
        submitted: RefCell::default(),
        seq: Cell::new(7),
    }
}

impl Agent for &Scripted {
    fn prepare(&self, request: &PrepareRequest) -> Result<Prepared> {
        self.prepared.borrow_mut().push(request.ops.clone());
        let mut ops = match &self.replace {
            Some(op) => vec![op.clone()],
            None => request.ops.clone(),
        };
        let mut prev = Hash::ZERO;
        let mut bodies = Vec::new();
        for (n, add) in self.adds.iter().enumerate() {
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
        Ok(Prepared { bodies, unreadable: Vec::new() })
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
) -> (Result<Option<Submitted>>, VerifyKey) {
    let mut global = world.global();
    global.term.in_is_tty = at_terminal;
    let (admin, passphrase, key) = admin(world);
    let name = "rtx1080".parse().unwrap();
    let pins = Pins { vault: vault(), server: Vec::new(), name, addresses: Vec::new() };
    let owner = Owner { global: &global, pins, admin, passphrase, yes, agent };
    (owner.sign(&[access("secret/a/")], &[access("secret/again/")]), key)
}

fn run(agent: &Scripted, yes: bool) -> Result<Option<Submitted>> {
    sign(agent, &World::new(""), yes, false).0
}

#[test]
fn an_act_is_signed_by_the_admin_for_this_vault() {
    let agent = scripted(vec![vec![rewrap("secret/a/x")]], &[true]);
    let (done, key) = sign(&agent, &World::new(""), true, false);
    assert_eq!(done.unwrap().unwrap().seq, 8);
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
    assert_eq!(sign(&agent, &world, false, true).0.unwrap(), None);
    insta::assert_snapshot!(world.err(), @r"
    `jonas` signs for vault e6f0a1fb:
      set the access of the machine `vps`
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
    assert_eq!(run(&agent, true).unwrap().unwrap().seq, 8);
    assert_eq!(agent.prepared.borrow().len(), 3);
    let endless = scripted(vec![vec![]], &[false; 8]);
    assert!(run(&endless, true).unwrap_err().to_string().contains("moves on faster"));
}

#[test]
fn once_the_first_entry_is_in_only_re_encryptions_are_repeated() {
    let adds = vec![vec![rewrap("secret/a/x")], vec![rewrap("secret/a/y")]];
    let agent = scripted(adds, &[true, false, true, true]);
    assert_eq!(run(&agent, true).unwrap().unwrap().seq, 8);
    let prepared = agent.prepared.borrow();
    assert_eq!(*prepared, [vec![access("secret/a/")], vec![access("secret/again/")]]);
}
