//! A vault with fixed keys, and short ways to write its entries.

use std::collections::BTreeMap;

use shared::claim::Claim;
use shared::error::Result;
use shared::grant::Grants;
use shared::hash::Hash;
use shared::keys::{Recipient, SignKey, Signature, VerifyKey};
use shared::log::{
    Access, Applied, Entry, Genesis, MetaSet, MountSet, NewMachine, Number, Op, Put, Rekey, Resume,
    State, Versions,
};
use shared::name::Actor;
use shared::path::SecretPath;
use shared::signed::{Envelope, Purpose};
use shared::time::Time;
use x25519_dalek::{PublicKey, StaticSecret};

/// 2026-11-01T00:00:00Z.
const EPOCH: u64 = 1_793_491_200_000_000;

/// A vault, the keys of everybody in it, and its log so far.
pub struct World {
    pub genesis: Envelope,
    pub state: State,
    pub log: Vec<Envelope>,
    keys: BTreeMap<String, SignKey>,
    fresh: u8,
}

pub fn key(n: u8) -> SignKey {
    SignKey::from_seed(&[n; 32])
}

pub fn public(n: u8) -> VerifyKey {
    key(n).verify_key()
}

pub fn recipient(n: u8) -> Recipient {
    let public = PublicKey::from(&StaticSecret::from([n; 32]));
    Recipient::from_bytes(public.to_bytes()).unwrap()
}

pub fn actor(text: &str) -> Actor {
    text.parse().unwrap()
}

pub fn path(text: &str) -> SecretPath {
    text.parse().unwrap()
}

pub fn grants(texts: &[&str]) -> Grants {
    Grants::parse(texts).unwrap()
}

impl World {
    /// A vault with root (key 1), recovery (2), admin jonas (3), server (4), mount `secret`.
    pub fn new() -> Self {
        let genesis = Genesis {
            v: 1,
            name: "home".parse().unwrap(),
            nonce: Hash::of(&[b"nonce"]),
            time: Time::from_micros(EPOCH),
            root: public(1),
            recovery: recipient(2),
            admins: BTreeMap::from([("jonas".parse().unwrap(), public(3))]),
            server: vec![public(4)],
            mounts: vec!["secret".parse().unwrap()],
        };
        let genesis = Envelope::sign(&key(1), Actor::Root, Purpose::Genesis, &genesis).unwrap();
        let state = shared::log::start(&genesis).unwrap();
        let keys =
            BTreeMap::from([("root".to_owned(), key(1)), ("admin:jonas".to_owned(), key(3))]);
        Self { genesis, state, log: Vec::new(), keys, fresh: 100 }
    }

    /// With machines rtx1080 (reads and writes all) and vps (reads `secret/jjeco/`).
    pub fn with_machines() -> Self {
        let mut world = Self::new();
        let rtx1080 = world.machine_add("rtx1080", 10, &["*"], &["*"]);
        world.push("admin:jonas", vec![rtx1080]).unwrap();
        let vps = world.machine_add("vps", 12, &["secret/jjeco/"], &[]);
        world.push("admin:jonas", vec![vps]).unwrap();
        world
    }

    /// Adds a machine with signing key `n` and encryption key `n + 1`.
    pub fn machine_add(&mut self, name: &str, n: u8, read: &[&str], write: &[&str]) -> Op {
        self.hold(name, n);
        Op::MachineAdd(NewMachine {
            name: name.parse().unwrap(),
            number: self.state.due_machine(),
            recipient: recipient(n + 1),
            sign: public(n),
            proof: proof(name, n),
            read: grants(read),
            write: grants(write),
        })
    }

    /// Gives machine `name` signing key `n` and encryption key `n + 1`.
    pub fn machine_rekey(&self, name: &str, n: u8) -> Op {
        Op::MachineRekey(Rekey {
            number: self.number(name),
            new_number: self.state.due_machine(),
            recipient: recipient(n + 1),
            sign: public(n),
            proof: proof(name, n),
        })
    }

    /// From now on `name` signs with key `n`.
    pub fn hold(&mut self, name: &str, n: u8) {
        self.hold_as(&format!("machine:{name}"), n);
    }

    /// From now on the actor signs with key `n`.
    pub fn hold_as(&mut self, actor: &str, n: u8) {
        self.keys.insert(actor.to_owned(), key(n));
    }

