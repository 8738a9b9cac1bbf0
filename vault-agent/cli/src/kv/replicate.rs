//! Takes a secret over to another place with all its versions: for `kv mv`, `kv cp` and `import`
//! from a Vault. Done again, it goes on where it stopped, and changes nothing where all is there.
//!
//! Versions keep their order. What is deleted or destroyed cannot be read: an empty version stands
//! for it, deleted or destroyed as well. Numbers start anew behind those that the place has used
//! before.

use serde_json::{Map, Value, json};
use shared::limits;

use super::history::{Version, versions};
use super::read::{self, Kind};
use super::route::Route;
use super::write;
use crate::client::Client;
use host::hint::Failure;

/// A secret's place at one API.
#[derive(Clone, Copy)]
pub struct End<'a> {
    pub client: &'a Client,
    pub route: &'a Route,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Versions written.
    pub written: u64,
    /// Versions that were there already.
    pub same: u64,
    /// Versions whose content could not be read, because they are deleted or destroyed.
    pub empty: u64,
    /// A version whose content can be read, but whose place there was deleted, destroyed or pruned.
    pub barred: Option<u64>,
    /// Whether settings or custom metadata were set.
    pub settings: bool,
}

/// What is kept about a secret.
#[derive(Debug, Default)]
pub struct Kept {
    /// Settings and custom metadata as the API tells them.
    pub data: Map<String, Value>,
    /// Oldest first.
    pub versions: Vec<Version>,
}

impl End<'_> {
    /// Reads what is kept about the secret; `None` if there is none.
    pub fn kept(self) -> anyhow::Result<Option<Kept>> {
        let secret = read::known(self.client, self.route, Kind::Metadata)?;
        let data = secret.and_then(|secret| secret.data);
        Ok(data.map(|data| Kept { versions: versions(&data), data }))
    }

    /// Tells whether there is a secret.
    pub fn is_there(self) -> anyhow::Result<bool> {
        Ok(if self.route.is_versioned() {
            self.kept()?.is_some()
        } else {
            self.content(0)?.is_some()
        })
    }

    /// Reads a version's content, `None` where it is deleted, destroyed or not there; 0 is the
    /// newest.
    pub fn content(self, n: u64) -> anyhow::Result<Option<Map<String, Value>>> {
        let secret = read::known(self.client, self.route, Kind::Version(n))?;
        Ok(secret.and_then(|secret| secret.content(self.route).cloned()))
    }

    /// Writes to the API path of a kind; returns the version that the answer names.
    fn put(self, kind: &str, body: &Value) -> anyhow::Result<Option<u64>> {
        let secret = write::put(self.client, &self.route.api(kind), body)?;
        Ok(secret.and_then(|secret| secret.data?.get("version")?.as_u64()))
    }
}

/// Takes all versions over, and what is kept about the secret.
pub fn all(from: End<'_>, to: End<'_>) -> anyhow::Result<Done> {
    let source = if from.route.is_versioned() {
        from.kept()?
    } else {
        // The only version of a secret on a mount that keeps none.
        let only = Kept { versions: vec![Version::default()], data: Map::new() };
        from.content(0)?.map(|_| only)
    };
    let Some(source) = source else {
        let path = from.route.logical();
        return Err(Failure::remote(format!("No value found at {path}")).into());
    };
    let target = to.kept()?.unwrap_or_default();
    let mut done = Done { settings: settings(&source, &target, to)?, ..Done::default() };
    let base = base(&target);
    let mut newest = target.versions.last().map_or(0, |newest| newest.n);
    let (limit, mut room) = (limit_of(&source), limit_of(&target).unwrap_or(0));
    // All versions fit, and one more, so that none is dropped before all are there.
    let wanted = limits::VERSIONS.min(source.versions.len() as u64 + 1);
    if base + source.versions.len() as u64 > newest && wanted > room.max(USUAL) {
        set_limit(to, wanted)?;
        room = wanted;
    }
    for (n, version) in source.versions.iter().enumerate() {
        let n = base + n as u64 + 1;
        newest = take(from, to, version, (n, newest), &target, &mut done)?;
    }
    if let Some(limit) = limit
        && limit != room
    {
        set_limit(to, limit)?;
        done.settings = true;
    }
    Ok(done)
}

