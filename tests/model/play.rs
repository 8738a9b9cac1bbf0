//! Random histories: a small world in which names, keys and paths collide often, and the comparison
//! of what `apply` and the model make of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex};

use shared::claim::Claim;
use shared::grant::Grants;
use shared::hash::Hash;
use shared::keys::{Identity, Recipient, SignKey, Signature, VerifyKey};
use shared::log::{
    self, Access, Checkpoint, Deletion, Entry, Genesis, MetaSet, MountSet, NewMachine, Op, Put,
    Rekey, Resume, State, Versions,
};
use shared::name::{Actor, Name};
use shared::signed::{Envelope, Purpose};
use shared::text::Text;
use shared::time::Time;

use crate::die::Die;
use crate::model::{Key, Machine, Model, Secret, Settings, Version};

const NAMES: [&str; 7] = ["rtx1080", "vps", "thinkpad", "tower", "nas", "pi", "desk"];
const ADMINS: [&str; 3] = ["jonas", "eva", "kim"];
const PATHS: [&str; 4] = ["secret/a", "secret/jjeco/x", "secret/jjeco/y", "team/z"];
const MOUNTS: [&str; 3] = ["secret", "team", "new"];
const GRANTS: [&[&str]; 6] =
    [&[], &["*"], &["secret/"], &["secret/jjeco/", "team/z"], &["secret/a"], &["team/"]];
const KEYS: usize = 48;

/// Keys that histories draw from: number 0 is root's, 1 the first admin's, 2 the first server's.
static POOL: LazyLock<Vec<(SignKey, VerifyKey, Recipient)>> = LazyLock::new(|| {
    let seeds = 1..=u8::try_from(KEYS).unwrap();
    let keys = seeds.map(|seed| SignKey::from_seed(&[seed; 32]));
    keys.map(|key| (key.verify_key(), key))
        .map(|(public, key)| (key, public, Identity::generate().recipient()))
        .collect()
});

/// Proofs by name, recipient and signing key: making one costs more than all else.
static PROOFS: LazyLock<Mutex<Proofs>> = LazyLock::new(Mutex::default);

type Proofs = HashMap<(String, usize, usize), Signature>;

/// What every history begins with: machines, mounts and secrets, so that little is merely missing.
static OPENING: LazyLock<Play> = LazyLock::new(|| {
    let mut play = Play::founded();
    while play.model.machines.len() < 3 || play.model.secrets.len() < 4 {
        play.step();
    }
    play
});

/// One history being played on both sides.
#[derive(Clone)]
pub struct Play {
    seed: u64,
    die: Die,
    state: State,
    model: Model,
    /// Which key of the pool each actor signs with, as far as they know.
    signers: BTreeMap<String, usize>,
    fresh: u64,
}

impl Drop for Play {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("MATRIX_SEED={} begins with the history that failed", self.seed);
        }
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

