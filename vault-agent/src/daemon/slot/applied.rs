//! What is to be told of the versions that a file has got: once for each of its secrets that has
//! another version, when the hook has ended, or at once where none runs. Pure.

use shared::audit::{Applied, Fact, HookRun, Op};
use shared::text::Text;
use shared::time::Time;

use super::Slot;
use crate::daemon::hooks::Span;
use crate::daemon::plan::Versions;
use crate::daemon::record::{HookEnd, Untold};

impl Slot {
    /// Takes up that the file has other versions than `before`; `found` if it had them already.
    pub(super) fn has_got(&mut self, before: Option<&Versions>, found: bool, at: Time) {
        let now = self.written.iter().flatten();
        let before = |n: usize| before.and_then(|before| before.get(n).copied().flatten());
        let secrets = self.target.secrets.iter().zip(now).enumerate();
        let other = secrets.filter(|(n, (_, ver))| before(*n) != **ver);
        let secrets: Vec<_> = other.map(|(_, (path, ver))| (path.clone(), *ver)).collect();
        if !secrets.is_empty() {
            // Its hook has not ended for the ones before, and now runs for these.
            self.tell_without_hook();
            self.untold = Some(Untold { at, found, secrets, failed: false });
        }
        if self.hook != HookEnd::Pending {
            self.tell_without_hook();
        }
    }

    /// Takes up the end of a run of the hook, and whether it will run again: its first failure is
    /// told, and that it has ended well.
    pub(in crate::daemon) fn tell_hook(
        &mut self,
        result: &Result<(), String>,
        again: bool,
        Span { began, ended }: Span,
    ) {
        let is_before = |untold: &Untold| again && (result.is_ok() || began < untold.at);
        let Some(untold) = self.untold.take_if(|untold| !is_before(untold)) else { return };
        if result.is_ok() || !untold.failed {
            let failed = result.as_ref().err().map(|why| Text::lossy(why));
            self.tell(&untold, Some(HookRun { began, ended, failed }));
        }
        self.untold = result.is_err().then_some(Untold { failed: true, ..untold });
    }

    /// Returns what is to be told now.
    pub(in crate::daemon) fn told(&mut self) -> Vec<Fact> {
        std::mem::take(&mut self.facts)
    }

    fn tell_without_hook(&mut self) {
        if let Some(untold) = self.untold.take().filter(|untold| !untold.failed) {
            self.tell(&untold, None);
        }
    }

    fn tell(&mut self, Untold { at, found, secrets, .. }: &Untold, hook: Option<HookRun>) {
        let applied = Applied { file: Text::lossy(&self.name), found: *found, hook };
        let facts = secrets.iter().map(|(path, ver)| Fact {
            at: Some(*at),
            path: Some(path.clone()),
            ver: *ver,
            applied: Some(applied.clone()),
            ..Fact::new(Op::LocalApplied)
        });
        self.facts.extend(facts);
    }
}
