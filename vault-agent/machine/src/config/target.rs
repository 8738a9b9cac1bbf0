//! One `[[target]]` of `agent.toml`: its keys, their defaults, and what each may say. Hooks have a
//! file of their own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use shared::path::SecretPath;

use super::absolute::{absolute, checked_path, some_absolute};
use super::hook::Hook;
use super::hook::long_span;
use super::secret::parsed;
use crate::render::Format;
use crate::render::{Header, Layout, Multiline, Nested, Rules};
use host::files::git::GitPolicy;

/// One file, and what it is to hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The file; absolute.
    #[serde(deserialize_with = "absolute")]
    pub path: PathBuf,
    /// The secrets in it, at least one; later ones win.
    #[serde(deserialize_with = "secrets")]
    pub secrets: Vec<SecretPath>,
    /// How it is written.
    #[serde(default)]
    pub format: Format,
    /// The only keys to write, if given.
    #[serde(default, deserialize_with = "keys")]
    pub keys: Option<Vec<String>>,
    /// Owner by name or number; `None` for the agent's user.
    pub owner: Option<String>,
    /// Group by name or number; `None` for the owner's own.
    pub group: Option<String>,
    /// Permission bits; `None` for those of the file that is there, or 0600.
    #[serde(default, deserialize_with = "mode")]
    pub mode: Option<u32>,
    /// What happens to a file that is there already and holds something else.
    #[serde(default)]
    pub existing: Existing,
    /// How the file gets its content.
    #[serde(default)]
    pub write: WriteMode,
    /// Whether links on the way to the file are followed: those of root, of the agent's user and of
    /// `owner`.
    #[serde(default)]
    pub follow: bool,
    /// What to run when the file has changed.
    pub on_change: Option<Hook>,
    /// Targets that come first: they are written before this one, and their hooks run before its
    /// hook.
    #[serde(default, deserialize_with = "paths")]
    pub after: Vec<PathBuf>,
    /// How long the server may be out of reach before `on_stale` applies; `None` for ever.
    #[serde(default, deserialize_with = "long_span")]
    pub max_stale: Option<Duration>,
    /// What happens then, [`OnStale::Alarm`] if not said.
    pub on_stale: Option<OnStale>,
    /// Whether the file goes back to the versions before when the hook fails for good.
    #[serde(default)]
    pub rollback_on_failure: bool,
    /// What happens to the file when a secret is deleted.
    #[serde(default)]
    pub on_delete: OnDelete,
    /// What happens when git would pick the file up.
    #[serde(default)]
    pub git: GitPolicy,
    /// What happens when somebody else changes the file.
    #[serde(default)]
    pub drift: Drift,
    /// Dangerous names, such as `PATH`, that may be written all the same.
    #[serde(default)]
    pub allow_names: Vec<String>,
    /// What happens to values of several lines.
    #[serde(default)]
    pub multiline: Multiline,
    /// Names in the file for some keys.
    #[serde(default, deserialize_with = "rename")]
    pub rename: Vec<(String, String)>,
    /// What stands before all other names.
    #[serde(default)]
    pub prefix: String,
    /// Whether all other names are in upper case.
    #[serde(default)]
    pub upper: bool,
    /// What happens to lists and objects.
    #[serde(default)]
    pub nested: Nested,
    /// Whether the file says where it comes from.
    #[serde(default = "yes")]
    pub header: bool,
    /// Which lines of the file are the vault's.
    #[serde(default)]
    pub layout: Layout,
    /// The mount point that must be mounted, or the file is left alone; absolute.
    #[serde(default, deserialize_with = "some_absolute")]
    pub require_mount: Option<PathBuf>,
    /// The text of the template.
    pub template: Option<String>,
    /// The file of the template; absolute.
    #[serde(default, deserialize_with = "some_absolute")]
    pub template_file: Option<PathBuf>,
}

