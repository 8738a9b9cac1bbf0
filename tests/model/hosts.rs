//! The model's rules of machines that come and get other keys or lists.

use shared::error::Code;
use shared::hash::Hash;
use shared::keys::Signature;
use shared::log::{Access, NewMachine, Rekey};

use crate::model::{Faults, Key, Machine, Model, quoted, sha, texts};

impl Model {
    /// The rules of a machine that comes as `name` or gets new keys.
    fn comes(&self, name: &str, number: u64, keys: &[Key; 2], proof: &Signature) -> Faults {
        let mut faults = self.fresh(keys);
        if number != self.machines.len() as u64 + 1 {
            faults.insert(Code::Moved);
        }
        if !self.proofs.contains(&(*proof.as_bytes(), name.to_owned(), keys[0])) {
            faults.insert(Code::BadSig);
        }
        faults
    }

    pub fn machine_add(&mut self, new: &NewMachine) -> Faults {
        let keys = [*new.recipient.as_bytes(), *new.sign.as_bytes()];
        let mut faults = self.comes(new.name.as_str(), new.number, &keys, &new.proof);
        if self.named(new.name.as_str()).is_some() {
            faults.insert(Code::Exists);
        }
        if new.read.as_slice().len() > 64 || new.write.as_slice().len() > 64 {
            faults.insert(Code::Limits);
        }
        if faults.is_empty() {
            let [recipient, sign] = keys;
            self.keys.extend(keys);
            self.machines.push(Machine {
                name: new.name.to_string(),
                active: true,
                recipient,
                sign,
                read: texts(new.read.as_slice()),
                write: texts(new.write.as_slice()),
                sleeps: false,
            });
        }
        faults
    }

    pub fn machine_rekey(&mut self, rekey: &Rekey) -> Faults {
        let keys = [*rekey.recipient.as_bytes(), *rekey.sign.as_bytes()];
        let Some(machine) = self.active(rekey.number).cloned() else {
            return Faults::from([Code::Missing]);
        };
        let faults = self.comes(&machine.name, rekey.new_number, &keys, &rekey.proof);
        if faults.is_empty() {
            let [recipient, sign] = keys;
            self.keys.extend(keys);
            self.machines[usize::try_from(rekey.number).unwrap() - 1].active = false;
            self.machines.push(Machine { recipient, sign, ..machine });
        }
        faults
    }

    pub fn access_set(&mut self, access: &Access) -> Faults {
        let mut faults = Faults::new();
        let was = self.active(access.number).map_or(Hash::ZERO, |now| {
            let (read, write) = (quoted(&now.read), quoted(&now.write));
            sha(&format!("{{\"number\":{},\"read\":{read},\"write\":{write}}}", access.number))
        });
        if access.was != was {
            faults.insert(Code::Moved);
        }
        if access.read.as_slice().len() > 64 || access.write.as_slice().len() > 64 {
            faults.insert(Code::Limits);
        }
        self.change(access.number, faults, |machine| {
            machine.read = texts(access.read.as_slice());
            machine.write = texts(access.write.as_slice());
        })
    }

    pub fn machine_rename(&mut self, number: u64, to: &str) -> Faults {
        let mut faults = Faults::new();
        if self.named(to).is_some() {
            faults.insert(Code::Exists);
        }
        self.change(number, faults, |machine| machine.name = to.to_owned())
    }

    pub fn machine_set(&mut self, number: u64, sleeps: bool, was: Hash) -> Faults {
        let mut faults = Faults::new();
        let now = self.active(number).is_some_and(|machine| machine.sleeps);
        if was != sha(&format!("{{\"number\":{number},\"sleeps\":{now}}}")) {
            faults.insert(Code::Moved);
        }
        self.change(number, faults, |machine| machine.sleeps = sleeps)
    }
}
