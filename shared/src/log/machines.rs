//! The operations on machines: coming, other names, keys, lists and settings, going. The other ones
//! live in `ops`.

use std::collections::BTreeMap;

use crate::claim::Claim;
use crate::error::{Code, Result};
use crate::hash::Hash;
use crate::keys::Signature;
use crate::limits;
use crate::name::Name;
use crate::text::Text;

use super::entry::{Access, NewMachine, Rekey};
use super::ops::{Change, unmoved};
use super::roster::{Gone, Machine, Number};

impl Change<'_> {
    pub(super) fn machine_add(&mut self, new: &NewMachine) -> Result<()> {
        let NewMachine { name, recipient, sign, read, write, .. } = new;
        self.demand_free(name)?;
        read.check()?;
        write.check()?;
        self.admit(new.number, Claim { name, recipient, sign }, &new.proof)?;
        let machine = Machine {
            name: name.clone(),
            active: true,
            recipient: recipient.clone(),
            sign: sign.clone(),
            read: read.clone(),
            write: write.clone(),
            sleeps: false,
            added: self.time,
            former: Vec::new(),
            once: BTreeMap::new(),
            gone: None,
        };
        self.set_machine(new.number, machine);
        Ok(())
    }

    pub(super) fn machine_rename(&mut self, number: Number, to: &Name) -> Result<()> {
        let machine = self.machine(number)?;
        self.demand_free(to)?;
        self.set_machine(number, machine.renamed(to.clone(), self.time));
        Ok(())
    }

    pub(super) fn machine_rekey(&mut self, rekey: &Rekey) -> Result<()> {
        let machine = self.machine(rekey.number)?;
        let Rekey { recipient, sign, .. } = rekey;
        self.admit(rekey.new_number, Claim { name: &machine.name, recipient, sign }, &rekey.proof)?;
        let (recipient, sign, added) = (recipient.clone(), sign.clone(), self.time);
        let gone = Some(self.gone(Text::default(), Some(rekey.new_number)));
        self.set_machine(rekey.number, Machine { active: false, gone, ..machine.clone() });
        self.set_machine(rekey.new_number, Machine { recipient, sign, added, ..machine });
        Ok(())
    }

    pub(super) fn machine_sleeps(&mut self, number: Number, sleeps: bool, was: Hash) -> Result<()> {
        let machine = self.machine(number)?;
        unmoved(was, self.state.was_machine(number), || format!("machine `{}`", machine.name))?;
        self.set_machine(number, Machine { sleeps, ..machine });
        Ok(())
    }

    pub(super) fn machine_remove(
        &mut self,
        number: Number,
        reason: &Text<{ limits::REASON }>,
    ) -> Result<()> {
        let machine = self.machine(number)?;
        let gone = Some(self.gone(reason.clone(), None));
        self.set_machine(number, Machine { active: false, gone, ..machine });
        Ok(())
    }

    pub(super) fn access_set(&mut self, access: &Access) -> Result<()> {
        let Access { number, was, read, write } = access;
        let machine = self.machine(*number)?;
        let is = self.state.was_access(*number);
        unmoved(*was, is, || format!("access of machine `{}`", machine.name))?;
        read.check()?;
        write.check()?;
        self.set_machine(*number, machine.granted(read.clone(), write.clone(), self.state.seq + 1));
        Ok(())
    }

    /// Tells how a machine goes by the entry that is being applied.
    fn gone(&self, reason: Text<{ limits::REASON }>, next: Option<Number>) -> Gone {
        let (entry, time, by) = (self.state.seq + 1, self.time, self.by.clone());
        Gone { entry, time, by, reason, next }
    }

    fn demand_free(&self, name: &Name) -> Result<()> {
        match self.state.machine(name) {
            Some(_) => Err(Code::Exists.because(format!("machine `{name}`"))),
            None => Ok(()),
        }
    }

    /// Checks number, proof and keys of a machine that comes, and marks the keys as used.
    fn admit(&mut self, number: Number, claim: Claim<'_>, proof: &Signature) -> Result<()> {
        let due = self.state.due_machine();
        if number != due {
            let why = format!("machine `{}` as number {number}; {due} is due", claim.name);
            return Err(Code::Moved.because(why));
        }
        claim.verify(proof)?;
        self.use_key(claim.recipient.as_bytes(), "machine recipient")?;
        self.use_key(claim.sign.as_bytes(), "machine signing key")
    }

    fn machine(&self, number: Number) -> Result<Machine> {
        let machine = self.state.machine_numbered(number).cloned();
        machine.ok_or_else(|| Code::Missing.because(format!("machine number {number}")))
    }

    fn set_machine(&mut self, number: Number, machine: Machine) {
        let old = self.state.machines.set(number, Some(machine));
        self.undo.push(move |state| _ = state.machines.set(number, old));
    }
}