impl Target {
    /// Returns what is asked for beyond the format.
    pub fn rules<'a>(&'a self, header: Option<&'a Header>, template: &'a str) -> Rules<'a> {
        Rules {
            keys: self.keys.as_deref(),
            rename: &self.rename,
            prefix: &self.prefix,
            upper: self.upper,
            nested: self.nested,
            multiline: self.multiline,
            allow_names: &self.allow_names,
            template,
            header,
            layout: self.layout,
        }
    }

    /// Refuses keys that do not go together: the key, and why.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let format = self.format;
        let refuse = |key, why: &str| Err((key, why.to_owned()));
        let no_template = format!("format `{format}` has no template");
        match (format, &self.template, &self.template_file) {
            (Format::Template, None, None) => {
                return refuse("format", "a template is needed: `template` or `template_file`");
            }
            (_, Some(_), Some(_)) => {
                let why = "the template is given twice, here and by `template_file`";
                return refuse("template", why);
            }
            (Format::Template, _, _) | (_, None, None) => {}
            (_, Some(_), None) => return Err(("template", no_template)),
            (_, None, Some(_)) => return Err(("template_file", no_template)),
        }
        if let Some(point) = self.require_mount.as_ref().filter(|at| !self.path.starts_with(at)) {
            let why = format!("`{}` is not in `{}`", self.path.display(), point.display());
            return Err(("require_mount", why));
        }
        if self.on_stale.is_some() && self.max_stale.is_none() {
            return refuse("on_stale", "without `max_stale` it never applies");
        }
        if self.rollback_on_failure && self.on_change.is_none() {
            let why = "without `on_change` nothing tells whether a version is good";
            return refuse("rollback_on_failure", why);
        }
        if self.layout == Layout::Block && !format.has_comments() {
            let why = format!("format `{format}` has no comments to mark a block with");
            return Err(("layout", why));
        }
        Ok(())
    }
}

/// What happens to a file when one of its secrets is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDelete {
    /// It stays as it is.
    #[default]
    Keep,
    /// The secret's keys go, and with the last secret the file.
    Remove,
}

/// What happens to a file when the server has been out of reach for longer than `max_stale`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStale {
    /// It stays, and the log says so.
    Keep,
    /// It goes, and comes back with the server.
    Remove,
    /// It stays, and an alarm stands.
    #[default]
    Alarm,
}

/// What happens to a file that is there already, was not written by this agent, and holds what the
/// new content lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Existing {
    /// It stays, and an alarm stands.
    #[default]
    Hold,
    /// It is replaced, and a copy stays beside it.
    Replace,
}

/// How a file gets its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// A new file takes its name: readers see the old content or the new.
    #[default]
    Replace,
    /// The file itself is written: readers that hold on to it see the new content, and for a moment
    /// may see half of it.
    InPlace,
}

/// What happens when somebody else changes or removes a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Drift {
    /// It is put back, and logged.
    #[default]
    Restore,
    /// It is reported only, until the next version.
    Report,
}

fn secrets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SecretPath>, D::Error> {
    let paths = Vec::<String>::deserialize(deserializer)?;
    if paths.is_empty() {
        return Err(D::Error::custom("a target needs at least one secret"));
    }
    let mut secrets: Vec<SecretPath> = Vec::with_capacity(paths.len());
    for path in paths {
        let path: SecretPath = parsed(&path).map_err(|error| D::Error::custom(error.detail))?;
        if secrets.contains(&path) {
            return Err(D::Error::custom(format!("secret `{path}` is named twice")));
        }
        secrets.push(path);
    }
    Ok(secrets)
}

fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    Vec::<PathBuf>::deserialize(deserializer)?.iter().map(|path| checked_path(path)).collect()
}

fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let keys = Vec::<String>::deserialize(deserializer)?;
    if keys.is_empty() {
        return Err(D::Error::custom(
            "an empty list would write nothing: name keys, or leave `keys` out for all",
        ));
    }
    if keys.iter().any(String::is_empty) {
        return Err(D::Error::custom("a key has a name: leave `keys` out for all"));
    }
    Ok(Some(keys))
}

fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    struct Mode;
    impl Visitor<'_> for Mode {
        type Value = u32;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an octal number in quotes such as \"0600\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u32, E> {
            parse_mode(text).ok_or_else(|| {
                E::custom(format!("mode `{text}` is not an octal number such as \"0600\""))
            })
        }
    }
    deserializer.deserialize_str(Mode).map(Some)
}

/// Reads an octal mode, permission bits only.
pub fn parse_mode(text: &str) -> Option<u32> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o777)
}

fn rename<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    Ok(BTreeMap::<String, String>::deserialize(deserializer)?.into_iter().collect())
}

fn yes() -> bool {
    true
}
