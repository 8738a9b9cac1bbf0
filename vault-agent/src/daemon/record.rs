//! What the agent remembers of its targets over a restart: versions and hook results, never a
//! value.
//!
//! The truth is in the files: at start each is rendered and compared. The record only tells whether
//! the hook has run for what a file holds, so losing it costs one more run of each hook.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::hash::Hash;
use shared::path::SecretPath;
use shared::time::Time;

use super::contact::LastContact;
use super::plan::Versions;
use host::files::{self, Access};

/// The file's name in the state folder.
const NAME: &str = "targets.json";

/// The version of its format.
const VERSION: u32 = 1;

/// One target as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    /// The file.
    pub(super) path: PathBuf,
    /// Its secrets, and the version of each in the file.
    pub(super) secrets: Vec<(SecretPath, Option<u64>)>,
    /// Since when.
    pub(super) since: Time,
    /// What its hook ended with for them.
    pub(super) hook: HookEnd,
    /// The versions for which it last ended well, if that does not follow from the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) good: Option<Versions>,
    /// The versions that the target has gone back from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bad: Option<Bad>,
    /// What is to be told of its versions once the hook has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) untold: Option<Untold>,
}

impl Remembered {
    /// Returns the version of each secret in the file.
    pub(super) fn versions(&self) -> Versions {
        self.secrets.iter().map(|(_, ver)| *ver).collect()
    }
}

/// What a hook has ended with; a word in the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum HookEnd {
    /// There is no hook, or it has not run.
    #[serde(rename = "-")]
    None,
    /// It has not ended.
    #[serde(rename = "pending")]
    Pending,
    /// It has ended well.
    #[serde(rename = "ok")]
    Ok,
    /// It has failed, with this.
    #[serde(untagged)]
    Failed(String),
}

/// Versions for which a hook has failed for good; they are not written again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bad {
    /// The versions, in the target's order.
    pub(super) versions: Versions,
    /// What the hook ended with.
    pub(super) why: String,
    /// Which settings the target had: with others the versions get another chance.
    pub(super) settings: Hash,
}

/// Versions that a file has got, and of which the audit log does not know all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Untold {
    /// When it got them.
    pub(super) at: Time,
    /// Whether it had them already when it was looked at.
    pub(super) found: bool,
    /// The secrets that have another version than before; none if the file is gone.
    pub(super) secrets: Vec<(SecretPath, Option<u64>)>,
    /// Whether it is told that the hook has failed for them.
    pub(super) failed: bool,
}

/// All of them, and the last contact with the server.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Record {
    v: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) contact: Option<LastContact>,
    pub(super) targets: Vec<Remembered>,
}

impl Record {
    pub(super) fn new(targets: Vec<Remembered>, contact: Option<LastContact>) -> Self {
        Self { v: VERSION, contact, targets }
    }

    /// Reads the record; one that is missing or unreadable counts as empty.
    pub(super) fn load(state: &Path) -> Self {
        let ours = |record: &Self| record.v == VERSION;
        read(&state.join(NAME), ours, "every hook runs once more").unwrap_or_default()
    }

    /// Writes the record.
    ///
    /// # Errors
    /// When the state folder cannot be written; the old record stays.
    pub(super) fn save(&self, state: &Path) -> anyhow::Result<()> {
        write(state, NAME, self)
    }
}

/// Reads a record that is `ours`; of any other the log says what `follows`.
pub(super) fn read<T: DeserializeOwned>(
    path: &Path,
    ours: impl Fn(&T) -> bool,
    follows: &str,
) -> Option<T> {
    let bytes = std::fs::read(path).ok()?;
    let record = serde_json::from_slice(&bytes).ok().filter(ours);
    if record.is_none() {
        tracing::warn!("`{}` is not understood: {follows}", path.display());
    }
    record
}

/// Writes a record into the state folder, whole or not at all.
///
/// # Errors
/// When the folder cannot be written.
pub(super) fn write(state: &Path, name: &str, record: &impl Serialize) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec(record)?;
    let state =
        state.canonicalize().with_context(|| format!("cannot find `{}`", state.display()))?;
    files::replace(&state.join(name), &bytes, Access::PRIVATE)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Record::load(folder.path()).targets.is_empty());
        let target = Remembered {
            path: "/a/.env".into(),
            secrets: vec![
                ("secret/a".parse().unwrap(), Some(3)),
                ("secret/b".parse().unwrap(), None),
            ],
            since: Time::from_micros(5),
            hook: HookEnd::Ok,
            good: None,
            bad: None,
            untold: None,
        };
        Record::new(vec![target.clone()], None).save(folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join(NAME)).unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"targets":[{"path":"/a/.env","secrets":[["secret/a",3],["secret/b",null]],"since":5,"hook":"ok"}]}"#
        );
        assert_eq!(Record::load(folder.path()).targets, std::slice::from_ref(&target));
        let bad = Bad {
            versions: vec![Some(4), None],
            why: "exit 1".to_owned(),
            settings: Hash::of(&[b"x"]),
        };
        let secrets = vec![("secret/a".parse().unwrap(), Some(3))];
        let untold = Some(Untold { at: Time::from_micros(5), found: false, secrets, failed: true });
        let good = Some(vec![Some(3), None]);
        let target = Remembered { good, bad: Some(bad), untold, ..target };
        Record::new(vec![target.clone()], None).save(folder.path()).unwrap();
        assert_eq!(Record::load(folder.path()).targets, [target]);
    }

    #[test]
    fn an_end_of_a_hook_is_a_word() {
        for (end, word) in [
            (HookEnd::None, "-"),
            (HookEnd::Pending, "pending"),
            (HookEnd::Ok, "ok"),
            (HookEnd::Failed("exit 1".to_owned()), "exit 1"),
        ] {
            assert_eq!(serde_json::to_value(&end).unwrap(), word);
            assert_eq!(serde_json::from_value::<HookEnd>(word.into()).unwrap(), end);
        }
    }

    #[test]
    fn a_damaged_record_counts_as_empty() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{", r#"{"v":2,"targets":[]}"#, r#"{"v":1,"targets":[{"path":5}]}"#] {
            files::replace(
                &folder.path().canonicalize().unwrap().join(NAME),
                text.as_bytes(),
                Access::PRIVATE,
            )
            .unwrap();
            assert!(Record::load(folder.path()).targets.is_empty(), "{text}");
        }
    }
}
