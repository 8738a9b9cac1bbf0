//! Taking an entry back in time proportional to the entry: each change of the state notes its own
//! inverse. No rule lives here.

use std::fmt;

use super::state::State;

type Back = Box<dyn FnOnce(&mut State) + Send>;

/// The inverse of everything one entry changed, in the order of the changes.
#[derive(Default)]
pub struct Undo(Vec<Back>);

impl Undo {
    pub(super) fn push(&mut self, back: impl FnOnce(&mut State) + Send + 'static) {
        self.0.push(Box::new(back));
    }
}

impl fmt::Debug for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Undo({} changes)", self.0.len())
    }
}

impl State {
    /// Takes the last applied entry back, given its own undo.
    pub fn revert(&mut self, undo: Undo) {
        undo.0.into_iter().rev().for_each(|back| back(self));
    }
}
