//! The reference model: what the table of operations in the book's chapter *Trust* says, written a
//! second time, with lists and copies in place of indices and undo. It shares types with `apply`,
//! and no rule.

use std::collections::{BTreeMap, BTreeSet};

use shared::error::Code;
use shared::hash::Hash;
use shared::log::{Checkpoint, MetaSet, MountSet, Op, Put, Versions};
use shared::name::Actor;

/// The bytes of a public key, of either kind.
pub type Key = [u8; 32];

/// Rules that an operation breaks; `apply` must name one of them.
pub type Faults = BTreeSet<Code>;

#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    pub name: String,
    pub active: bool,
    pub recipient: Key,
    pub sign: Key,
    pub read: Vec<String>,
    pub write: Vec<String>,
    pub sleeps: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub max_versions: u64,
    pub cas_required: bool,
    pub delete_after: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    pub ver: u64,
    pub blob: Hash,
    pub commit: Hash,
    pub readers: Hash,
    /// 0: not deleted; otherwise when it counts as deleted.
    pub deleted: u64,
    /// Whether somebody deleted it, rather than its age.
    pub marked: bool,
    pub destroyed: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Secret {
    pub settings: Settings,
    pub custom: BTreeMap<String, String>,
    pub versions: Vec<Version>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub seq: u64,
    pub head: Hash,
    pub epoch: Hash,
    pub root: Key,
    pub recovery: (u64, Key),
    pub admins: BTreeMap<String, Key>,
    pub server: Vec<Key>,
    pub addresses: Vec<String>,
    pub mounts: BTreeMap<String, Settings>,
    /// Number `n` stands at `n - 1`.
    pub machines: Vec<Machine>,
    pub secrets: BTreeMap<String, Secret>,
    /// The last version ever of each path.
    pub counters: BTreeMap<String, u64>,
    pub keys: Vec<Key>,
    pub blobs: Vec<Hash>,
    /// What a checkpoint has to name now.
    pub summed: Option<Checkpoint>,
    /// What each proof proves: a name and a recipient.
    pub proofs: Vec<([u8; 64], String, Key)>,
}

fn covers(grant: &str, path: &str) -> bool {
    match grant {
        "*" => true,
        subtree if subtree.ends_with('/') => {
            path.len() > subtree.len() && &path[..subtree.len()] == subtree
        }
        exact => exact == path,
    }
}

pub fn sha(text: &str) -> Hash {
    Hash::of(&[text.as_bytes()])
}

pub fn hex(key: &Key) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn quoted(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(","))
}

pub fn texts<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

impl Model {
    /// Does all of `ops`, or says which one breaks which rules and leaves everything as it was.
    pub fn entry(
        &mut self,
        by: &Actor,
        time: u64,
        ops: &[Op],
    ) -> Result<(), (Option<usize>, Faults)> {
        if ops.is_empty() || ops.len() > 1000 {
            return Err((None, Faults::from([Code::Limits])));
        }
        let mut draft = self.clone();
        for (index, op) in ops.iter().enumerate() {
            let faults = draft.operation(by, time, index, op);
            if !faults.is_empty() {
                return Err((Some(index), faults));
            }
        }
        *self = draft;
        Ok(())
    }

