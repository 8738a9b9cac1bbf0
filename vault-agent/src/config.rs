//! `agent.toml`, typed: unknown keys, wrong values and double targets are refused with file, line and key.
//!
//! Only what the file says lives here; who acts on it does not. The text of the file is edited by `target add`.

mod credential;
mod hook;
mod order;
mod source;
mod target;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

pub use crate::files::git::GitPolicy;
pub use crate::render::Format;
pub use credential::{Credential, Credentials};
pub use hook::{Hook, HookAction, HookSignal, UnitAction};
pub use source::Source;
pub(crate) use target::parse_mode;
pub use target::{Drift, OnDelete, OnStale, Target};

/// How alike two words must be, from 0 to 1, for one to be a slip for the other.
const ALIKE: f64 = 0.8;

/// The agent's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Addresses of the server, `host:port`, tried in order; empty for those of the pin file.
    pub server: Vec<String>,
    /// The files to keep right, each path once.
    pub targets: Vec<Arc<Target>>,
    /// The files whose edits are published, each path and each secret once.
    pub sources: Vec<Arc<Source>>,
    /// What units of systemd get, and where they ask; `None` for no such socket.
    pub credentials: Option<Credentials>,
    /// The local listener.
    pub api: Api,
    /// What is logged, and how.
    pub log: Log,
}

impl Config {
    /// Names what differs from `before` and is read at the start only.
    #[must_use]
    pub fn for_next_start(&self, before: &Self) -> Vec<&'static str> {
        let socket = |config: &Self| config.credentials.as_ref().map(|all| all.socket.clone());
        let all = [
            ("[api]", self.api != before.api),
            ("[log]", self.log != before.log),
            ("socket of [credentials]", socket(self) != socket(before)),
        ];
        all.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
    }
}

/// The local listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// The unix socket, if not at its usual place.
    #[serde(deserialize_with = "some_absolute")]
    pub socket: Option<PathBuf>,
    /// Who may use the socket besides root and the agent's own user.
    pub allow: Vec<Allow>,
    /// A loopback address to listen on as well.
    #[serde(deserialize_with = "loopback")]
    pub listen: Option<SocketAddr>,
    /// What callers of that address must show.
    pub auth: Auth,
    /// Where their token is kept, if not at its usual place.
    #[serde(deserialize_with = "some_absolute")]
    pub token_file: Option<PathBuf>,
}

/// A user, or with `@` in front a group, that may use the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allow {
    /// A user by name or number.
    User(String),
    /// A group by name or number.
    Group(String),
}

/// What callers of the TCP listener must show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// The token from the token file.
    #[default]
    Token,
    /// Nothing: every process of this host is trusted.
    Loopback,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The least important messages shown.
    pub level: Level,
    /// How they look.
    pub format: LogFormat,
}

/// How important a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Failures.
    Error,
    /// What needs a look.
    Warn,
    /// What was done.
    #[default]
    Info,
    /// Why.
    Debug,
    /// All of it; in release builds the same as `debug`.
    Trace,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people and journald.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// A configuration that is refused: the file and, where known, line and key.
#[derive(Debug)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: Option<usize>,
    /// The key on that line.
    pub key: Option<String>,
    /// What is wrong, in lower case, without a full stop.
    pub message: String,
    /// Whether there is no such file.
    pub missing: bool,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, " line {line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ", key `{key}`")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// Returns the way out, as one sentence without a full stop.
    #[must_use]
    pub fn hint(&self) -> String {
        match self.line {
            Some(line) => {
                format!("mend line {line}; a running agent keeps its old configuration until then")
            }
            None => "check the file's owner and rights".to_owned(),
        }
    }

    fn whole(file: &Path, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            key: None,
            message: message.into(),
            missing: false,
        }
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, deserialize_with = "servers")]
    server: Vec<String>,
    #[serde(default)]
    target: Vec<Spanned<Target>>,
    #[serde(default)]
    source: Vec<Spanned<Source>>,
    credentials: Option<Credentials>,
    #[serde(default)]
    credential: Vec<Spanned<Credential>>,
    #[serde(default)]
    api: Api,
    #[serde(default)]
    log: Log,
}

