//! The model's rules of what belongs to the vault as a whole: its owners, its server, its epochs.

use shared::error::Code;
use shared::hash::Hash;
use shared::log::{Address, Checkpoint, Resume};
use shared::name::Name;

use crate::model::{Faults, Key, Model, hex, quoted, sha, texts};

impl Model {
    pub fn admin_add(&mut self, name: &Name, key: Key) -> Faults {
        let mut faults = self.fresh(&[key]);
        if self.admins.contains_key(name.as_str()) {
            faults.insert(Code::Exists);
        }
        if faults.is_empty() {
            self.keys.push(key);
            self.admins.insert(name.to_string(), key);
        }
        faults
    }

    pub fn root_set(&mut self, key: Key) -> Faults {
        let faults = self.fresh(&[key]);
        if faults.is_empty() {
            self.keys.push(key);
            self.root = key;
        }
        faults
    }

    pub fn recovery_set(&mut self, recipient: Key) -> Faults {
        let faults = self.fresh(&[recipient]);
        if faults.is_empty() {
            self.keys.push(recipient);
            self.recovery = (self.recovery.0 + 1, recipient);
        }
        faults
    }

    pub fn addresses_set(&mut self, addresses: &[Address], was: Hash) -> Faults {
        let mut faults = Faults::new();
        if was != sha(&format!("{{\"addresses\":{}}}", quoted(&self.addresses))) {
            faults.insert(Code::Moved);
        }
        if !(1..=8).contains(&addresses.len()) {
            faults.insert(Code::Limits);
        }
        if faults.is_empty() {
            self.addresses = texts(addresses);
        }
        faults
    }

    pub fn resume(&self, index: usize, resume: &Resume) -> Faults {
        let mut faults = Faults::new();
        if index > 0 {
            faults.insert(Code::Limits);
        }
        if resume.seq != self.seq {
            faults.insert(Code::Seq);
        }
        if resume.head != self.head {
            faults.insert(Code::Prev);
        }
        faults
    }

    /// Blobs that no version has any more may come again.
    pub fn checkpoint(&mut self, index: usize, named: Checkpoint) -> Faults {
        let mut faults = Faults::new();
        if index > 0 {
            faults.insert(Code::Limits);
        }
        if named.seq != self.seq {
            faults.insert(Code::Seq);
        }
        if self.summed != Some(named) {
            faults.insert(Code::Checkpoint);
        }
        if faults.is_empty() {
            let kept = self.secrets.values().flat_map(|secret| &secret.versions);
            self.blobs = kept.map(|version| version.blob).collect();
        }
        faults
    }

    pub fn server_set(&mut self, keys: Vec<Key>, was: Hash) -> Faults {
        let added: Vec<Key> =
            keys.iter().filter(|key| !self.server.contains(*key)).copied().collect();
        let mut faults = self.fresh(&added);
        let listed: Vec<String> = self.server.iter().map(hex).collect();
        if was != sha(&format!("{{\"keys\":{}}}", quoted(&listed))) {
            faults.insert(Code::Moved);
        }
        if !(1..=2).contains(&keys.len()) {
            faults.insert(Code::Limits);
        }
        if keys.len() == 2 && keys[0] == keys[1] {
            faults.insert(Code::Key);
        }
        if faults.is_empty() {
            self.keys.extend(added);
            self.server = keys;
        }
        faults
    }
}