    pub fn active(&self, number: u64) -> Option<&Machine> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.machines.get(index).filter(|machine| machine.active)
    }

    pub fn named(&self, name: &str) -> Option<(u64, &Machine)> {
        let mut numbered = (1..).zip(&self.machines);
        numbered.find(|(_, machine)| machine.active && machine.name == name)
    }

    pub fn readers(&self, path: &str) -> Vec<String> {
        let mut list: Vec<String> = (1..)
            .zip(&self.machines)
            .filter(|(_, machine)| machine.active && machine.read.iter().any(|g| covers(g, path)))
            .map(|(number, _): (u64, _)| number.to_string())
            .collect();
        list.push(format!("@recovery#{}", self.recovery.0));
        list
    }

    pub fn recipients(&self, path: &str) -> Vec<Key> {
        let reads = |machine: &&Machine| {
            machine.active && machine.read.iter().any(|grant| covers(grant, path))
        };
        let mut list: Vec<Key> =
            self.machines.iter().filter(reads).map(|machine| machine.recipient).collect();
        list.push(self.recovery.1);
        list
    }

    pub fn due(&self, path: &str) -> u64 {
        self.counters.get(path).copied().unwrap_or(0) + 1
    }

    fn may(&self, by: &Actor, op: &Op) -> bool {
        let root_only = matches!(
            op,
            Op::AdminAdd { .. }
                | Op::AdminRemove { .. }
                | Op::RootSet { .. }
                | Op::RecoverySet { .. }
        );
        let name = match by {
            Actor::Root => return true,
            Actor::Admin(_) => return !root_only,
            Actor::Machine(name) => name.as_str(),
        };
        let Some((_, machine)) = self.named(name) else { return false };
        let whole = |mount: &str| {
            machine.write.iter().any(|grant| grant == "*" || *grant == format!("{mount}/"))
        };
        let path = match op {
            Op::Put(put) | Op::Rewrap(put) => &put.path,
            Op::Delete(at) | Op::Undelete(at) | Op::Destroy(at) => &at.path,
            Op::MetaSet(meta) => &meta.path,
            Op::Forget { path } => path,
            Op::MountSet(set) => return whole(set.mount.as_str()),
            Op::MountDrop { mount } => return whole(mount.as_str()),
            _ => return false,
        };
        machine.write.iter().any(|grant| covers(grant, path.as_str()))
    }

    fn operation(&mut self, by: &Actor, time: u64, index: usize, op: &Op) -> Faults {
        if !self.may(by, op) {
            return Faults::from([Code::Denied]);
        }
        match op {
            Op::AdminAdd { name, key } => self.admin_add(name, *key.as_bytes()),
            Op::AdminRemove { name } => match self.admins.remove(name.as_str()) {
                Some(_) => Faults::new(),
                None => Faults::from([Code::Missing]),
            },
            Op::RootSet { key } => self.root_set(*key.as_bytes()),
            Op::RecoverySet { recipient } => self.recovery_set(*recipient.as_bytes()),
            Op::ServerSet { keys, was } => {
                self.server_set(keys.iter().map(|key| *key.as_bytes()).collect(), *was)
            }
            Op::AddressesSet { addresses, was } => self.addresses_set(addresses, *was),
            Op::MountSet(set) => self.mount_set(set),
            Op::MountDrop { mount } => self.mount_drop(mount.as_str()),
            Op::MachineAdd(new) => self.machine_add(new),
            Op::MachineRename { number, to } => self.machine_rename(*number, to.as_str()),
            Op::MachineRekey(rekey) => self.machine_rekey(rekey),
            Op::MachineSet { number, sleeps, was } => self.machine_set(*number, *sleeps, *was),
            Op::MachineRemove { number, .. } => {
                self.change(*number, Faults::new(), |machine| machine.active = false)
            }
            Op::AccessSet(access) => self.access_set(access),
            Op::Put(put) => self.put(put, time),
            Op::Rewrap(put) => self.rewrap(put),
            Op::Delete(at) => self.versions(at, |version| {
                (version.deleted, version.marked) = (time, true);
            }),
            Op::Undelete(at) => {
                let until = self.until(at.path.as_str(), time);
                self.versions(at, |version| (version.deleted, version.marked) = (until, false))
            }
            Op::Destroy(at) => self.versions(at, |version| version.destroyed = true),
            Op::MetaSet(meta) => self.meta_set(meta),
            Op::Forget { path } => match self.secrets.remove(path.as_str()) {
                Some(_) => Faults::new(),
                None => Faults::from([Code::Missing]),
            },
            Op::Resume(resume) => self.resume(index, resume),
            Op::Checkpoint(named) => self.checkpoint(index, *named),
            Op::FormatSet { format: 2 } => Faults::from([Code::Upgrade]),
            Op::FormatSet { .. } => Faults::from([Code::Version]),
        }
    }

    pub fn fresh(&self, keys: &[Key]) -> Faults {
        let used = |(at, key): (usize, &Key)| self.keys.contains(key) || keys[..at].contains(key);
        if keys.iter().enumerate().any(used) { Faults::from([Code::Key]) } else { Faults::new() }
    }

    pub fn change(
        &mut self,
        number: u64,
        mut faults: Faults,
        to: impl FnOnce(&mut Machine),
    ) -> Faults {
        if self.active(number).is_none() {
            faults.insert(Code::Missing);
        }
        if faults.is_empty() {
            to(&mut self.machines[usize::try_from(number).unwrap() - 1]);
        }
        faults
    }

    fn mount_drop(&mut self, mount: &str) -> Faults {
        let mut faults = Faults::new();
        if self.secrets.keys().any(|path| path.split('/').next() == Some(mount)) {
            faults.insert(Code::Exists);
        }
        if !self.mounts.contains_key(mount) {
            faults.insert(Code::Missing);
        }
        if faults.is_empty() {
            self.mounts.remove(mount);
        }
        faults
    }

    fn mount_set(&mut self, set: &MountSet) -> Faults {
        let mut faults = Faults::new();
        let was = self.mounts.get(set.mount.as_str()).map_or(Hash::ZERO, |now| {
            sha(&format!(
                "{{\"mount\":\"{}\",\"max_versions\":{},\"cas_required\":{},\"delete_after\":{}}}",
                set.mount, now.max_versions, now.cas_required, now.delete_after
            ))
        });
        if set.was != was {
            faults.insert(Code::Moved);
        }
        if set.max_versions > 1000 {
            faults.insert(Code::Limits);
        }
        if faults.is_empty() {
            let settings = Settings {
                max_versions: set.max_versions,
                cas_required: set.cas_required,
                delete_after: set.delete_after,
            };
            self.mounts.insert(set.mount.to_string(), settings);
        }
        faults
    }

    fn settings(&self, path: &str) -> (Option<&Settings>, Option<&Settings>) {
        let mount = path.split('/').next().unwrap();
        (self.mounts.get(mount), self.secrets.get(path).map(|secret| &secret.settings))
    }

    /// When a version written at `time` counts as deleted by its age; 0 never.
    fn until(&self, path: &str, time: u64) -> u64 {
        let (mount, own) = self.settings(path);
        let all: Vec<i64> = [mount, own].into_iter().flatten().map(|s| s.delete_after).collect();
        if all.iter().any(|micros| *micros < 0) {
            return 0;
        }
        let least = all.into_iter().filter(|micros| *micros > 0).min();
        least.map_or(0, |micros| time + u64::try_from(micros).unwrap())
    }

    fn blob(&self, put: &Put) -> Faults {
        let mut faults = Faults::new();
        if !(1..=1 << 20).contains(&put.size) {
            faults.insert(Code::Limits);
        }
        if put.readers != sha(&self.readers(put.path.as_str()).join("\n")) {
            faults.insert(Code::Readers);
        }
        if self.blobs.contains(&put.blob) {
            faults.insert(Code::BlobReuse);
        }
        faults
    }

    fn put(&mut self, put: &Put, time: u64) -> Faults {
        let mut faults = self.blob(put);
        let path = put.path.as_str();
        if put.ver != self.due(path) {
            faults.insert(Code::Version);
        }
        let (mount, own) = self.settings(path);
        if mount.is_none() {
            faults.insert(Code::Missing);
        }
        if !faults.is_empty() {
            return faults;
        }
        let most = [mount, own].into_iter().flatten().map(|s| s.max_versions).max().unwrap();
        let most = if most == 0 { 10 } else { most };
        let version = Version {
            ver: put.ver,
            blob: put.blob,
            commit: put.commit,
            readers: put.readers,
            deleted: self.until(path, time),
            marked: false,
            destroyed: false,
        };
        self.blobs.push(put.blob);
        self.counters.insert(path.to_owned(), put.ver);
        let secret = self.secret(path);
        secret.versions.push(version);
        secret.versions.retain(|version| version.ver + most > put.ver);
        faults
    }

    fn secret(&mut self, path: &str) -> &mut Secret {
        let settings = Settings { max_versions: 0, cas_required: false, delete_after: 0 };
        let new = Secret { settings, custom: BTreeMap::new(), versions: vec![] };
        self.secrets.entry(path.to_owned()).or_insert(new)
    }

    fn rewrap(&mut self, put: &Put) -> Faults {
        let mut faults = self.blob(put);
        let Some(secret) = self.secrets.get_mut(put.path.as_str()) else {
            faults.insert(Code::Missing);
            return faults;
        };
        let found = secret.versions.iter_mut().find(|version| version.ver == put.ver);
        let Some(version) = found.filter(|version| !version.destroyed && !version.marked) else {
            faults.insert(Code::Version);
            return faults;
        };
        if version.commit != put.commit {
            faults.insert(Code::Commit);
        }
        if faults.is_empty() {
            (version.blob, version.readers) = (put.blob, put.readers);
            self.blobs.push(put.blob);
        }
        faults
    }

    fn versions(&mut self, at: &Versions, mark: impl Fn(&mut Version)) -> Faults {
        let mut faults = Faults::new();
        let increasing = at.versions.windows(2).all(|pair| pair[0] < pair[1]);
        if at.versions.len() > 1000 || !increasing {
            faults.insert(Code::Limits);
        }
        let Some(secret) = self.secrets.get_mut(at.path.as_str()) else {
            faults.insert(Code::Missing);
            return faults;
        };
        if faults.is_empty() {
            let named = secret.versions.iter_mut().filter(|v| at.versions.contains(&v.ver));
            named.filter(|version| !version.destroyed).for_each(mark);
        }
        faults
    }

    fn meta_set(&mut self, meta: &MetaSet) -> Faults {
        let mut faults = Faults::new();
        let text = |text: &str, most| {
            !text.is_empty() && text.len() <= most && !text.chars().any(char::is_control)
        };
        let fits = |(key, value): (&String, &String)| text(key, 128) && text(value, 512);
        if meta.max_versions > 1000 || meta.custom.len() > 64 || !meta.custom.iter().all(fits) {
            faults.insert(Code::Limits);
        }
        if self.settings(meta.path.as_str()).0.is_none() {
            faults.insert(Code::Missing);
        }
        if faults.is_empty() {
            let secret = self.secret(meta.path.as_str());
            secret.settings = Settings {
                max_versions: meta.max_versions,
                cas_required: meta.cas_required,
                delete_after: meta.delete_after,
            };
            secret.custom = meta.custom.clone();
        }
        faults
    }
}
