//! `vault kv history`: the versions of a secret, the newest first, and what became of each.

use serde_json::{Map, Value, json};

use super::read::{self, Kind};
use super::route::{Route, Typed};
use super::secret::no_value;
use crate::client::{Client, Error};
use crate::context::Global;
use crate::print::{self, Format, table};
use host::hint::Exit;
use host::shown::Shown;
use machine::local::{WRITERS, Writer};
use shared::name::Actor;

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

pub fn run(global: &Global, place: &Typed) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let client = global.client()?;
    let (route, secret) = read::shown(global, &client, place, Kind::Metadata)?;
    let Some(data) = secret.and_then(|secret| secret.data) else {
        return Err(no_value(&client, &route, &route.api("metadata")).into());
    };
    let current = data.get("current_version").and_then(Value::as_u64).unwrap_or(0);
    let now = global.now().to_string();
    let mut all = versions(&data);
    name_writers(&client, &route, &mut all)?;
    all.reverse();
    let state = |version: &Version| match version {
        version if version.destroyed => "destroyed",
        version if version.is_deleted(&now) => "deleted",
        version if version.n == current => "current",
        _ => "",
    };
    if format != Format::Table {
        let rows = all.iter().map(|version| {
            json!({
                "version": version.n, "created_time": version.created, "deletion_time": version.deletion,
                "destroyed": version.destroyed, "state": state(version), "created_by": version.by,
            })
        });
        global.term.document(print::data(format, &rows.collect())?)?;
        return Ok(Exit::OK);
    }
    let by = all.iter().any(|version| version.by.is_some());
    let mut header = vec!["VERSION", "CREATED", "STATE"];
    header.extend(by.then_some("BY"));
    let rows = all.iter().map(|version| {
        let state = state(version).to_owned();
        let mut row = vec![version.n.to_string(), version.created.clone(), state];
        row.extend(by.then(|| version.by.clone().unwrap_or_default()));
        row
    });
    let rows: Vec<_> = rows.collect();
    let text = table::plain(&header, &rows);
    global.term.line(Shown::lines(text.lines().map(str::trim_end)))?;
    Ok(Exit::OK)
}