impl Config {
    /// Reads and checks a file that nobody but its owner, who is root or this process's user, may write.
    ///
    /// # Errors
    /// Names line and key of the first thing that is wrong.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let cannot = |error: io::Error| ConfigError {
            missing: error.kind() == io::ErrorKind::NotFound,
            ..ConfigError::whole(file, format!("cannot be read: {error}"))
        };
        let (found, text) = crate::files::settings(file).map_err(cannot)?;
        let us = rustix::process::geteuid().as_raw();
        if found.mode() & 0o002 != 0 || (found.uid() != us && found.uid() != 0) {
            return Err(ConfigError::whole(
                file,
                "may be written by others, and so could make this user run anything",
            ));
        }
        Self::parse(&text, file)
    }

    /// Reads a file as [`Config::load`] does; one that does not exist counts as empty.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_or_default(file: &Path) -> Result<Self, ConfigError> {
        match Self::load(file) {
            Err(error) if error.missing => Ok(Self::default()),
            loaded => loaded,
        }
    }

    /// Checks the text of a configuration; `file` is for messages.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let fault = |at: Option<usize>, key: Option<&str>, message: &str| {
            let line = at.map(|at| 1 + text.get(..at).unwrap_or(text).matches('\n').count());
            let key = key.map(str::to_owned).or_else(|| key_at(text, line?));
            let message = shorter(message.lines().next().unwrap_or_default());
            ConfigError { file: file.to_owned(), line, key, message, missing: false }
        };
        let written: Written = toml::from_str(text)
            .map_err(|error| fault(error.span().map(|span| span.start), None, error.message()))?;
        let mut targets: Vec<Arc<Target>> = Vec::with_capacity(written.target.len());
        let mut places = Vec::with_capacity(written.target.len());
        let mut seen = std::collections::HashSet::new();
        for target in written.target {
            let at = target.span().start;
            let target = target.into_inner();
            if !seen.insert(target.path.clone()) {
                let message = format!("`{}` is a target already", target.path.display());
                return Err(fault(Some(place_of(text, at, "path")), Some("path"), &message));
            }
            if let Err((key, message)) = target.check() {
                return Err(fault(Some(place_of(text, at, key)), Some(key), &message));
            }
            targets.push(Arc::new(target));
            places.push(at);
        }
        order::check(&targets).map_err(|(n, message)| {
            let at = places.get(n).map(|at| place_of(text, *at, "after"));
            fault(at, Some("after"), &message)
        })?;
        let clash = |(at, key, message): source::Clash| {
            fault(Some(place_of(text, at, key)), Some(key), &message)
        };
        let sources = source::checked(written.source, &targets).map_err(clash)?;
        let credentials = Credentials::gathered(written.credentials, written.credential);
        let credentials = credentials.map_err(clash)?;
        let Written { server, api, log, .. } = written;
        Ok(Self { server, targets, sources, credentials, api, log })
    }
}

/// Names one word instead of all that are known, where one looks like the word that is not.
fn shorter(message: &str) -> String {
    let named = message.split_once(", expected one of ").and_then(|(unknown, known)| {
        let wrong = unknown.strip_prefix("unknown ")?.split('`').nth(1)?;
        let known = known.split('`').skip(1).step_by(2);
        let scored = known.map(|name| (name, strsim::jaro_winkler(wrong, name)));
        let (name, score) = scored.max_by(|a, b| a.1.total_cmp(&b.1))?;
        (score >= ALIKE).then(|| format!("{unknown}: did you mean `{name}`?"))
    });
    named.unwrap_or_else(|| message.to_owned())
}

/// Returns where `key` is set in the table that starts at `at`, or its start.
fn place_of(text: &str, at: usize, key: &str) -> usize {
    let mut place = at;
    let table = text.get(at..).unwrap_or_default();
    for (n, line) in table.split_inclusive('\n').enumerate() {
        if n > 0 && line.starts_with('[') {
            break;
        }
        if line.split('=').next().is_some_and(|name| name.trim() == key) {
            return place;
        }
        place += line.len();
    }
    at
}

/// Returns the key that `line` belongs to: what stands before `=` there, or on the nearest line above.
fn key_at(text: &str, line: usize) -> Option<String> {
    let before: Vec<&str> = text.lines().take(line).collect();
    let plain = |name: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        (!name.is_empty() && name.chars().all(good)).then(|| name.to_owned())
    };
    before.into_iter().rev().map(str::trim).find_map(|line| match line.strip_prefix('[') {
        Some(_) => plain(line.trim_matches(['[', ']', ' '])),
        None if line.starts_with(['#', '"', '\'']) => None,
        None => plain(line.split('=').next().unwrap_or_default().trim()),
    })
}

fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    checked_path(&PathBuf::deserialize(deserializer)?)
}

fn checked_path<E: serde::de::Error>(path: &Path) -> Result<PathBuf, E> {
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    if !path.is_absolute() || !path.components().all(plain) || path.file_name().is_none() {
        return Err(E::custom(format!(
            "path `{}` is not absolute, or has `..` in it",
            path.display()
        )));
    }
    // Slashes doubled or at the end would make two names of one file.
    Ok(path.components().collect())
}

fn some_absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    absolute(deserializer).map(Some)
}

fn servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let servers = Vec::<String>::deserialize(deserializer)?;
    let good = |text: &str| {
        text.rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    match servers.iter().find(|server| !good(server)) {
        Some(bad) => Err(D::Error::custom(format!("server `{bad}` is not `host:port`"))),
        None => Ok(servers),
    }
}

fn loopback<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let address = SocketAddr::deserialize(deserializer)?;
    if !address.ip().is_loopback() {
        return Err(D::Error::custom(format!(
            "address `{address}` is not a loopback address: secrets would leave this host"
        )));
    }
    Ok(Some(address))
}

impl<'de> Deserialize<'de> for Allow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (name, allow): (&str, fn(String) -> Self) = match text.strip_prefix('@') {
            Some(group) => (group, Self::Group),
            None => (&text, Self::User),
        };
        if name.is_empty() || name.contains([':', ' ', '@']) {
            return Err(D::Error::custom(format!("`{text}` is neither a user nor `@group`")));
        }
        Ok(allow(name.to_owned()))
    }
}

#[cfg(test)]
mod tests;
