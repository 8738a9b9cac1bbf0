//! The lives of machines, as owners have signed them: their numbers, their names, and their end.

use std::collections::BTreeMap;

use shared::log::{Entry, Machine, Number, Op, Rekey, State};
use shared::name::Name;
use shared::time::Time;

use crate::engine::removed;
use machine::local::{Borne, Removed};

/// Every machine that ever was, in the order in which they came.
#[derive(Default)]
pub(super) struct Lives(Vec<Life>);

/// One machine under all numbers and names that it has borne.
#[derive(Clone)]
pub(super) struct Life {
    /// Its numbers, the last one last.
    pub(super) numbers: Vec<Number>,
    /// Its names, the last one last.
    pub(super) names: Vec<Borne>,
    pub(super) removed: Option<Removed>,
}

impl Life {
    fn bore(&self, name: &Name) -> bool {
        self.names.iter().any(|borne| borne.name == *name)
    }

    fn is_called(&self, name: &Name) -> bool {
        self.names.last().is_some_and(|last| last.name == *name)
    }

    /// Tells whether it is one of the vault's now.
    const fn is_there(&self) -> bool {
        self.removed.is_none()
    }

    /// Tells whether it bore the name at some time.
    pub(super) fn bore_at(&self, name: &Name, time: Time) -> bool {
        let mut borne = self.names.iter().filter(|borne| borne.name == *name);
        borne.any(|it| it.since <= time && it.until.is_none_or(|until| time <= until))
    }

    /// Returns the number that it bears, or bore last.
    pub(super) fn number(&self) -> Number {
        self.numbers.last().copied().unwrap_or_default()
    }
}

impl Lives {
    /// Returns those that a state tells of.
    pub(super) fn of(state: &State) -> Self {
        let mut lives = Self::default();
        // Where one goes on that got other keys.
        let mut going_on = BTreeMap::new();
        for (number, machine) in state.machines() {
            let at = going_on.remove(number).unwrap_or(lives.0.len());
            if at == lives.0.len() {
                lives.0.push(Life { numbers: Vec::new(), names: Vec::new(), removed: None });
            }
            let life = &mut lives.0[at];
            life.numbers.push(*number);
            let since = life.names.first().map_or(machine.added, |first| first.since);
            life.names = names(machine, since);
            match machine.gone.as_ref().and_then(|gone| gone.next) {
                Some(next) => _ = going_on.insert(next, at),
                None => life.removed = removed::of_machine(*number, machine),
            }
        }
        lives
    }

    /// Takes up what an entry does to machines.
    pub(super) fn step(&mut self, entry: &Entry) {
        let time = entry.time;
        let begin = |name: &Name| Borne { name: name.clone(), since: time, until: None };
        for op in &entry.ops {
            match op {
                Op::MachineAdd(new) => self.0.push(Life {
                    numbers: vec![new.number],
                    names: vec![begin(&new.name)],
                    removed: None,
                }),
                Op::MachineRename { number, to } => self.change(*number, |life| {
                    end(life, entry);
                    life.names.push(begin(to));
                }),
                Op::MachineRekey(Rekey { number, new_number, .. }) => {
                    self.change(*number, |life| life.numbers.push(*new_number));
                }
                Op::MachineRemove { number, .. } => self.change(*number, |life| {
                    end(life, entry);
                    life.removed = removed::of(op, entry);
                }),
                _ => {}
            }
        }
    }

    /// Returns all of them.
    pub(super) fn all(&self) -> &[Life] {
        &self.0
    }

    /// Finds the machine that bears a number or a name; of a name that none bears, the one that was
    /// called so last, else the last one that was ever called so.
    pub(super) fn find(&self, asked: &str) -> Option<&Life> {
        if let Ok(number) = asked.parse() {
            return self.0.iter().find(|life| life.numbers.contains(&number));
        }
        let name = asked.parse().ok()?;
        let last = |is: &dyn Fn(&Life) -> bool| self.0.iter().rev().find(|life| is(life));
        last(&|life| life.is_there() && life.is_called(&name))
            .or_else(|| last(&|life| life.is_called(&name)))
            .or_else(|| last(&|life| life.bore(&name)))
    }

    /// Returns the numbers of the other machines that bore the name, if a name was asked for.
    pub(super) fn namesakes(&self, asked: &str, found: &Life) -> Vec<Number> {
        let Ok(name) = asked.parse() else { return Vec::new() };
        let others = self.0.iter().filter(|life| life.number() != found.number());
        others.filter(|life| life.bore(&name)).map(Life::number).collect()
    }

    fn change(&mut self, number: Number, change: impl FnOnce(&mut Life)) {
        if let Some(life) = self.0.iter_mut().find(|life| life.number() == number) {
            change(life);
        }
    }
}

/// Returns the names of a machine that was added at `since`.
fn names(machine: &Machine, mut since: Time) -> Vec<Borne> {
    let former = machine.former.iter().map(|(name, until)| {
        let begun = std::mem::replace(&mut since, *until);
        Borne { name: name.clone(), since: begun, until: Some(*until) }
    });
    let mut names: Vec<Borne> = former.collect();
    let until = machine.gone.as_ref().map(|gone| gone.time);
    names.push(Borne { name: machine.name.clone(), since, until });
    names
}

/// Ends its last name.
fn end(life: &mut Life, entry: &Entry) {
    if let Some(last) = life.names.last_mut() {
        last.until = Some(entry.time);
    }
}
