//! KV v2: what its routes share: paths, rights, recording, and the JSON of a version. One file per
//! route lies below.

pub(super) mod config;
pub(super) mod data;
pub(super) mod list;
pub(super) mod metadata;
pub(super) mod subkeys;
pub(super) mod versions;

use std::collections::BTreeMap;
use std::io::Write as _;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use shared::audit::{Fact, Op, Outcome};
use shared::log::{Secret, Version};
use shared::path::{SecretPath, demand_nfc};
use shared::time::Time;

use host::clock;

use super::Api;
use super::caller::Peer;
use super::envelope::{self, Answer, Source};
use super::error::Fault;
use super::request::{Call, Verb};
use super::tokens::Right;
use machine::local;

/// Returns the path of a request that only looks: what breaks the grammar is not there.
fn looked_at(mount: &str, path: &str) -> Result<SecretPath, Fault> {
    format!("{mount}/{path}").parse().map_err(|_| Fault::Missing)
}

/// Returns the path of a request that changes, or says what is wrong with it.
fn changed(mount: &str, path: &str) -> Result<SecretPath, Fault> {
    if path.is_empty() || path.ends_with('/') {
        return Err(Fault::Folder);
    }
    Ok(format!("{mount}/{path}").parse::<SecretPath>()?)
}

/// As [`changed`], for a request that may make a secret: its name is to be in Unicode's form NFC.
fn made(mount: &str, path: &str) -> Result<SecretPath, Fault> {
    let path = changed(mount, path)?;
    demand_nfc(path.as_str())?;
    Ok(path)
}

/// Lets the caller read `path`, or records that they may not.
async fn require_read(call: &Call<'_>, op: Op, path: &SecretPath) -> Result<(), Fault> {
    if call.caller.scope.covers(path, Right::Read) && call.api.engine.may_read(path) {
        return Ok(());
    }
    record(call, op, path, None, Outcome::Denied).await?;
    Err(Fault::Denied)
}

/// Lets the caller see the metadata of `path`, which whoever writes it needs as well.
async fn require_look(call: &Call<'_>, op: Op, path: &SecretPath) -> Result<(), Fault> {
    let engine = &call.api.engine;
    if call.caller.scope.covers(path, Right::Read)
        && (engine.may_read(path) || engine.may_write(path))
    {
        return Ok(());
    }
    record(call, op, path, None, Outcome::Denied).await?;
    Err(Fault::Denied)
}

/// Lets the caller change `path`, or records that he may not.
async fn require_write(call: &Call<'_>, op: Op, path: &SecretPath) -> Result<(), Fault> {
    if call.caller.scope.covers(path, Right::Write) && call.api.engine.may_write(path) {
        return Ok(());
    }
    record(call, op, path, None, Outcome::Denied).await?;
    Err(Fault::Denied)
}

/// Notes an access; it is on disk when this returns, so the answer may go out.
async fn record(
    call: &Call<'_>,
    op: Op,
    path: &SecretPath,
    ver: Option<u64>,
    result: Outcome,
) -> Result<(), Fault> {
    let (who, path) = (Some(call.caller.who.clone()), Some(path.clone()));
    let access = Fact { who, path, ver, result, ..Fact::new(op) };
    call.api.engine.record(access).await.map_err(|why| Fault::Broken(format!("{why:#}")))
}

/// Notes that somebody who was not let in asked for a secret.
pub(super) async fn record_stranger(api: &Api, peer: &Peer, path: &str) -> Result<(), Fault> {
    let Some((mount, below)) = path.split_once('/') else { return Ok(()) };
    let Some((kind, path)) = below.split_once('/') else { return Ok(()) };
    if !matches!(kind, "data" | "metadata" | "subkeys" | "delete" | "undelete" | "destroy") {
        return Ok(());
    }
    let Ok(path) = looked_at(mount, path) else { return Ok(()) };
    let (who, path) = (Some(peer.who.clone()), Some(path));
    let access = Fact { who, path, result: Outcome::Denied, ..Fact::new(Op::LocalRead) };
    api.engine.record(access).await.map_err(|why| Fault::Broken(format!("{why:#}")))
}

/// One version, as the log shows it now.
struct Seen {
    ver: u64,
    /// Whether its content may be read.
    live: bool,
    /// The JSON object that clients know as `metadata`.
    metadata: Vec<u8>,
}

/// Looks a version up, the newest if none is named.
fn look(call: &Call<'_>, path: &SecretPath, ver: Option<u64>) -> Option<Seen> {
    let now = clock::now();
    call.api.engine.state(|state| {
        let secret = state.secret(path)?;
        let (ver, version) = match ver {
            Some(ver) => (ver, secret.version(ver)?),
            None => secret.current()?,
        };
        let mut metadata = Vec::with_capacity(256);
        write_metadata(&mut metadata, &Metadata::of(ver, version), &secret.custom);
        Some(Seen { ver, live: version.is_live(now), metadata })
    })
}

