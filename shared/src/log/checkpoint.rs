//! The operation that vouches for a state, and what need not be remembered from then on: blobs that
//! no version has any more, counters of paths forgotten long ago. How a state is written is
//! `canonical`'s.

use crate::error::{Code, Result};
use crate::limits;

use super::entry::Checkpoint;
use super::ops::Change;
use super::state::{State, floor};

impl Change<'_> {
    pub(super) fn checkpoint(&mut self, index: usize, named: &Checkpoint) -> Result<()> {
        if index > 0 {
            let why = "`checkpoint` is not the first operation of its entry";
            return Err(Code::Limits.because(why));
        }
        let seq = self.state.seq;
        if named.seq != seq {
            let why = format!("a checkpoint of entry {} after {seq}", named.seq);
            return Err(Code::Seq.because(why));
        }
        if self.state.summed() != *named {
            return Err(Code::Checkpoint.because(format!("the state after entry {seq}")));
        }
        self.replace(|state| &mut state.used_blobs, self.state.kept_blobs().collect());
        if self.state.forgotten.len() > limits::FORGOTTEN {
            let mut floors = self.state.floors.clone();
            for (path, last) in &self.state.forgotten {
                let highest = floors.entry(floor(path)).or_default();
                *highest = (*highest).max(*last);
            }
            self.replace(|state| &mut state.floors, floors);
            self.replace(|state| &mut state.forgotten, Default::default());
        }
        self.replace(|state| &mut state.checkpoint, Some(*named));
        Ok(())
    }
}

impl State {
    /// Returns the blobs of all versions that are kept.
    pub(super) fn kept_blobs(&self) -> impl Iterator<Item = crate::hash::Hash> {
        let versions = self.secrets.values().flat_map(|secret| &secret.versions);
        versions.map(|version| version.blob)
    }
}
