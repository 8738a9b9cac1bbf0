//! What an owner's act has left encrypted to the readers of before: newest versions that await
//! their re-encryption, with nobody at it.

use std::sync::{Mutex, PoisonError};

use shared::hash::Hash;
use shared::log::State;
use shared::name::Name;
use shared::path::SecretPath;
use shared::time::Time;

use super::rights::may_read;
use super::types::Own;
use machine::local::Left;

/// The stale versions at a head of the log: they are looked for once for each.
#[derive(Debug, Default)]
pub(super) struct Leavings(Mutex<Option<(Hash, Vec<Stale>)>>);

/// A path and its newest version.
type Stale = (SecretPath, u64);

impl Leavings {
    /// Counts those that are live at `now`; `None` if there are none.
    pub(super) fn count(&self, state: &State, own: &Own, now: Time) -> Option<Left> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|(head, _)| *head != state.head()) {
            let stale = state.stale().map(|(path, ver)| (path.clone(), ver)).collect();
            *known = Some((state.head(), stale));
        }
        let is_live = |(path, ver): &&Stale| {
            let version = state.secret(path).and_then(|secret| secret.version(*ver));
            version.is_some_and(|version| version.is_live(now))
        };
        let live = known.iter().flat_map(|(_, stale)| stale).filter(is_live);
        let (mut versions, mut unreadable) = (0, 0);
        for (path, _) in live {
            versions += 1;
            unreadable += u64::from(!may_read(state, own, path));
        }
        (versions > 0).then(|| Left { versions, unreadable, out: out(state) })
    }
}

/// Returns the name of the machine that is out with the highest number, unless another bears it.
fn out(state: &State) -> Option<Name> {
    let gone = state.machines().values().rev().filter(|machine| !machine.active);
    let mut free = gone.map(|it| &it.name).filter(|name| state.machine(name).is_none());
    free.next().cloned()
}
