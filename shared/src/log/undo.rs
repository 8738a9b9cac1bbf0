//! Taking an entry back in time proportional to the entry: each change of the state notes what
//! it replaced. No rule lives here.

use crate::hash::Hash;
use crate::keys::{Recipient, VerifyKey};
use crate::name::Name;
use crate::path::{Mount, SecretPath};
use crate::time::Time;

use super::entry::MetaSet;
use super::state::{Machine, MountConfig, Secret, State, Version};

/// What one change replaced.
#[derive(Debug)]
pub(super) enum Step {
    Head {
        seq: u64,
        head: Hash,
    },
    Admin(Name, Option<VerifyKey>),
    Root(VerifyKey),
    Recovery(Recipient),
    Server(Vec<VerifyKey>),
    Mount(Mount, Option<MountConfig>),
    Machine(Name, Option<Box<Machine>>),
    UsedKey([u8; 32]),
    UsedBlob(Hash),
    /// A secret that was made.
    Made(SecretPath),
    /// A forgotten path's counter that was taken up again.
    Recalled(SecretPath, u64),
    /// A secret that was dropped.
    Forgot(SecretPath, Box<Secret>),
    /// A version that was appended, and when the secret was updated before.
    Pushed(SecretPath, Time),
    /// The oldest version, which was dropped.
    Pruned(SecretPath, Box<Version>),
    /// A version that was changed in place.
    Changed(SecretPath, u64, Box<Version>),
    /// Settings that were replaced, and when the secret was updated before.
    Meta(Box<MetaSet>, Time),
}

/// Everything one entry replaced, in order.
#[derive(Debug, Default)]
pub struct Undo(pub(super) Vec<Step>);

impl State {
    /// Takes the last applied entry back, given its own undo.
    pub fn revert(&mut self, undo: Undo) {
        for step in undo.0.into_iter().rev() {
            self.revert_step(step);
        }
    }

    fn revert_step(&mut self, step: Step) {
        match step {
            Step::Head { seq, head } => {
                self.seq = seq;
                self.head = head;
            }
            Step::Admin(name, old) => put_back(&mut self.admins, name, old),
            Step::Root(key) => self.root = key,
            Step::Recovery(recipient) => {
                self.recovery = recipient;
                self.recovery_number -= 1;
            }
            Step::Server(keys) => self.server = keys,
            Step::Mount(mount, old) => put_back(&mut self.mounts, mount, old),
            Step::Machine(name, old) => put_back(&mut self.machines, name, old.map(|boxed| *boxed)),
            Step::UsedKey(key) => {
                self.used_keys.remove(&key);
            }
            Step::UsedBlob(blob) => {
                self.used_blobs.remove(&blob);
            }
            Step::Made(path) => {
                self.secrets.remove(&path);
            }
            Step::Recalled(path, last) => {
                self.forgotten.insert(path, last);
            }
            Step::Forgot(path, secret) => {
                self.forgotten.remove(&path);
                self.secrets.insert(path, *secret);
            }
            Step::Pushed(path, updated) => self.with_secret(&path, |secret| {
                secret.versions.pop_back();
                secret.last -= 1;
                secret.updated = updated;
            }),
            Step::Pruned(path, version) => {
                self.with_secret(&path, |secret| secret.versions.push_front(*version));
            }
            Step::Changed(path, ver, old) => self.with_secret(&path, |secret| {
                if let Some(version) = secret.version_mut(ver) {
                    *version = *old;
                }
            }),
            Step::Meta(old, updated) => self.with_secret(&old.path.clone(), |secret| {
                secret.max_versions = old.max_versions;
                secret.cas_required = old.cas_required;
                secret.delete_after = old.delete_after;
                secret.custom = old.custom;
                secret.updated = updated;
            }),
        }
    }

    fn with_secret(&mut self, path: &SecretPath, change: impl FnOnce(&mut Secret)) {
        if let Some(secret) = self.secrets.get_mut(path) {
            change(secret);
        }
    }
}

fn put_back<K: Ord, V>(map: &mut std::collections::BTreeMap<K, V>, key: K, old: Option<V>) {
    match old {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}
