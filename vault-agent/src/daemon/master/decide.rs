//! Decides what becomes of a master file: pure, from what it held when it was last in step, what it
//! holds now, and what the vault holds.

use serde::{Deserialize, Serialize};
use shared::hash::Hash;

/// What file and vault both held when they were last in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Base {
    /// The version.
    pub(super) ver: u64,
    /// Names and values, hashed.
    pub(super) digest: Hash,
}

/// What the vault holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vault {
    /// This machine cannot tell now.
    Unknown,
    /// No such secret.
    Missing,
    /// The secret is deleted; its last version.
    Deleted(u64),
    /// This version, with these names and values, hashed.
    Holds(u64, Hash),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing, until file or vault change.
    Wait,
    /// Nothing: they are in step.
    Settled(Base),
    /// Nothing: the secret is deleted, and the file has not been edited since.
    Deleted(Base),
    /// Write the file's content to the vault, in place of this version.
    Publish {
        /// 0 if there is none.
        cas: u64,
    },
    /// Write the vault's content into the file.
    WriteBack(Base),
    /// Keep a copy of the file, then write the vault's content into it.
    Conflict(Base),
    /// Leave the file, whose content the vault went on without.
    Keep(Base),
}

/// Decides where the vault went on without what file and vault both held last: that is still in the
/// file, and nothing older is written over it.
pub(super) fn aside(decided: Action) -> Action {
    match decided {
        Action::WriteBack(now) => Action::Keep(now),
        Action::Conflict(now) => Action::Publish { cas: now.ver },
        Action::Wait
        | Action::Settled(_)
        | Action::Deleted(_)
        | Action::Publish { .. }
        | Action::Keep(_) => decided,
    }
}

/// Decides. An edit is either published or kept; what the vault holds is only ever replaced by an
/// edit that was made on it.
///
/// `file` is what it holds, hashed; a file that says nothing, or cannot be understood, is never
/// decided on.
pub(super) fn decide(base: Option<Base>, file: Hash, vault: Vault) -> Action {
    let edited = base.is_none_or(|base| base.digest != file);
    match vault {
        Vault::Unknown => Action::Wait,
        Vault::Missing if edited => Action::Publish { cas: 0 },
        // Whoever deleted it meant that: only an edit brings it back.
        Vault::Deleted(ver) if edited && base.is_some() => Action::Publish { cas: ver },
        Vault::Missing => Action::Deleted(Base { ver: 0, digest: file }),
        Vault::Deleted(ver) => Action::Deleted(Base { ver, digest: file }),
        Vault::Holds(ver, held) => {
            let now = Base { ver, digest: held };
            if held == file {
                Action::Settled(now)
            } else if !edited {
                Action::WriteBack(now)
            } else if base.is_some_and(|base| base.digest == held) {
                Action::Publish { cas: ver }
            } else {
                Action::Conflict(now)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> Hash {
        Hash::of(&[text.as_bytes()])
    }

    /// Contents are letters; the base may be `-` none, the vault's `?` unknown, `-` missing, `x`
    /// deleted.
    fn check(base: &str, file: &str, vault: &str, expected: &str) {
        let at = |ver, text: &str| Base { ver, digest: hash(text) };
        let known = (base != "-").then(|| at(3, base));
        let held = match vault {
            "?" => Vault::Unknown,
            "-" => Vault::Missing,
            "x" => Vault::Deleted(5),
            text => Vault::Holds(5, hash(text)),
        };
        let shown = match decide(known, hash(file), held) {
            Action::Wait => "wait".to_owned(),
            Action::Settled(now) if now == at(5, vault) => "settled".to_owned(),
            Action::Deleted(now) if now.digest == hash(file) => format!("deleted {}", now.ver),
            Action::Publish { cas } => format!("publish on {cas}"),
            Action::WriteBack(now) if now == at(5, vault) => "write back".to_owned(),
            Action::Conflict(now) if now == at(5, vault) => "conflict".to_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(shown, expected, "base {base}, file {file}, vault {vault}");
    }

    #[test]
    fn one_side_has_changed() {
        check("a", "a", "a", "settled");
        check("a", "b", "a", "publish on 5");
        check("a", "a", "b", "write back");
        // Both the same way: a publication whose answer was lost.
        check("a", "b", "b", "settled");
    }

    #[test]
    fn both_have_changed() {
        check("a", "b", "c", "conflict");
    }

    #[test]
    fn nothing_was_in_step_before() {
        check("-", "a", "-", "publish on 0");
        check("-", "a", "a", "settled");
        check("-", "a", "b", "conflict");
        check("-", "a", "x", "deleted 5");
    }

    #[test]
    fn nothing_is_done_without_knowing_the_vault() {
        for base in ["-", "a"] {
            check(base, "a", "?", "wait");
            check(base, "b", "?", "wait");
        }
    }

    #[test]
    fn a_deleted_secret_comes_back_by_an_edit_only() {
        check("a", "a", "x", "deleted 5");
        check("a", "a", "-", "deleted 0");
        check("a", "b", "x", "publish on 5");
        check("a", "b", "-", "publish on 0");
    }

    #[test]
    fn what_the_vault_went_on_without_is_not_overwritten() {
        let (last, older, edit) = (hash("last"), hash("older"), hash("edit"));
        let (base, vault) = (Some(Base { ver: 5, digest: last }), Vault::Holds(4, older));
        let now = Base { ver: 4, digest: older };
        assert_eq!(decide(base, last, vault), Action::WriteBack(now));
        assert_eq!(aside(decide(base, last, vault)), Action::Keep(now));
        assert_eq!(aside(decide(base, edit, vault)), Action::Publish { cas: 4 });
        assert_eq!(aside(decide(base, older, vault)), Action::Settled(now));
    }
}
