//! What the agent remembers of its targets over a restart: versions and hook results, never a
//! value.
//!
//! The truth is in the files: at start each is rendered and compared. The record only tells whether
//! the hook has run for what a file holds, so losing it costs one more run of each hook.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
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

/// What the record on its way to the disk says.
#[derive(Default)]
pub(super) struct Persisting {
    /// Verdicts on their way.
    pub(super) verdicts: Vec<(PathBuf, Bad)>,
    /// Versions on their way that were found good.
    pub(super) good: Vec<(PathBuf, Versions)>,
    /// Whether the last record could not be written.
    pub(super) failed: bool,
    /// Whether other versions may have to be retained.
    pub(super) due: bool,
}

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
    /// The versions for which it last ended well, if those are others and the target may go back to
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) good: Option<Versions>,
    /// The versions that the target has gone back from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bad: Option<Bad>,
}

/// What a hook has ended with; a word in the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(super) enum HookEnd {
    /// There is no hook, or it has not run.
    None,
    /// It has not ended.
    Pending,
    /// It has ended well.
    Ok,
    /// It has failed, with this.
    Failed(String),
}

impl HookEnd {
    /// Returns the word, or what it has failed with.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::None => "-",
            Self::Pending => "pending",
            Self::Ok => "ok",
            Self::Failed(why) => why,
        }
    }
}

impl From<String> for HookEnd {
    fn from(text: String) -> Self {
        match text.as_str() {
            "-" => Self::None,
            "pending" => Self::Pending,
            "ok" => Self::Ok,
            _ => Self::Failed(text),
        }
    }
}

impl From<HookEnd> for String {
    fn from(end: HookEnd) -> Self {
        end.as_str().to_owned()
    }
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

#[derive(Serialize, Deserialize)]
struct Record {
    v: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    contact: Option<LastContact>,
    targets: Vec<Remembered>,
}

/// Reads the record; one that is missing or unreadable counts as empty.
pub(super) fn load(state: &Path) -> (HashMap<PathBuf, Remembered>, Option<LastContact>) {
    let path = state.join(NAME);
    let Ok(bytes) = std::fs::read(&path) else { return Default::default() };
    match serde_json::from_slice::<Record>(&bytes) {
        Ok(record) if record.v == VERSION => {
            let targets = record.targets.into_iter().map(|target| (target.path.clone(), target));
            (targets.collect(), record.contact)
        }
        _ => {
            tracing::warn!("`{}` is not understood: every hook runs once more", path.display());
            Default::default()
        }
    }
}

/// Writes the record.
///
/// # Errors
/// When the state folder cannot be written; the old record stays.
pub(super) fn save(
    state: &Path,
    targets: Vec<Remembered>,
    contact: Option<LastContact>,
) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec(&Record { v: VERSION, contact, targets })?;
    let state =
        state.canonicalize().with_context(|| format!("cannot find `{}`", state.display()))?;
    files::replace(&state.join(NAME), &bytes, Access::PRIVATE)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        assert!(load(folder.path()).0.is_empty());
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
        };
        save(folder.path(), vec![target.clone()], None).unwrap();
        let text = std::fs::read_to_string(folder.path().join(NAME)).unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"targets":[{"path":"/a/.env","secrets":[["secret/a",3],["secret/b",null]],"since":5,"hook":"ok"}]}"#
        );
        assert_eq!(load(folder.path()).0, HashMap::from([("/a/.env".into(), target.clone())]));
        let bad = Bad {
            versions: vec![Some(4), None],
            why: "exit 1".to_owned(),
            settings: Hash::of(&[b"x"]),
        };
        let target = Remembered { good: Some(vec![Some(3), None]), bad: Some(bad), ..target };
        save(folder.path(), vec![target.clone()], None).unwrap();
        assert_eq!(load(folder.path()).0, HashMap::from([("/a/.env".into(), target)]));
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
            assert!(load(folder.path()).0.is_empty(), "{text}");
        }
    }
}
