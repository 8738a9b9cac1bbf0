//! Decides what is to be done with a target: pure, from configuration, what its file holds, and the
//! newest versions.

use shared::path::SecretPath;
use shared::report::TargetState;

use super::contact::Reach;
use crate::engine::Latest;
use machine::config::{OnDelete, OnStale, Target};

/// The version of each secret of a target, in the target's order; `None` for one that is deleted
/// and left out.
pub(super) type Versions = Vec<Option<u64>>;

/// What is to be done with a target.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Its file must hold these versions.
    Write(Versions),
    /// All its secrets are deleted, and its file shall go with them.
    Remove(Versions),
    /// Its file stays as it is: how it stands, and why.
    Hold(TargetState, String),
    /// Its file holds the newest versions.
    Settled,
}

/// Why a file is too old.
pub(super) const SILENT: &str = "the server has not been heard for longer than `max_stale`";

/// What is known of a target.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) target: &'a Target,
    /// How each of its secrets stands in the vault.
    pub(super) latest: &'a [Latest],
    /// The versions its file is known to hold.
    pub(super) held: Option<&'a Versions>,
    /// Versions that its hook has failed for, and those it holds instead.
    pub(super) instead: Option<(&'a Versions, &'a Versions)>,
    /// Whether the server has been away for too long.
    pub(super) reach: Reach,
    /// Which of its secrets the vault has taken back: its file may hold a version that was set
    /// aside, and there is nothing newer yet.
    pub(super) aside: &'a [bool],
    /// The versions its file held when last written or compared, before the start too.
    pub(super) written: Option<&'a Versions>,
    /// Whether a fork has stopped updates.
    pub(super) halted: bool,
}

/// Why nothing is written before the first sync.
const NEVER_SYNCED: &str = "this machine has not yet heard from the server";

/// Why nothing is updated after a fork.
const HALTED: &str = "updates are stopped: E_FORK";

impl Known<'_> {
    /// Returns a secret whose version in the file was set aside, unless another has a newer one.
    fn kept(&self) -> Option<&SecretPath> {
        let written = self.written?;
        let secrets = self.target.secrets.iter().zip(self.aside);
        let (kept, _) = secrets.clone().find(|(_, aside)| **aside)?;
        let others = secrets.zip(self.latest.iter().zip(written));
        let newer = |((_, aside), (latest, held)): ((_, &bool), (&Latest, &Option<u64>))| {
            let newest = match latest {
                Latest::Version { ver, .. } => Some(*ver),
                Latest::Unknown
                | Latest::Missing
                | Latest::Deleted { .. }
                | Latest::NotReadable => None,
            };
            !*aside && newest.is_some() && newest != *held
        };
        let is_newer = others.into_iter().any(newer);
        (!is_newer).then_some(kept)
    }
}

