//! The versions of a secret, the newest first, what became of each, and who wrote it: what any
//! Vault tells, and what `vault kv history` begins with.

use serde_json::{Map, Value, json};

use super::read::{self, Kind};
use super::route::{Route, Typed};
use super::secret::no_value;
use crate::client::{Client, Error};
use crate::context::Global;
use machine::local::{WRITERS, Writer};
use shared::name::Actor;

/// Arguments of `vault kv history`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
CHANGED names keys, never values: + is new, ~ has another value, - is gone.
APPLIED counts the hosts whose files got the version; READS the reads by processes there.

Examples:
  vault kv history secret/app
  vault kv history secret/app --hosts                  when each host had which version
  vault kv history secret/app --key OPENAI_API_KEY     only where its value changed
  vault kv history -version=12 secret/app              all that is known of one")]
pub struct Args {
    #[command(flatten)]
    pub place: Typed,
    /// Only the versions in which this key's value changed
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// A row for each host and file: when it got the version and how its hook ended
    #[arg(long, conflicts_with = "version")]
    pub hosts: bool,
    /// All that is known of this version: who wrote it, what changed, who has it, who read it
    #[arg(long, value_name = "N")]
    pub version: Option<u64>,
}

/// One version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    pub n: u64,
    pub created: String,
    /// When it was or will be deleted; empty for never.
    pub deletion: String,
    pub destroyed: bool,
    /// Who wrote it, where the server tells.
    pub by: Option<String>,
}

impl Version {
    /// Tells whether the content is out of sight now; `now` is RFC 3339 in UTC.
    pub fn is_deleted(&self, now: &str) -> bool {
        // Texts of the same form compare as the times do, to the second.
        let second = |text: &str| text.get(..19).unwrap_or(text).to_owned();
        !self.deletion.is_empty() && second(&self.deletion) <= second(now)
    }
}

/// Reads the versions out of a metadata answer, oldest first.
pub fn versions(metadata: &Map<String, Value>) -> Vec<Version> {
    let text = |fields: &Value, name: &str| fields[name].as_str().unwrap_or_default().to_owned();
    let all = metadata.get("versions").and_then(Value::as_object).into_iter().flatten();
    let mut all: Vec<Version> = all
        .filter_map(|(n, fields)| {
            let by = fields["created_by"]["actor"].as_str().or(fields["created_by"].as_str());
            Some(Version {
                n: n.parse().ok()?,
                created: text(fields, "created_time"),
                deletion: text(fields, "deletion_time"),
                destroyed: fields["destroyed"].as_bool().unwrap_or(false),
                by: by.filter(|by| !by.is_empty()).map(str::to_owned),
            })
        })
        .collect();
    all.sort_unstable_by_key(|version| version.n);
    all
}

/// Asks who wrote the versions, on this machine alone: elsewhere a Vault would be asked for what it
/// does not know. One that is here too, an older agent, or one that this caller may not ask, tells
/// nothing.
fn name_writers(client: &Client, route: &Route, all: &mut [Version]) -> Result<(), Error> {
    if !client.is_here() || client.only_shows() {
        return Ok(());
    }
    let answer = client.ask(WRITERS, &[("path", route.logical())])?;
    if matches!(answer.status, 403 | 404) {
        return Ok(());
    }
    let writers: Vec<Writer> = answer.success()?.json()?;
    let name = |by: &Actor| match by {
        Actor::Machine(name) => name.to_string(),
        Actor::Root | Actor::Admin(_) => by.to_string(),
    };
    for version in all {
        let writer = writers.iter().find(|writer| writer.ver == version.n);
        version.by = writer.map(|writer| name(&writer.by)).or(version.by.take());
    }
    Ok(())
}

/// A secret's versions, and where it is.
pub struct History {
    pub route: Route,
    /// Newest first.
    pub versions: Vec<Version>,
    current: u64,
    now: String,
}

impl History {
    /// Reads the versions of a secret that must be there.
    pub fn read(global: &Global, client: &Client, place: &Typed) -> anyhow::Result<Self> {
        let (route, secret) = read::shown(global, client, place, Kind::Metadata)?;
        let Some(data) = secret.and_then(|secret| secret.data) else {
            return Err(no_value(client, &route, &route.api("metadata")).into());
        };
        let current = data.get("current_version").and_then(Value::as_u64).unwrap_or(0);
        let mut versions = versions(&data);
        name_writers(client, &route, &mut versions)?;
        versions.reverse();
        Ok(Self { route, versions, current, now: global.now().to_string() })
    }

    /// Says what became of a version, in a word.
    pub fn state(&self, version: &Version) -> &'static str {
        match version {
            version if version.destroyed => "destroyed",
            version if version.is_deleted(&self.now) => "deleted",
            version if version.n == self.current => "current",
            _ => "",
        }
    }

    /// Returns a version for scripts.
    pub fn document(&self, version: &Version) -> Value {
        json!({
            "version": version.n, "created_time": version.created,
            "deletion_time": version.deletion, "destroyed": version.destroyed,
            "state": self.state(version), "created_by": version.by,
        })
    }
}
