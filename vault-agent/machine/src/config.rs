//! `agent.toml`, typed: unknown keys, wrong values and double targets are refused with file, line
//! and key.
//!
//! Only what the file says lives here; who acts on it does not. The text of the file is edited by
//! `target add`.

mod absolute;
mod credential;
mod forward;
mod hook;
mod listen;
mod metrics;
mod order;
mod scan;
mod secret;
mod source;
mod target;
mod ui;

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::config_fault::{ConfigFault, place_of};
use host::logging::Log;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::Spanned;
use zeroize::Zeroizing;

use self::absolute::some_absolute;

pub use crate::render::Format;
pub use credential::{Credential, Credentials};
pub use forward::{
    Body, File, Forward, Hidden, Journal, Mail, Only, Private, Sink, Syslog, SyslogAddress,
    Webhook, check_url,
};
pub use hook::{Hook, HookAction, HookSignal, UnitAction};
pub use host::files::git::GitPolicy;
pub use listen::check as check_listen;
pub use metrics::Metrics;
pub use scan::{Containers, Preset, Scan};
pub use source::Source;
pub use target::parse_mode;
pub use target::{Drift, Existing, OnDelete, OnStale, Target, WriteMode};
pub use ui::Ui;

/// The agent's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Addresses of the server, `host:port`, in any order; empty for those of the pin file.
    pub server: Vec<String>,
    /// The files to keep right, each path once.
    pub targets: Vec<Arc<Target>>,
    /// The files whose edits are published, each path and each secret once.
    pub sources: Vec<Arc<Source>>,
    /// What units of systemd get, and where they ask; `None` for no such socket.
    pub credentials: Option<Credentials>,
    /// Who is told of alarms and audit records; each name once.
    pub forwards: Vec<Arc<Forward>>,
    /// Where figures are served.
    pub metrics: Metrics,
    /// The local listener.
    pub api: Api,
    /// How the host scans itself; `None` for not at all.
    pub scan: Option<Scan>,
    /// The page of `vault ui`.
    pub ui: Ui,
    /// What is logged, and how.
    pub log: Log,
}

impl Config {
    /// Names what differs from `before` and is read at the start only.
    pub fn for_next_start(&self, before: &Self) -> Vec<&'static str> {
        let socket = |config: &Self| config.credentials.as_ref().map(|all| all.socket.clone());
        let all = [
            ("[api]", self.api != before.api),
            ("[metrics]", self.metrics != before.metrics),
            ("[ui]", self.ui != before.ui),
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
    /// Addresses to listen on as well: loopback, or private ones for containers; each once.
    #[serde(deserialize_with = "listen::addresses")]
    pub listen: Vec<SocketAddr>,
    /// Names that callers there may give as `Host`, besides those of loopback and the addresses.
    #[serde(deserialize_with = "listen::hosts")]
    pub hosts: Vec<String>,
    /// What callers on loopback must show; all others need a token.
    pub auth: Auth,
    /// Where their token is kept, if not at its usual place.
    #[serde(deserialize_with = "some_absolute")]
    pub token_file: Option<PathBuf>,
    /// Who has to say why they read or write.
    pub require_reason: RequireReason,
    /// Names of programs that count as AI agents, besides those that are known.
    #[serde(deserialize_with = "ai_tools")]
    pub ai_tools: Vec<String>,
}

impl Api {
    /// Tells whether callers of an address of `listen` must show a token.
    pub fn wants_token(&self) -> bool {
        self.listen.iter().any(|address| self.auth == Auth::Token || !address.ip().is_loopback())
    }
}

/// A user, or with `@` in front a group, that may use the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allow {
    /// A user by name or number.
    User(String),
    /// A group by name or number.
    Group(String),
}

/// What callers on loopback TCP must show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// The token from the token file.
    #[default]
    Token,
    /// Nothing: every process of this host is trusted.
    Loopback,
}

/// Who has to say why they read or write a secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequireReason {
    /// Nobody.
    #[default]
    Never,
    /// Callers that work for an AI agent, as far as that shows.
    Agents,
    /// Everybody.
    All,
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
    forward: Vec<Spanned<forward::Written>>,
    #[serde(default)]
    metrics: Metrics,
    #[serde(default)]
    api: Api,
    scan: Option<Scan>,
    ui: Option<Spanned<Ui>>,
    #[serde(default)]
    log: Log,
}

