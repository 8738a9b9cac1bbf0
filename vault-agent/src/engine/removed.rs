//! How machines went that are in the vault no more: when, by whom and why, as the verified log
//! says.

use shared::log::{Entry, Gone, Machine, Number, Op, Rekey};

use super::parts::Parts;
use machine::local::Removed;

/// Returns how each went, oldest first. A checkpoint takes none of it away.
pub(super) fn all(parts: &Parts) -> Vec<Removed> {
    let folded = parts.ledger.read();
    let machines = folded.state.machines().iter();
    let mut all: Vec<Removed> =
        machines.filter_map(|(number, machine)| of_machine(*number, machine)).collect();
    all.sort_by_key(|removed| removed.entry);
    all
}

/// Tells how a machine went, if it did.
pub(super) fn of_machine(number: Number, machine: &Machine) -> Option<Removed> {
    let Gone { entry, time, by, reason, next } = machine.gone.clone()?;
    Some(Removed { number, entry, time, by, reason: reason.to_string(), goes_on: next })
}

/// Tells how an operation takes a machine out, if it does.
pub(super) fn of(op: &Op, entry: &Entry) -> Option<Removed> {
    let (number, reason, goes_on) = match op {
        Op::MachineRemove { number, reason } => (*number, reason.to_string(), None),
        Op::MachineRekey(Rekey { number, new_number, .. }) => {
            (*number, String::new(), Some(*new_number))
        }
        _ => return None,
    };
    let (time, by) = (entry.time, entry.by.clone());
    Some(Removed { number, entry: entry.seq, time, by, reason, goes_on })
}
