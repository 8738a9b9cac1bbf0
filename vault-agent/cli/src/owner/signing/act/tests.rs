//! Acts against an agent that does as it is told, one that does not, and a log that moves on.

use std::cell::{Cell, RefCell};
use std::io;

use shared::grant::Grants;
use shared::hash::Hash;
use shared::keys::SignKey;
use shared::log::{Access, Entry, Put};
use shared::name::Actor;
use shared::signed::{Envelope, Purpose};
use shared::wire::v1::blob::Inline;

use super::*;
use crate::owner::signing::admin::{AdminKey, Work, place};
use host::files;
use machine::paths::Paths;

const NOW: Time = Time::from_micros(1_700_000_000_000_000);

struct World {
    _dir: tempfile::TempDir,
    file: AdminFile,
    source: Source,
    key: shared::keys::VerifyKey,
}

fn vault() -> VaultId {
    Hash::of(&[b"vault"])
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::resolve(Some(dir.path().join("state")), None).unwrap();
    let key = AdminKey::new("jonas".parse().unwrap(), vault(), SignKey::generate());
    let passphrase = age::secrecy::SecretString::from("open sesame".to_owned());
    let sealed = key.seal(&passphrase, Work::Little).unwrap();
    files::create_dir_private(&paths.admin()).unwrap();
    files::write_private(&place(&paths, &key.name), &sealed).unwrap();
    let pass = dir.path().join("pass");
    files::write_private(&pass, b"open sesame\n").unwrap();
    let file = AdminFile::find(&paths, None).unwrap();
    World { file, source: Source::File(pass), key: key.verify_key(), _dir: dir }
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

impl Agent for Scripted {
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
            let entry = Entry { seq, prev, time: NOW, by: request.actor.clone(), ops };
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

    fn submit(&self, request: &SubmitRequest) -> Result<Sent> {
        self.submitted.borrow_mut().push(request.envelope.clone());
        if self.answers.borrow_mut().remove(0) {
            self.seq.set(self.seq.get() + 1);
            return Ok(Sent::Done(Submitted { seq: self.seq.get(), head: Hash::ZERO }));
        }
        Ok(Sent::Moved)
    }
}

fn run(agent: &Scripted, world: &World, yes: bool) -> Result<Option<Submitted>> {
    let act = Act {
        vault: vault(),
        admin: &world.file,
        passphrase: &world.source,
        ops: vec![access("secret/a/")],
        again: vec![access("secret/again/")],
        yes,
    };
    carry_out(&act, agent, &Term::piped(io::empty(), io::sink(), io::sink()), || NOW)
}

#[test]
fn an_act_is_signed_by_the_admin_for_this_vault() {
    let (world, agent) = (world(), scripted(vec![vec![rewrap("secret/a/x")]], &[true]));
    assert_eq!(run(&agent, &world, true).unwrap().unwrap().seq, 8);
    let envelope = &agent.submitted.borrow()[0];
    envelope.verify(&world.key, Purpose::Entry(vault())).unwrap();
    assert_eq!(envelope.by, Actor::Admin("jonas".parse().unwrap()));
}

#[test]
fn what_nobody_asked_for_is_never_signed() {
    let world = world();
    let mut widened = scripted(vec![vec![]], &[]);
    widened.replace = Some(access("*"));
    let added = scripted(vec![vec![access("*")]], &[]);
    for agent in [widened, added] {
        let fault = run(&agent, &world, true).unwrap_err().to_string();
        assert!(fault.starts_with("the agent did not prepare what was asked for"), "{fault}");
        assert!(agent.submitted.borrow().is_empty());
    }
}

#[test]
fn without_a_terminal_somebody_must_have_said_yes() {
    let (world, agent) = (world(), scripted(vec![vec![]], &[]));
    let fault = run(&agent, &world, false).unwrap_err();
    assert_eq!(fault.to_string(), "there is no terminal to agree at");
    assert!(agent.submitted.borrow().is_empty());
}

#[test]
fn a_person_is_shown_the_act_and_may_say_no() {
    let (world, agent) = (world(), scripted(vec![vec![rewrap("secret/a/x")]], &[]));
    let shown = std::rc::Rc::new(RefCell::new(Vec::new()));
    struct Shared(std::rc::Rc<RefCell<Vec<u8>>>);
    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut term = Term::piped(&b"n\n"[..], io::sink(), Shared(shown.clone()));
    term.in_is_tty = true;
    let act = Act {
        vault: vault(),
        admin: &world.file,
        passphrase: &world.source,
        ops: vec![access("secret/a/")],
        again: vec![access("secret/a/")],
        yes: false,
    };
    assert_eq!(carry_out(&act, &agent, &term, || NOW).unwrap(), None);
    insta::assert_snapshot!(String::from_utf8(shown.borrow().clone()).unwrap(), @r"
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
    let (world, agent) = (world(), scripted(vec![vec![]], &[false, false, true]));
    assert_eq!(run(&agent, &world, true).unwrap().unwrap().seq, 8);
    assert_eq!(agent.prepared.borrow().len(), 3);
    let endless = scripted(vec![vec![]], &[false; 8]);
    assert!(run(&endless, &world, true).unwrap_err().to_string().contains("moves on faster"));
}

#[test]
fn once_the_first_entry_is_in_only_re_encryptions_are_repeated() {
    let adds = vec![vec![rewrap("secret/a/x")], vec![rewrap("secret/a/y")]];
    let (world, agent) = (world(), scripted(adds, &[true, false, true, true]));
    assert_eq!(run(&agent, &world, true).unwrap().unwrap().seq, 8);
    let prepared = agent.prepared.borrow();
    assert_eq!(*prepared, [vec![access("secret/a/")], vec![access("secret/again/")]]);
}
