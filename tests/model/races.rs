//! Two admins at once: each looks, and acts later on what they saw, signed again on a newer head as
//! the command line does. No act undoes another one unseen, and none is refused for nothing.

use std::collections::BTreeMap;

use shared::error::Code;
use shared::grant::Grants;
use shared::hash::Hash;
use shared::keys::{Identity, SignKey};
use shared::log::{self, Access, Entry, Genesis, NewMachine, Number, Op, Rekey, State};
use shared::name::{Actor, Name};
use shared::signed::{Envelope, Purpose};
use shared::text::Text;
use shared::time::Time;
use shared::token::MachineLine;

use crate::die::Die;

const INTERLEAVINGS: u64 = 200;
const STEPS: usize = 60;
const ADMINS: [&str; 2] = ["jonas", "eva"];
const NAMES: [&str; 3] = ["vps", "nas", "pi"];
const GRANTS: [&str; 3] = ["secret/a/", "secret/b/", "*"];

/// What an admin means to do.
struct Plan {
    /// The state that they looked at.
    seen: State,
    op: Op,
    /// The entry that it is signed on.
    on: (u64, Hash),
}

struct Race {
    seed: u64,
    die: Die,
    state: State,
    keys: Vec<SignKey>,
    plans: [Option<Plan>; 2],
    /// How often each kind of act went in, or was refused.
    done: BTreeMap<(&'static str, bool), usize>,
}

impl Drop for Race {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("RACE_SEED={} is the race that failed", self.seed);
        }
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

impl Race {
    fn new(seed: u64) -> Self {
        let keys = ADMINS.map(|_| SignKey::generate());
        let (root, server) = (SignKey::generate(), SignKey::generate());
        let admins = ADMINS.into_iter().zip(&keys);
        let genesis = Genesis {
            v: 1,
            name: name("home"),
            nonce: Hash::ZERO,
            time: Time::default(),
            root: root.verify_key(),
            recovery: Identity::generate().recipient(),
            admins: admins.map(|(admin, key)| (name(admin), key.verify_key())).collect(),
            server: vec![server.verify_key()],
            mounts: vec!["secret".parse().unwrap()],
        };
        let genesis = Envelope::sign(&root, Actor::Root, Purpose::Genesis, &genesis).unwrap();
        let state = log::start(&genesis).unwrap();
        let (plans, done) = ([None, None], BTreeMap::new());
        Self { seed, die: Die(seed), state, keys: keys.into(), plans, done }
    }

    /// Has one of the admins look, or go on with what they have in mind.
    fn step(&mut self) {
        let admin = self.die.below(ADMINS.len());
        match self.plans[admin].take() {
            None => {
                let on = (self.state.seq(), self.state.head());
                let op = self.wish();
                self.plans[admin] = Some(Plan { seen: self.state.clone(), op, on });
            }
            Some(plan) => self.plans[admin] = self.submit(admin, plan),
        }
    }

    /// Decides on something by the present state.
    fn wish(&mut self) -> Op {
        let active = self.state.machines().iter().filter(|(_, machine)| machine.active);
        let active: Vec<Number> = active.map(|(number, _)| *number).collect();
        let free = name(self.die.of(&NAMES));
        if active.is_empty() || self.die.one_in(5) {
            let MachineLine { name, recipient, sign, proof } = line(&free);
            let number = self.state.due_machine();
            let (read, write) = (self.grants(), self.grants());
            let new = NewMachine { name, number, recipient, sign, proof, read, write };
            return Op::MachineAdd(new);
        }
        let number = self.die.of(&active);
        match self.die.below(8) {
            0 => Op::MachineRemove { number, reason: Text::default() },
            1 => Op::MachineRename { number, to: free },
            2 => {
                let name = &self.state.machine_numbered(number).unwrap().name;
                let MachineLine { recipient, sign, proof, .. } = line(name);
                let new_number = self.state.due_machine();
                Op::MachineRekey(Rekey { number, new_number, recipient, sign, proof })
            }
            3 | 4 => {
                let (sleeps, was) = (self.die.one_in(2), self.state.was_machine(number));
                Op::MachineSet { number, sleeps, was }
            }
            _ => {
                let (read, write) = (self.grants(), self.grants());
                let was = self.state.was_access(number);
                Op::AccessSet(Access { number, was, read, write })
            }
        }
    }

    fn grants(&mut self) -> Grants {
        Grants::parse(&[self.die.of(&GRANTS)]).unwrap()
    }

