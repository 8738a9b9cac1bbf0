//! Takes a secret over to another place with all its versions: for `kv mv`, `kv cp` and `import`
//! from a Vault. Done again, it goes on where it stopped, and changes nothing where all is there.
//!
//! Versions keep their order. What is deleted or destroyed cannot be read: an empty version stands
//! for it, deleted or destroyed as well. Numbers start anew behind those that the place has used
//! before.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::history::{Version, versions};
use super::route::Route;
use super::secret::{Secret, context};
use crate::client::Client;
use host::hint::Failure;

/// A secret's place at one API.
#[derive(Clone, Copy)]
pub struct End<'a> {
    /// The API.
    pub client: &'a Client,
    /// The place there.
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

/// Reads what is kept about a secret; `None` if there is none.
///
/// # Errors
/// No answer, or an error of the API.
pub fn kept(end: End<'_>) -> anyhow::Result<Option<Kept>> {
    let path = end.route.api("metadata");
    let answer = end.client.send(Method::GET, &path, &[], None);
    let secret =
        answer.and_then(Secret::of_read).map_err(|error| context(error, "reading", &path))?;
    let data = secret.and_then(|secret| secret.data);
    Ok(data.map(|data| Kept { versions: versions(&data), data }))
}

/// Tells whether there is a secret.
///
/// # Errors
/// As [`kept`].
pub fn is_there(end: End<'_>) -> anyhow::Result<bool> {
    if end.route.is_versioned() { Ok(kept(end)?.is_some()) } else { Ok(content(end, 0)?.is_some()) }
}

/// Reads a version's content, `None` where it is deleted, destroyed or not there; 0 is the newest.
///
/// # Errors
/// No answer, or an error of the API.
pub fn content(end: End<'_>, n: u64) -> anyhow::Result<Option<Map<String, Value>>> {
    let path = end.route.api("data");
    let query = [("version", n.to_string())];
    let query = if end.route.is_versioned() && n > 0 { &query[..] } else { &[] };
    let answer = end.client.send(Method::GET, &path, query, None);
    let secret =
        answer.and_then(Secret::of_read).map_err(|error| context(error, "reading", &path))?;
    let Some(secret) = secret else { return Ok(None) };
    Ok(if end.route.is_versioned() { secret.part("data").cloned() } else { secret.data })
}

/// Takes all versions over, and what is kept about the secret.
///
/// # Errors
/// If there is no such secret, if the other place holds something else, or the API's errors.
pub fn all(from: End<'_>, to: End<'_>) -> anyhow::Result<Done> {
    let source = if from.route.is_versioned() { kept(from)? } else { single(from)? };
    let Some(source) = source else {
        let path = from.route.logical();
        return Err(Failure::remote(format!("No value found at {path}")).into());
    };
    let target = kept(to)?;
    let mut done = Done { settings: settings(&source, target.as_ref(), to)?, ..Done::default() };
    let target = target.unwrap_or_default();
    let base = base(&target);
    let mut newest = target.versions.last().map_or(0, |newest| newest.n);
    let (limit, mut room) = (limit_of(&source), limit_of(&target).unwrap_or(0));
    // All versions fit, and one more, so that none is dropped before all are there.
    let wanted = source.versions.len() as u64 + 1;
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
    kept.data.get("max_versions").and_then(Value::as_u64)
}

/// Returns the number behind which the versions start: what the place has used before it was
/// forgotten.
fn base(target: &Kept) -> u64 {
    let pruned = target.data.get("oldest_version").and_then(Value::as_u64).unwrap_or(0) > 1;
    match target.versions.first() {
        Some(first) if !pruned => first.n - 1,
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
    let content = if version.destroyed { None } else { content(from, version.n)? };
    let there = target.versions.iter().find(|there| there.n == n);
    let before = target.versions.last().map_or(0, |newest| newest.n);
    let n = match there {
        Some(there) => {
            if let (Some(content), false) = (&content, there.destroyed) {
                let held = self::content(to, n)?;
                if held.is_some_and(|held| held != *content) {
                    return Err(other(to, n).into());
                }
            }
            done.same += 1;
            n
        }
        // Pruned since, and so taken over once.
        None if n <= before => {
            done.same += 1;
            return Ok(newest);
        }
        None => {
            done.written += 1;
            write(to, content.as_ref(), newest)?
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
    let path = to.route.api(kind);
    let answer = to.client.put(&path, &json!({ "versions": [n] }));
    answer
        .and_then(crate::client::Answer::success)
        .map_err(|error| context(error, "writing data to", &path))?;
    Ok(newest)
}

fn other(to: End<'_>, n: u64) -> Failure {
    let path = to.route.logical();
    Failure::remote(format!("`{path}` already holds something else as version {n}"))
        .hint("name another place for it, or move that one away with `vault kv mv`")
}

/// Writes a version behind version `cas`, or the first one; returns its number.
fn write(to: End<'_>, content: Option<&Map<String, Value>>, cas: u64) -> anyhow::Result<u64> {
    let path = to.route.api("data");
    let empty = Map::new();
    let body = json!({ "data": content.unwrap_or(&empty), "options": { "cas": cas } });
    let answer = to.client.put(&path, &body);
    let answer = answer.and_then(crate::client::Answer::success);
    let answer = answer.map_err(|error| context(error, "writing data to", &path))?;
    let data = Secret::of(&answer)?.and_then(|secret| secret.data).unwrap_or_default();
    Ok(data.get("version").and_then(Value::as_u64).unwrap_or(cas + 1))
}

/// A secret of a mount without versions, as its only one.
fn single(from: End<'_>) -> anyhow::Result<Option<Kept>> {
    let version = |_| Version {
        n: 0,
        created: String::new(),
        deletion: String::new(),
        destroyed: false,
        by: None,
    };
    let found = content(from, 0)?;
    Ok(found.map(version).map(|version| Kept { versions: vec![version], data: Map::new() }))
}

/// Sets what differs, but for the number of versions kept; tells whether anything did.
fn settings(source: &Kept, target: Option<&Kept>, to: End<'_>) -> anyhow::Result<bool> {
    let empty = Map::new();
    let there = target.map_or(&empty, |kept| &kept.data);
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
    put(to, body)?;
    Ok(true)
}

fn set_limit(to: End<'_>, limit: u64) -> anyhow::Result<()> {
    put(to, Map::from_iter([("max_versions".to_owned(), limit.into())]))
}

fn put(to: End<'_>, settings: Map<String, Value>) -> anyhow::Result<()> {
    let path = to.route.api("metadata");
    let answer = to.client.put(&path, &Value::Object(settings));
    let answer = answer.and_then(crate::client::Answer::success);
    answer.map_err(|error| context(error, "writing data to", &path))?;
    Ok(())
}