/// Decides.
pub(super) fn decide(known: Known<'_>) -> Action {
    if known.halted {
        return Action::Hold(TargetState::Waiting, HALTED.to_owned());
    }
    if let Some(kept) = known.kept() {
        let why = format!("the vault went on without its version of `{kept}`, which it keeps");
        return Action::Hold(TargetState::Kept, why);
    }
    let Known { target, latest, held, instead, reach, .. } = known;
    if target.on_stale == Some(OnStale::Remove) && reach != Reach::Fresh {
        let gone = vec![None; target.secrets.len()];
        return if reach == Reach::Doubt || held == Some(&gone) {
            Action::Hold(TargetState::TooOld, SILENT.to_owned())
        } else {
            Action::Remove(gone)
        };
    }
    let removes = target.on_delete == OnDelete::Remove;
    let mut versions = Versions::with_capacity(target.secrets.len());
    for (secret, latest) in target.secrets.iter().zip(latest) {
        let (state, why) = match *latest {
            Latest::Version { ver, ready: true } => {
                versions.push(Some(ver));
                continue;
            }
            // One that is unknown since the file was made has been forgotten: deleted with all
            // traces.
            Latest::Deleted { .. } | Latest::Missing
                if removes && (held.is_some() || *latest != Latest::Missing) =>
            {
                versions.push(None);
                continue;
            }
            Latest::Version { .. } => (TargetState::Waiting, format!("`{secret}` has not arrived")),
            Latest::Deleted { .. } => (TargetState::Kept, format!("`{secret}` is deleted")),
            Latest::Missing => (TargetState::Missing, format!("no secret `{secret}`")),
            Latest::NotReadable => (TargetState::Denied, format!("`{secret}`")),
            Latest::Unknown => (TargetState::Waiting, NEVER_SYNCED.to_owned()),
        };
        return Action::Hold(state, why);
    }
    if let Some((_, good)) = instead.filter(|(bad, _)| **bad == versions) {
        versions.clone_from(good);
    }
    if held == Some(&versions) {
        Action::Settled
    } else if versions.iter().all(Option::is_none) {
        Action::Remove(versions)
    } else {
        Action::Write(versions)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use machine::config::Config;

    fn target(more: &str) -> Arc<Target> {
        let text =
            format!("[[target]]\npath = \"/a\"\nsecrets = [\"secret/a\", \"secret/b\"]\n{more}\n");
        Arc::clone(&Config::parse(&text, Path::new("t")).unwrap().targets[0])
    }

    /// What is known of a target that was never looked at.
    fn known<'a>(target: &'a Target, latest: &'a [Latest]) -> Known<'a> {
        Known {
            target,
            latest,
            held: None,
            instead: None,
            reach: Reach::Fresh,
            aside: &[],
            written: None,
            halted: false,
        }
    }

    fn check(more: &str, held: Option<&Versions>, latest: [Latest; 2], expected: &str) {
        let target = target(more);
        let known = Known { held, ..known(&target, &latest) };
        let shown = match decide(known) {
            Action::Write(versions) => format!("write {versions:?}"),
            Action::Remove(versions) => format!("remove {versions:?}"),
            Action::Hold(state, why) => format!("hold {state}: {why}"),
            Action::Settled => "settled".to_owned(),
        };
        assert_eq!(shown, expected);
    }

    const fn version(ver: u64) -> Latest {
        Latest::Version { ver, ready: true }
    }

    #[test]
    fn newest_versions_are_written_once() {
        check("", None, [version(1), version(2)], "write [Some(1), Some(2)]");
        check(
            "",
            Some(&vec![Some(1), Some(1)]),
            [version(1), version(2)],
            "write [Some(1), Some(2)]",
        );
        check("", Some(&vec![Some(1), Some(2)]), [version(1), version(2)], "settled");
    }

    #[test]
    fn a_file_is_held_rather_than_written_in_part() {
        let held = vec![Some(1), Some(1)];
        let held = || Some(&held);
        let coming = Latest::Version { ver: 2, ready: false };
        check("", held(), [version(2), coming], "hold waiting: `secret/b` has not arrived");
        check("", held(), [Latest::NotReadable, version(2)], "hold denied: `secret/a`");
        let never = "hold waiting: this machine has not yet heard from the server";
        check("", None, [Latest::Unknown, Latest::Unknown], never);
        check("", None, [version(1), Latest::Missing], "hold missing: no secret `secret/b`");
    }

    #[test]
    fn deletion_keeps_the_file_unless_told_otherwise() {
        let gone = Latest::Deleted { ver: 1 };
        let held = vec![Some(1), Some(1)];
        let held = || Some(&held);
        let remove = "on_delete = \"remove\"";
        check("", held(), [gone, version(2)], "hold kept: `secret/a` is deleted");
        check("", held(), [Latest::Missing, version(2)], "hold missing: no secret `secret/a`");
        check(remove, held(), [gone, version(2)], "write [None, Some(2)]");
        check(remove, held(), [gone, gone], "remove [None, None]");
        check(remove, held(), [gone, Latest::Missing], "remove [None, None]");
        check(remove, Some(&vec![None, None]), [gone, Latest::Missing], "settled");
        check(remove, None, [version(1), Latest::Missing], "hold missing: no secret `secret/b`");
    }

    #[test]
    fn bad_versions_are_left_for_good_ones_until_there_are_newer_ones() {
        let (good, bad) = (vec![Some(1), Some(1)], vec![Some(2), Some(1)]);
        let target = target("");
        let decided = |held: &Versions, second: u64| {
            let (latest, instead) = ([version(2), version(second)], Some((&bad, &good)));
            decide(Known { held: Some(held), instead, ..known(&target, &latest) })
        };
        assert_eq!(decided(&bad, 1), Action::Write(good.clone()));
        assert_eq!(decided(&good, 1), Action::Settled);
        let newer = vec![Some(2), Some(2)];
        assert_eq!(decided(&good, 2), Action::Write(newer));
    }

    #[test]
    fn what_the_vault_went_on_without_stays_in_the_file_until_there_is_something_newer() {
        let target = target("");
        let decided = |aside: [bool; 2], written: Option<&Versions>, latest: [Latest; 2]| {
            decide(Known { aside: &aside, written, ..known(&target, &latest) })
        };
        let kept = |secret: &str| {
            let why =
                format!("the vault went on without its version of `{secret}`, which it keeps");
            Action::Hold(TargetState::Kept, why)
        };
        let aside = vec![Some(0), Some(7)];
        let held = Some(&aside);
        assert_eq!(decided([true, false], held, [version(4), version(7)]), kept("secret/a"));
        assert_eq!(decided([true, false], held, [Latest::Missing, version(7)]), kept("secret/a"));
        let write = |a, b| Action::Write(vec![Some(a), Some(b)]);
        // Something newer: of another secret, or of its own.
        assert_eq!(decided([true, false], held, [version(4), version(8)]), write(4, 8));
        assert_eq!(decided([false, false], held, [version(5), version(7)]), write(5, 7));
        // A file that was never written keeps nothing.
        assert_eq!(decided([true, false], None, [version(4), version(7)]), write(4, 7));
    }

    #[test]
    fn nothing_is_updated_after_a_fork() {
        let (target, latest) = (target(""), [version(1), version(2)]);
        let halted = Known { halted: true, ..known(&target, &latest) };
        assert_eq!(decide(halted), Action::Hold(TargetState::Waiting, HALTED.to_owned()));
    }

    #[test]
    fn what_is_too_old_is_removed_where_it_is_to_be_and_comes_back() {
        let (held, gone) = (vec![Some(1), Some(1)], vec![None, None]);
        let decided = |more: &str, held: &Versions, reach: Reach| {
            let target = target(&format!("max_stale = \"24h\"\n{more}"));
            let (latest, held) = ([version(1); 2], Some(held));
            decide(Known { held, reach, ..known(&target, &latest) })
        };
        let remove = "on_stale = \"remove\"";
        let silent = Action::Hold(TargetState::TooOld, SILENT.to_owned());
        assert_eq!(decided(remove, &held, Reach::Fresh), Action::Settled);
        assert_eq!(decided(remove, &held, Reach::Doubt), silent);
        assert_eq!(decided(remove, &held, Reach::Lost), Action::Remove(gone.clone()));
        assert_eq!(decided(remove, &gone, Reach::Lost), silent);
        assert_eq!(decided(remove, &gone, Reach::Doubt), silent);
        assert_eq!(decided(remove, &gone, Reach::Fresh), Action::Write(held.clone()));
        for keeps in ["", "on_stale = \"alarm\"", "on_stale = \"keep\""] {
            assert_eq!(decided(keeps, &held, Reach::Lost), Action::Settled, "{keeps}");
        }
    }
}