    /// Sends the act; returns it, to be sent later on the present head, if the log had moved on.
    fn submit(&mut self, admin: usize, plan: Plan) -> Option<Plan> {
        let Plan { seen, op, on: (seq, prev) } = plan;
        let by = Actor::Admin(name(ADMINS[admin]));
        let (seq, ops) = (seq + 1, vec![op.clone()]);
        let entry = Entry { seq, prev, time: Time::from_micros(seq), by: by.clone(), ops };
        let purpose = Purpose::Entry(self.state.vault());
        let envelope = Envelope::sign(&self.keys[admin], by, purpose, &entry).unwrap();
        let before = self.state.clone();
        let outcome = log::apply(&mut self.state, &envelope).map(drop);
        let refused = outcome.map_err(|refused| refused.error.code).err();
        if let Some(Code::Seq | Code::Prev) = refused {
            let on = (self.state.seq(), self.state.head());
            return Some(Plan { seen, op, on });
        }
        match refused {
            None => unseen(&op, &seen, &before),
            Some(code) => {
                assert!(is_due(&op, code, &seen, &before), "{code} for nothing: {op:?}");
            }
        }
        *self.done.entry((op.name(), refused.is_none())).or_default() += 1;
        None
    }
}

fn line(name: &Name) -> MachineLine {
    let recipient = Identity::generate().recipient();
    MachineLine::new(name.clone(), recipient, &SignKey::generate()).unwrap()
}

/// Fails if an act that went in replaced something else than its admin had seen.
fn unseen(op: &Op, seen: &State, before: &State) {
    let host = |state: &State, number: Number| {
        state.machine_numbered(number).map(|machine| (machine.sign.clone(), machine.active))
    };
    match op {
        Op::MachineAdd(new) => {
            assert_eq!(before.machine(&new.name), None, "a machine was replaced: {op:?}");
        }
        Op::AccessSet(Access { number, .. }) => {
            let lists = |state: &State| {
                state.machine_numbered(*number).map(|it| (it.read.clone(), it.write.clone()))
            };
            assert_eq!(lists(seen), lists(before), "lists were undone unseen: {op:?}");
        }
        Op::MachineSet { number, .. } => {
            let sleeps = |state: &State| state.machine_numbered(*number).map(|it| it.sleeps);
            assert_eq!(sleeps(seen), sleeps(before), "a setting was undone unseen: {op:?}");
        }
        Op::MachineRemove { number, .. }
        | Op::MachineRename { number, .. }
        | Op::MachineRekey(Rekey { number, .. }) => {
            assert_eq!(host(seen, *number), host(before, *number), "another host: {op:?}");
        }
        other => panic!("nobody wished for {other:?}"),
    }
}

/// Tells whether a refusal has its reason in what changed since the admin looked.
fn is_due(op: &Op, code: Code, seen: &State, before: &State) -> bool {
    let gone = |number: Number| before.machine_numbered(number).is_none();
    let came = seen.due_machine() != before.due_machine();
    match (op, code) {
        (
            Op::MachineAdd(NewMachine { name, .. }) | Op::MachineRename { to: name, .. },
            Code::Exists,
        ) => before.machine(name).is_some(),
        (Op::MachineAdd(_) | Op::MachineRekey(_), Code::Moved) => came,
        // The proof is for the name that it had.
        (Op::MachineRekey(Rekey { number, .. }), Code::BadSig) => {
            let called = |state: &State| state.machine_numbered(*number).map(|it| it.name.clone());
            called(seen) != called(before)
        }
        (Op::AccessSet(Access { number, .. }), Code::Moved) => {
            seen.was_access(*number) != before.was_access(*number)
        }
        (Op::MachineSet { number, .. }, Code::Moved) => {
            seen.was_machine(*number) != before.was_machine(*number)
        }
        (
            Op::AccessSet(Access { number, .. })
            | Op::MachineSet { number, .. }
            | Op::MachineRemove { number, .. }
            | Op::MachineRename { number, .. }
            | Op::MachineRekey(Rekey { number, .. }),
            Code::Missing,
        ) => gone(*number),
        _ => false,
    }
}

#[test]
fn two_admins_never_undo_each_other_unseen() {
    let first = std::env::var("RACE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("RACE_SEED={first}: races from this seed on");
    let mut done = BTreeMap::new();
    for seed in first..first + INTERLEAVINGS {
        let mut race = Race::new(seed);
        (0..STEPS).for_each(|_| race.step());
        for (act, times) in &race.done {
            *done.entry(*act).or_insert(0) += times;
        }
    }
    println!("{done:?}");
    let kinds = ["machine_add", "machine_set", "machine_remove", "machine_rename", "machine_rekey"];
    for act in kinds.into_iter().chain(["access_set"]) {
        for taken in [true, false] {
            let times = done.get(&(act, taken)).copied().unwrap_or(0);
            assert!(times > 0, "no {act} was {}", if taken { "taken" } else { "refused" });
        }
    }
}