/// What clients are told of a version beside its content.
struct Metadata {
    ver: u64,
    created: Time,
    deletion: Option<Time>,
    destroyed: bool,
}

impl Metadata {
    fn of(ver: u64, version: &Version) -> Self {
        let deletion = version.deletion_time();
        Self { ver, created: version.created, deletion, destroyed: version.destroyed }
    }
}

/// Writes the metadata of a version as reads and writes answer it.
fn write_metadata(out: &mut Vec<u8>, version: &Metadata, custom: &BTreeMap<String, String>) {
    out.extend_from_slice(b"{\"created_time\":");
    write_time(out, Some(version.created));
    out.extend_from_slice(b",\"custom_metadata\":");
    write_custom(out, custom);
    out.extend_from_slice(b",\"deletion_time\":");
    write_time(out, version.deletion);
    let Metadata { ver, destroyed, .. } = version;
    // Writing to memory cannot fail.
    let _ = write!(out, ",\"destroyed\":{destroyed},\"version\":{ver}}}");
}

/// Writes a time as text, an absent one as `""`: never as null.
fn write_time(out: &mut Vec<u8>, time: Option<Time>) {
    out.push(b'"');
    if let Some(time) = time {
        let _ = write!(out, "{time}");
    }
    out.push(b'"');
}

/// Writes custom metadata, null where there is none.
fn write_custom(out: &mut Vec<u8>, custom: &BTreeMap<String, String>) {
    if custom.is_empty() {
        out.extend_from_slice(b"null");
    } else {
        let _ = serde_json::to_writer(out, custom);
    }
}

/// Returns the number of the newest version of a secret's own, 0 if it has none.
fn newest(secret: &Secret) -> u64 {
    secret.current().map_or(0, |(ver, _)| ver)
}

/// Says how old an answer may be while the server is away.
fn with_age(call: &Call<'_>, mut answer: Answer) -> Answer {
    if let Some(synced_at) = call.api.engine.away() {
        let seconds = clock::now().seconds_since(synced_at);
        let name = HeaderName::from_static(local::CACHE_AGE);
        answer.headers_mut().insert(name, HeaderValue::from(seconds));
    }
    answer
}

/// Answers what lies at the edges of KV v2's paths, `below` a mount: unknown kinds, and paths that
/// end where no secret can be; `None` for what its route answers.
pub(super) fn edge(below: &str, verb: Verb) -> Option<Result<Answer, Fault>> {
    let (kind, path) = match below.split_once('/') {
        Some((kind, path)) => (kind, Some(path)),
        None => (below, None),
    };
    let folder = path.is_some_and(|path| path.is_empty() || path.ends_with('/'));
    match (kind, verb) {
        ("metadata", Verb::List) => None,
        ("data" | "config", Verb::List) => Some(Ok(invalid_path(verb))),
        ("data" | "metadata" | "delete" | "undelete" | "destroy", Verb::Write | Verb::Patch)
            if folder =>
        {
            Some(Err(Fault::Folder))
        }
        ("data" | "metadata" | "delete" | "undelete" | "destroy", _) if path.is_none() => {
            Some(Ok(root()))
        }
        ("data", Verb::Read | Verb::Delete) if folder => Some(Ok(invalid_path(verb))),
        ("metadata" | "subkeys", Verb::Read) if path == Some("") => Some(Err(Fault::Missing)),
        ("metadata", Verb::Delete) if path == Some("") => Some(Ok(envelope::no_content())),
        ("config", _) if path.is_none() => None,
        ("data" | "metadata" | "subkeys" | "delete" | "undelete" | "destroy", _)
            if path.is_some() =>
        {
            None
        }
        _ => Some(Ok(invalid_path(verb))),
    }
}

/// Answers a request to the root of a mount that does not list.
fn root() -> Answer {
    let text = "Non-listing operations on the root of a K/V v2 mount are not supported.";
    envelope::warning(StatusCode::NOT_FOUND, Source::Nobody, text)
}

/// Answers a request to a path that KV v2 does not have: mostly a client of version 1.
fn invalid_path(verb: Verb) -> Answer {
    let command = match verb {
        Verb::Read | Verb::Head => "get",
        Verb::List => "list",
        Verb::Write => "put",
        Verb::Patch => "patch",
        Verb::Delete => "delete",
    };
    let text = format!(
        "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use. If using the Vault CLI, use 'vault kv {command}' for this operation."
    );
    envelope::warning(StatusCode::NOT_FOUND, Source::Nobody, &text)
}