impl Config {
    /// Reads and checks a file that nobody but its owner, who is root or this process's user, may
    /// write.
    ///
    /// # Errors
    /// Names line and key of the first thing that is wrong.
    pub fn load(file: &Path) -> Result<Self, ConfigFault> {
        Self::parse(&read(file)?, file)
    }

    /// Reads a file as [`Config::load`] does, but refuses one that holds nothing, not even a
    /// comment: it is being written, or was lost.
    pub fn load_filled(file: &Path) -> Result<Self, ConfigFault> {
        let text = read(file)?;
        if text.trim().is_empty() {
            let hint = "write it again; a comment alone says that nothing is configured any more";
            return Err(ConfigFault::whole(file, "is empty").with_hint(hint));
        }
        Self::parse(&text, file)
    }

    /// Reads a file as [`Config::load`] does; one that does not exist counts as empty.
    pub fn load_or_default(file: &Path) -> Result<Self, ConfigFault> {
        match Self::load(file) {
            Err(error) if error.missing => Ok(Self::default()),
            loaded => loaded,
        }
    }

    /// Checks the text of a configuration; `file` is for messages.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigFault> {
        let clash = |(at, key, message): source::Clash| {
            ConfigFault::at(file, text, Some(place_of(text, at, key)), Some(key), &message)
        };
        let written: Written =
            toml::from_str(text).map_err(|error| ConfigFault::toml(file, text, &error))?;
        let mut targets: Vec<Arc<Target>> = Vec::with_capacity(written.target.len());
        let mut places = Vec::with_capacity(written.target.len());
        let mut seen = std::collections::HashSet::new();
        for target in written.target {
            let at = target.span().start;
            let target = target.into_inner();
            if !seen.insert(target.path.clone()) {
                let message = format!("`{}` is a target already", target.path.display());
                return Err(clash((at, "path", message)));
            }
            target.check().map_err(|(key, message)| clash((at, key, message)))?;
            targets.push(Arc::new(target));
            places.push(at);
        }
        order::check(&targets).map_err(|(n, message)| clash((places[n], "after", message)))?;
        let sources = source::checked(written.source, &targets).map_err(clash)?;
        let credentials = Credentials::gathered(written.credentials, written.credential);
        let credentials = credentials.map_err(clash)?;
        let forwards = forward::checked(written.forward).map_err(clash)?;
        let ui = written.ui.map(|ui| (ui.span().start, ui.into_inner()));
        let (at, ui) = ui.unwrap_or_default();
        ui.check().map_err(|(key, message)| clash((at, key, message)))?;
        let Written { server, metrics, api, scan, log, .. } = written;
        Ok(Self { server, targets, sources, credentials, forwards, metrics, api, scan, ui, log })
    }
}

/// Returns the text of a file that nobody but its owner may write.
fn read(file: &Path) -> Result<Zeroizing<String>, ConfigFault> {
    let (found, text) =
        host::files::settings(file).map_err(|why| ConfigFault::unread(file, &why))?;
    let us = rustix::process::geteuid().as_raw();
    if found.mode() & 0o002 != 0 || (found.uid() != us && found.uid() != 0) {
        return Err(ConfigFault::whole(
            file,
            "may be written by others, and so could make this user run anything",
        ));
    }
    Ok(text)
}

/// Tells whether a text is `host:port`.
pub fn is_address(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let servers = Vec::<String>::deserialize(deserializer)?;
    match servers.iter().find(|server| !is_address(server)) {
        Some(bad) => Err(D::Error::custom(format!("server `{bad}` is not `host:port`"))),
        None => Ok(servers),
    }
}

fn ai_tools<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let tools = Vec::<String>::deserialize(deserializer)?;
    let is_name = |name: &&String| {
        !name.is_empty()
            && name.len() <= 64
            && name.chars().all(|c| c.is_ascii_graphic() && c != '/')
    };
    match tools.iter().find(|name| !is_name(name)) {
        Some(bad) => Err(D::Error::custom(format!(
            "`{}` is no name of a program: give it as `ps` shows it, without folder and spaces",
            bad.escape_debug()
        ))),
        None => Ok(tools),
    }
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