impl Play {
    /// Begins the history of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut play = OPENING.clone();
        (play.seed, play.die, play.fresh) = (seed, Die(seed), (seed + 1) << 20);
        play
    }

    fn founded() -> Self {
        let public = |n: usize| POOL[n].1.clone();
        let genesis = Genesis {
            v: 1,
            name: name("home"),
            nonce: Hash::ZERO,
            time: Time::from_micros(1),
            root: public(0),
            recovery: POOL[0].2.clone(),
            admins: BTreeMap::from([(name("jonas"), public(1))]),
            server: vec![public(2)],
            mounts: vec!["secret".parse().unwrap()],
        };
        let signed = Envelope::sign(&POOL[0].0, Actor::Root, Purpose::Genesis, &genesis).unwrap();
        let state = log::start(&signed).unwrap();
        let unset = Settings { max_versions: 0, cas_required: false, delete_after: 0 };
        let bytes = |n: usize| *POOL[n].1.as_bytes();
        let recovery = *POOL[0].2.as_bytes();
        let keys = vec![bytes(0), bytes(1), bytes(2), recovery];
        let model = Model {
            seq: 0,
            head: state.vault(),
            epoch: state.vault(),
            root: bytes(0),
            recovery: (1, recovery),
            admins: BTreeMap::from([("jonas".to_owned(), bytes(1))]),
            server: vec![bytes(2)],
            addresses: vec![],
            mounts: BTreeMap::from([("secret".to_owned(), unset)]),
            machines: vec![],
            secrets: BTreeMap::new(),
            counters: BTreeMap::new(),
            keys,
            blobs: vec![],
            summed: None,
            proofs: vec![],
        };
        let signers = BTreeMap::from([("root".to_owned(), 0), ("admin:jonas".to_owned(), 1)]);
        Self { seed: 0, die: Die(7), state, model, signers, fresh: 0 }
    }

    /// Plays one entry of up to four operations on both sides and compares them.
    pub fn step(&mut self) {
        self.model.proofs.clear();
        self.model.summed = None;
        let by = self.actor();
        // What each operation sees of the state is what stood before the entry, so later ones are
        // often wrong: that is meant.
        let ops: Vec<Op> = (0..=self.die.below(3)).map(|_| self.operation()).collect();
        let seq = self.model.seq + 1;
        let time = 1_000_000 * seq;
        let entry = Entry {
            seq,
            prev: self.model.head,
            time: Time::from_micros(time),
            by: by.clone(),
            ops,
        };
        let known = self.signers.get(&by.to_string()).copied();
        let signer = if self.die.one_in(40) { self.die.below(KEYS) } else { known.unwrap_or(0) };
        let (key, public, _) = &POOL[signer];
        let purpose = Purpose::Entry(self.state.vault());
        let envelope = Envelope::sign(key, by.clone(), purpose, &entry).unwrap();
        let holds = match &by {
            Actor::Root => Some(self.model.root),
            Actor::Admin(name) => self.model.admins.get(name.as_str()).copied(),
            Actor::Machine(name) => {
                self.model.named(name.as_str()).map(|(_, machine)| machine.sign)
            }
        };
        // A copy costs more than all else: every fourth entry shows that nothing leaves a trace.
        let before = self.die.one_in(4).then(|| self.state.clone());
        let outcome = log::apply(&mut self.state, &envelope);
        let expected = match holds {
            None => Err((None, [shared::error::Code::UnknownActor].into())),
            Some(holds) if holds != *public.as_bytes() => {
                Err((None, [shared::error::Code::BadSig].into()))
            }
            Some(_) => self.model.entry(&by, time, &entry.ops),
        };
        match (outcome, expected) {
            (Ok(applied), Ok(())) => {
                self.model.seq = seq;
                self.model.head = envelope.hash(purpose);
                if matches!(entry.ops.first(), Some(Op::Resume(_))) {
                    self.model.epoch = self.model.head;
                }
                self.learn(&entry.ops);
                if let Some(before) = before {
                    let mut reverted = self.state.clone();
                    reverted.revert(applied.undo);
                    assert!(reverted == before, "an entry was not taken back whole: {entry:?}");
                }
            }
            (Err(refused), Err((op, faults))) => {
                assert!(
                    refused.op == op && faults.contains(&refused.error.code),
                    "{refused} at {:?}, but the model says {faults:?} at {op:?}: {entry:#?}",
                    refused.op
                );
                let unchanged = before.is_none_or(|before| self.state == before);
                assert!(unchanged, "a refused entry left a trace: {entry:?}");
            }
            (Ok(_), Err(faults)) => panic!("taken, but the model says {faults:?}: {entry:#?}"),
            (Err(refused), Ok(())) => panic!("{refused}, but the model takes it: {entry:#?}"),
        }
        self.compare();
    }

    /// Notes who signs with which key from now on.
    fn learn(&mut self, ops: &[Op]) {
        let at = |key: &VerifyKey| POOL.iter().position(|(_, public, _)| public == key).unwrap();
        for op in ops {
            let (actor, key) = match op {
                Op::AdminAdd { name, key } => (format!("admin:{name}"), at(key)),
                Op::RootSet { key } => ("root".to_owned(), at(key)),
                Op::MachineAdd(new) => (format!("machine:{}", new.name), at(&new.sign)),
                Op::MachineRekey(rekey) => {
                    let machine = &self.state.machines()[&rekey.new_number];
                    (format!("machine:{}", machine.name), at(&rekey.sign))
                }
                _ => continue,
            };
            self.signers.insert(actor, key);
        }
        for machine in self.state.machines().values().filter(|machine| machine.active) {
            self.signers.insert(format!("machine:{}", machine.name), at(&machine.sign));
        }
    }

    /// Mostly somebody who may act now.
    fn actor(&mut self) -> Actor {
        let admin = |text: &str| Actor::Admin(name(text));
        let machine = |text: &str| Actor::Machine(name(text));
        if self.die.one_in(30) {
            return match self.die.one_in(2) {
                true => admin(self.die.of(&ADMINS)),
                false => machine(self.die.of(&NAMES)),
            };
        }
        let mut known = vec![Actor::Root; 2];
        known.extend(self.model.admins.keys().map(|text| admin(text)));
        let active = self.model.machines.iter().filter(|machine| machine.active);
        known.extend(active.map(|it| machine(&it.name)));
        known.swap_remove(self.die.below(known.len()))
    }

    /// Mostly an active machine's number.
    fn number(&mut self) -> u64 {
        let all = 1..=self.model.machines.len() as u64;
        let active: Vec<u64> = all.filter(|number| self.model.active(*number).is_some()).collect();
        if active.is_empty() || self.die.one_in(10) {
            return self.die.below(self.model.machines.len() + 2) as u64;
        }
        self.die.of(&active)
    }

    /// Mostly the place of a key that nobody has used.
    fn fresh_key(&mut self, used: impl Fn(&Self, usize) -> bool) -> usize {
        let drawn = self.die.below(KEYS);
        if self.die.one_in(10) {
            return drawn;
        }
        let mut later = (0..KEYS).map(|step| (drawn + step) % KEYS);
        later.find(|n| !used(self, *n)).unwrap_or(drawn)
    }

    fn fresh_recipient(&mut self) -> usize {
        self.fresh_key(|play, n| play.model.keys.contains(POOL[n].2.as_bytes()))
    }

    fn fresh_signer(&mut self) -> usize {
        self.fresh_key(|play, n| play.model.keys.contains(POOL[n].1.as_bytes()))
    }

    /// Mostly a secret that exists.
    fn path(&mut self) -> &'static str {
        let drawn = self.die.of(&PATHS);
        if self.model.secrets.contains_key(drawn) || self.die.one_in(4) {
            return drawn;
        }
        let known = |path: &&&str| self.model.secrets.contains_key(**path);
        PATHS.iter().find(known).copied().unwrap_or(drawn)
    }

    fn grants(&mut self) -> Grants {
        Grants::parse(self.die.of(&GRANTS)).unwrap()
    }

    fn was(&mut self, right: Hash) -> Hash {
        if self.die.one_in(12) { Hash::of(&[b"another state"]) } else { right }
    }

    fn due_machine(&mut self) -> u64 {
        self.model.machines.len() as u64 + u64::from(!self.die.one_in(12))
    }

    fn key(&mut self) -> VerifyKey {
        POOL[self.fresh_signer()].1.clone()
    }

    /// Keys and a proof of them under `name`, which at times proves something else.
    fn keys(&mut self, name: &Name) -> (Recipient, VerifyKey, Signature) {
        let (recipient, sign) = (self.fresh_recipient(), self.fresh_signer());
        let proved = if self.die.one_in(15) { (recipient + 1) % KEYS } else { recipient };
        let mut proofs = PROOFS.lock().unwrap();
        let proof = *proofs.entry((name.to_string(), proved, sign)).or_insert_with(|| {
            let (key, public, _) = &POOL[sign];
            Claim { name, recipient: &POOL[proved].2, sign: public }.prove(key).unwrap()
        });
        let proves = (*proof.as_bytes(), name.to_string(), *POOL[proved].2.as_bytes());
        self.model.proofs.push(proves);
        (POOL[recipient].2.clone(), POOL[sign].1.clone(), proof)
    }

    fn operation(&mut self) -> Op {
        match self.die.below(34) {
            0 => Op::AdminAdd { name: name(self.die.of(&ADMINS)), key: self.key() },
            1 => Op::AdminRemove { name: name(self.die.of(&ADMINS)) },
            2 => Op::RootSet { key: self.key() },
            3 => Op::RecoverySet { recipient: POOL[self.fresh_recipient()].2.clone() },
            4 => {
                let count = self.die.of(&[1, 1, 2, 2, 2, 0, 3]);
                let keys = (0..count).map(|_| self.key()).collect();
                Op::ServerSet { keys, was: self.was(self.state.was_server()) }
            }
            5 => {
                let count = self.die.of(&[1, 2, 3, 8, 8, 0, 9]);
                let addresses = (0..count).map(|n| format!("10.0.0.{n}:1").parse().unwrap());
                let addresses = addresses.collect();
                Op::AddressesSet { addresses, was: self.was(self.state.was_addresses()) }
            }
            6 => {
                let mount = self.die.of(&MOUNTS).parse().unwrap();
                Op::MountSet(MountSet {
                    was: self.was(self.state.was_mount(&mount)),
                    mount,
                    max_versions: self.die.of(&[0, 2, 3, 2, 3, 1000, 1001]),
                    cas_required: self.die.one_in(2),
                    delete_after: self.die.of(&[0, 0, -1, 5_000_000]),
                })
            }
            7 => Op::MountDrop { mount: self.die.of(&MOUNTS).parse().unwrap() },
            8..=10 => {
                let name = name(self.die.of(&NAMES));
                let (recipient, sign, proof) = self.keys(&name);
                let number = self.due_machine();
                let (read, write) = (self.grants(), self.grants());
                Op::MachineAdd(NewMachine { name, number, recipient, sign, proof, read, write })
            }
            11 => Op::MachineRename { number: self.number(), to: name(self.die.of(&NAMES)) },
            12 => {
                let number = self.number();
                let named = self.state.machine_numbered(number).map(|it| it.name.clone());
                let (recipient, sign, proof) = self.keys(&named.unwrap_or_else(|| name("none")));
                let new_number = self.due_machine();
                Op::MachineRekey(Rekey { number, new_number, recipient, sign, proof })
            }
            13 => {
                let number = self.number();
                let was = self.was(self.state.was_machine(number));
                Op::MachineSet { number, sleeps: self.die.one_in(2), was }
            }
            14 => Op::MachineRemove { number: self.number(), reason: "sold".parse().unwrap() },
            15 | 16 => {
                let number = self.number();
                let was = self.was(self.state.was_access(number));
                Op::AccessSet(Access { number, was, read: self.grants(), write: self.grants() })
            }
            17 => {
                let seq = self.model.seq - u64::from(self.model.seq > 0 && self.die.one_in(6));
                let head = self.was(self.model.head);
                Op::Resume(Resume { seq, head, audit_n: 1, audit_head: Hash::ZERO })
            }
            33 => self.checkpoint(),
            18 => Op::FormatSet { format: self.die.of(&[0, 1, 2, 3]) },
            19 => self.meta(),
            20 => Op::Forget { path: self.path().parse().unwrap() },
            21 => Op::Delete(self.versions()),
            22 => Op::Undelete(self.versions()),
            23 => Op::Destroy(self.versions()),
            24 | 25 => Op::Rewrap(self.blob(true)),
            _ => Op::Put(self.blob(false)),
        }
    }

    fn checkpoint(&mut self) -> Op {
        let named = self.state.summed();
        self.model.summed = Some(named);
        let seq = named.seq - u64::from(named.seq > 0 && self.die.one_in(6));
        Op::Checkpoint(Checkpoint { seq, state: self.was(named.state), ..named })
    }

    fn meta(&mut self) -> Op {
        let value = self.die.of(&["jonas", "jonas", "jonas", "jonas", "", "a\u{7}"]);
        let filled = self.die.one_in(2);
        Op::MetaSet(MetaSet {
            path: self.die.of(&PATHS).parse().unwrap(),
            max_versions: self.die.of(&[0, 1, 2, 1, 2, 1000, 1001]),
            cas_required: self.die.one_in(2),
            delete_after: self.die.of(&[0, 0, -1, 3_000_000]),
            custom: filled.then(|| ("owner".to_owned(), value.to_owned())).into_iter().collect(),
        })
    }

    fn versions(&mut self) -> Versions {
        let path = self.path();
        let last = self.model.due(path);
        let mut versions: Vec<u64> = (0..self.die.below(4))
            .map(|_| (last + 1).saturating_sub(self.die.below(5) as u64))
            .collect();
        if !self.die.one_in(8) {
            versions.sort_unstable();
            versions.dedup();
        }
        Versions { path: path.parse().unwrap(), versions }
    }

    fn blob(&mut self, again: bool) -> Put {
        let path = if again { self.path() } else { self.die.of(&PATHS) };
        let due = self.model.due(path);
        let ver = if again { due.saturating_sub(1) } else { due };
        let ver = if self.die.one_in(12) { ver + 1 } else { ver };
        if !self.die.one_in(15) {
            self.fresh += 1;
        }
        let readers = Hash::of(&[self.model.readers(path).join("\n").as_bytes()]);
        Put {
            path: path.parse().unwrap(),
            ver,
            blob: Hash::of(&[&self.fresh.to_le_bytes()]),
            size: if self.die.one_in(25) { self.die.of(&[0, (1 << 20) + 1]) } else { 1 << 20 },
            commit: Hash::of(&[&[u8::from(self.die.one_in(20))]]),
            readers: self.was(readers),
        }
    }

    /// Compares everything that both sides can be asked.
    fn compare(&self) {
        let Self { state, model, .. } = self;
        assert_eq!(
            (state.seq(), state.head(), state.epoch()),
            (model.seq, model.head, model.epoch)
        );
        let admins = state.admins().iter().map(|(name, key)| (name.to_string(), *key.as_bytes()));
        assert_eq!(admins.collect::<BTreeMap<_, _>>(), model.admins);
        let server: Vec<Key> = state.server().iter().map(|key| *key.as_bytes()).collect();
        assert_eq!(server, model.server);
        let addresses: Vec<&str> = state.addresses().iter().map(Text::as_str).collect();
        assert_eq!(addresses, model.addresses);
        let mounts = state.mounts().iter().map(|(mount, config)| {
            let log::MountConfig { max_versions, cas_required, delete_after } = *config;
            (mount.to_string(), Settings { max_versions, cas_required, delete_after })
        });
        assert_eq!(mounts.collect::<BTreeMap<_, _>>(), model.mounts);
        let machines: Vec<Machine> = state.machines().values().map(seen_machine).collect();
        assert_eq!(machines, model.machines);
        assert!(state.machines().keys().copied().eq(1..=model.machines.len() as u64));
        let secrets = state.secrets().iter().map(|(path, it)| (path.to_string(), seen_secret(it)));
        assert_eq!(secrets.collect::<BTreeMap<_, _>>(), model.secrets);
        for path in PATHS {
            let parsed = path.parse().unwrap();
            assert_eq!(log::readers(state, &parsed), model.readers(path));
            assert_eq!(state.due_version(&parsed), model.due(path));
            let recipients = log::recipients(state, &parsed);
            let recipients: Vec<Key> = recipients.iter().map(|it| *it.as_bytes()).collect();
            assert_eq!(recipients, model.recipients(path));
        }
        for text in NAMES {
            let found = state.machine(&name(text)).map(|(number, _)| number);
            assert_eq!(found, model.named(text).map(|(number, _)| number));
        }
    }
}

fn seen_machine(machine: &log::Machine) -> Machine {
    let texts = |grants: &Grants| grants.as_slice().iter().map(ToString::to_string).collect();
    Machine {
        name: machine.name.to_string(),
        active: machine.active,
        recipient: *machine.recipient.as_bytes(),
        sign: *machine.sign.as_bytes(),
        read: texts(&machine.read),
        write: texts(&machine.write),
        sleeps: machine.sleeps,
    }
}

fn seen_secret(secret: &log::Secret) -> Secret {
    let version = |(ver, version): (u64, &log::Version)| {
        let (deleted, marked) = match version.deletion {
            Deletion::No => (0, false),
            Deletion::At(time) => (time.as_micros(), false),
            Deletion::Since(time) => (time.as_micros(), true),
        };
        let (blob, commit, readers) = (version.blob, version.commit, version.readers);
        let destroyed = version.destroyed;
        Version { ver, blob, commit, readers, deleted, marked, destroyed }
    };
    Secret {
        settings: Settings {
            max_versions: secret.max_versions,
            cas_required: secret.cas_required,
            delete_after: secret.delete_after,
        },
        custom: secret.custom.texts(),
        versions: secret.versions().map(version).collect(),
    }
}