    /// The number of the active machine `name`; 99 without one.
    pub fn number(&self, name: &str) -> Number {
        self.state.machine(&name.parse().unwrap()).map_or(99, |(number, _)| number)
    }

    pub fn machine_remove(&self, name: &str) -> Op {
        Op::MachineRemove { number: self.number(name), reason: "sold".parse().unwrap() }
    }

    pub fn machine_rename(&self, name: &str, to: &str) -> Op {
        Op::MachineRename { number: self.number(name), to: to.parse().unwrap() }
    }

    pub fn machine_set(&self, name: &str, sleeps: bool) -> Op {
        let number = self.number(name);
        Op::MachineSet { number, sleeps, was: self.state.was_machine(number) }
    }

    pub fn access_set(&self, name: &str, read: &[&str], write: &[&str]) -> Op {
        let number = self.number(name);
        Op::AccessSet(Access {
            number,
            was: self.state.was_access(number),
            read: grants(read),
            write: grants(write),
        })
    }

    pub fn server_set(&self, keys: &[u8]) -> Op {
        let keys = keys.iter().copied().map(public).collect();
        Op::ServerSet { keys, was: self.state.was_server() }
    }

    pub fn addresses_set(&self, addresses: &[&str]) -> Op {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Op::AddressesSet { addresses, was: self.state.was_addresses() }
    }

    pub fn mount(&self, name: &str) -> Op {
        let mount = name.parse().unwrap();
        Op::MountSet(MountSet {
            was: self.state.was_mount(&mount),
            mount,
            max_versions: 0,
            cas_required: false,
            delete_after: 0,
        })
    }

    pub fn resume(&self) -> Op {
        Op::Resume(Resume {
            seq: self.state.seq(),
            head: self.state.head(),
            audit_n: 7,
            audit_head: Hash::of(&[b"audit"]),
        })
    }

    /// A blob nobody has used; `content` decides the commitment.
    fn shape(&mut self, at: &str, ver: u64, content: &str) -> Put {
        self.fresh = self.fresh.wrapping_add(1);
        let unique = [self.log.len().to_le_bytes().as_slice(), &[self.fresh]].concat();
        Put {
            path: path(at),
            ver,
            blob: Hash::of(&[b"blob", &unique]),
            size: 1000,
            commit: Hash::of(&[content.as_bytes()]),
            readers: shared::log::readers_hash(&self.state, &path(at)),
        }
    }

    pub fn put(&mut self, at: &str, ver: u64) -> Op {
        Op::Put(self.shape(at, ver, "content"))
    }

    pub fn rewrap(&mut self, at: &str, ver: u64) -> Op {
        Op::Rewrap(self.shape(at, ver, "content"))
    }

    pub fn entry(&self, ops: Vec<Op>, by: &str) -> Entry {
        let seq = self.state.seq() + 1;
        let time = Time::from_micros(EPOCH + seq * 1_000_000);
        Entry { seq, prev: self.state.head(), time, by: actor(by), ops }
    }

    pub fn sign(&self, entry: &Entry) -> Envelope {
        let by = entry.by.to_string();
        let key = self.keys.get(&by).unwrap_or_else(|| &self.keys["root"]);
        let purpose = Purpose::Entry(self.state.vault());
        Envelope::sign(key, entry.by.clone(), purpose, entry).unwrap()
    }

    pub fn apply(&mut self, envelope: Envelope) -> Result<Applied> {
        let applied = shared::log::apply(&mut self.state, &envelope)?;
        self.log.push(envelope);
        Ok(applied)
    }

    pub fn push(&mut self, by: &str, ops: Vec<Op>) -> Result<Applied> {
        let envelope = self.sign(&self.entry(ops, by));
        self.apply(envelope)
    }
}

fn proof(name: &str, n: u8) -> Signature {
    let (name, recipient, sign) = (name.parse().unwrap(), recipient(n + 1), public(n));
    Claim { name: &name, recipient: &recipient, sign: &sign }.prove(&key(n)).unwrap()
}

pub fn mount_drop(name: &str) -> Op {
    Op::MountDrop { mount: name.parse().unwrap() }
}

pub fn meta(at: &str, max_versions: u64, custom: &[(&str, &str)]) -> Op {
    Op::MetaSet(MetaSet {
        path: path(at),
        max_versions,
        cas_required: false,
        delete_after: 0,
        custom: custom.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    })
}

pub fn versions(at: &str, versions: &[u64]) -> Versions {
    Versions { path: path(at), versions: versions.to_vec() }
}