/// Versions kept where nothing is said.
const USUAL: u64 = 10;

fn limit_of(kept: &Kept) -> Option<u64> {
    let limit = kept.data.get("max_versions").and_then(Value::as_u64);
    // A Vault may keep more than this vault takes.
    limit.map(|limit| limit.min(limits::VERSIONS))
}

/// Returns the number behind which the versions start: what the place has used before it was
/// forgotten.
fn base(target: &Kept) -> u64 {
    let pruned = target.data.get("oldest_version").and_then(Value::as_u64).unwrap_or(0) > 1;
    match target.versions.first() {
        Some(first) if !pruned => first.n.saturating_sub(1),
        Some(_) | None => 0,
    }
}

/// Takes one version over, as number `n` if the place has it, else behind the newest; returns the
/// newest then.
fn take(
    from: End<'_>,
    to: End<'_>,
    version: &Version,
    (n, newest): (u64, u64),
    target: &Kept,
    done: &mut Done,
) -> anyhow::Result<u64> {
    let content = if version.destroyed { None } else { from.content(version.n)? };
    let there = target.versions.iter().find(|there| there.n == n);
    let before = target.versions.last().map_or(0, |newest| newest.n);
    let n = match there {
        Some(there) => {
            if let Some(content) = &content {
                let held = if there.destroyed { None } else { to.content(n)? };
                if held.is_none() {
                    done.barred = done.barred.or(Some(n));
                }
                if held.is_some_and(|held| held != *content) {
                    let path = to.route.logical();
                    let text = format!("`{path}` already holds something else as version {n}");
                    return Err(Failure::remote(text)
                        .hint("name another place for it, or move that one away with `vault kv mv`")
                        .into());
                }
            }
            done.same += 1;
            n
        }
        // Pruned since, and so taken over once.
        None if n <= before => {
            if content.is_some() {
                done.barred = done.barred.or(Some(n));
            }
            done.same += 1;
            return Ok(newest);
        }
        None => {
            done.written += 1;
            // An empty version stands for what cannot be read.
            let data = content.clone().unwrap_or_default();
            let body = json!({ "data": data, "options": { "cas": newest } });
            to.put("data", &body)?.unwrap_or(newest + 1)
        }
    };
    let newest = newest.max(n);
    if content.is_some() {
        return Ok(newest);
    }
    done.empty += 1;
    let gone = there
        .is_some_and(|there| there.destroyed || (!version.destroyed && !there.deletion.is_empty()));
    if gone {
        return Ok(newest);
    }
    let kind = if version.destroyed { "destroy" } else { "delete" };
    to.put(kind, &json!({ "versions": [n] }))?;
    Ok(newest)
}

/// Sets what differs, but for the number of versions kept; tells whether anything did.
fn settings(source: &Kept, target: &Kept, to: End<'_>) -> anyhow::Result<bool> {
    let there = &target.data;
    let mut body = Map::new();
    if let Some(custom) = source.data.get("custom_metadata").filter(|custom| custom.is_object())
        && there.get("custom_metadata") != Some(custom)
    {
        body.insert("custom_metadata".to_owned(), custom.clone());
    }
    for (name, usual) in [("cas_required", json!(false)), ("delete_version_after", json!("0s"))] {
        let Some(value) = source.data.get(name) else { continue };
        if there.get(name).unwrap_or(&usual) != value {
            body.insert(name.to_owned(), value.clone());
        }
    }
    if body.is_empty() {
        return Ok(false);
    }
    to.put("metadata", &body.into())?;
    Ok(true)
}

fn set_limit(to: End<'_>, limit: u64) -> anyhow::Result<()> {
    to.put("metadata", &json!({ "max_versions": limit })).map(|_| ())
}
