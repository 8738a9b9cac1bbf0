//! KV v2: what its routes share: paths, rights, recording, and the JSON of a version. One file per
//! route lies below.

pub(super) mod config;
pub(super) mod data;
pub(super) mod list;
pub(super) mod metadata;
pub(super) mod subkeys;
pub(super) mod versions;

use std::collections::BTreeMap;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use serde::{Serialize, Serializer};
use shared::audit::{Fact, Op, Outcome};
use shared::log::{Secret, Version};
use shared::path::{SecretPath, demand_nfc};
use shared::time::Time;

use host::clock;

use super::caller::Peer;
use super::context::Api;
use super::envelope::{self, ApiAnswer, Source};
use super::error::ApiFault;
use super::request::{Call, Verb};
use super::tokens::Right;
use machine::local;

/// Returns the path of a request that only looks: what breaks the grammar is not there.
fn looked_at(mount: &str, path: &str) -> Result<SecretPath, ApiFault> {
    format!("{mount}/{path}").parse().map_err(|_| ApiFault::Missing)
}

/// Returns the path of a request that changes, or says what is wrong with it.
fn changed(mount: &str, path: &str) -> Result<SecretPath, ApiFault> {
    if path.is_empty() || path.ends_with('/') {
        return Err(ApiFault::Folder);
    }
    Ok(format!("{mount}/{path}").parse::<SecretPath>()?)
}

/// As [`changed`], for a request that may make a secret: its name is to be in Unicode's form NFC.
fn made(mount: &str, path: &str) -> Result<SecretPath, ApiFault> {
    let path = changed(mount, path)?;
    demand_nfc(path.as_str())?;
    Ok(path)
}

/// Lets the caller read `path`, or records that they may not.
async fn require_read(call: &Call<'_>, op: Op, path: &SecretPath) -> Result<(), ApiFault> {
    if call.caller.scope.covers(path, Right::Read) && call.api.engine.may_read(path) {
        return Ok(());
    }
    record(call, op, path, None, Outcome::Denied).await?;
    Err(ApiFault::Denied)
}

/// Lets the caller see the metadata of `path`, which whoever writes it needs as well.
async fn require_look(call: &Call<'_>, op: Op, path: &SecretPath) -> Result<(), ApiFault> {
    let engine = &call.api.engine;
    if call.caller.scope.covers(path, Right::Read)
        && (engine.may_read(path) || engine.may_write(path))
    {
        return Ok(());
    }
    record(call, op, path, None, Outcome::Denied).await?;
    Err(ApiFault::Denied)
}

/// Lets the caller change `path`, or records that he may not.
async fn require_write(call: &Call<'_>, op: Op, path: &SecretPath) -> Result<(), ApiFault> {
    if call.caller.scope.covers(path, Right::Write) && call.api.engine.may_write(path) {
        return Ok(());
    }
    record(call, op, path, None, Outcome::Denied).await?;
    Err(ApiFault::Denied)
}

/// Notes an access; it is on disk when this returns, so the answer may go out.
async fn record(
    call: &Call<'_>,
    op: Op,
    path: &SecretPath,
    ver: Option<u64>,
    result: Outcome,
) -> Result<(), ApiFault> {
    let (who, path) = (Some(call.caller.who.clone()), Some(path.clone()));
    let access = Fact { who, path, ver, result, ..Fact::new(op) };
    call.api.engine.record(access).await.map_err(|why| ApiFault::Broken(format!("{why:#}")))
}

/// Notes that somebody who was not let in asked for a secret.
pub(super) async fn record_stranger(api: &Api, peer: &Peer, path: &str) -> Result<(), ApiFault> {
    let Some((mount, below)) = path.split_once('/') else { return Ok(()) };
    let Some((kind, path)) = below.split_once('/') else { return Ok(()) };
    if !matches!(kind, "data" | "metadata" | "subkeys" | "delete" | "undelete" | "destroy") {
        return Ok(());
    }
    let Ok(path) = looked_at(mount, path) else { return Ok(()) };
    let (who, path) = (Some(api.gate.who(peer).await), Some(path));
    let access = Fact { who, path, result: Outcome::Denied, ..Fact::new(Op::LocalRead) };
    api.engine.record(access).await.map_err(|why| ApiFault::Broken(format!("{why:#}")))
}

/// One version, as the log shows it now.
struct Seen {
    /// Whether its content may be read.
    live: bool,
    metadata: Metadata,
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
        let metadata = Metadata::of(ver, version, secret);
        Some(Seen { live: version.is_live(now), metadata })
    })
}

/// What clients are told of a version beside its content.
#[derive(Serialize)]
struct Metadata {
    created_time: GoTime,
    custom_metadata: Custom,
    deletion_time: GoTime,
    destroyed: bool,
    version: u64,
}

impl Metadata {
    fn of(ver: u64, version: &Version, secret: &Secret) -> Self {
        Self {
            created_time: GoTime(Some(version.created)),
            custom_metadata: custom(secret),
            deletion_time: GoTime(version.deletion_time()),
            destroyed: version.destroyed,
            version: ver,
        }
    }
}

/// A time as text; an absent one as `""`, never as null.
struct GoTime(Option<Time>);

impl Serialize for GoTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(time) => serializer.collect_str(time),
            None => serializer.serialize_str(""),
        }
    }
}

/// Custom metadata; null where there is none.
type Custom = Option<BTreeMap<String, String>>;

fn custom(secret: &Secret) -> Custom {
    Some(secret.custom.clone()).filter(|custom| !custom.is_empty())
}

/// Returns the number of the newest version of a secret's own, 0 if it has none.
fn newest(secret: &Secret) -> u64 {
    secret.current().map_or(0, |(ver, _)| ver)
}

/// Says how old an answer may be while the server is away.
fn with_age(call: &Call<'_>, mut answer: ApiAnswer) -> ApiAnswer {
    if let Some(synced_at) = call.api.engine.away() {
        let seconds = clock::now().seconds_since(synced_at);
        let name = HeaderName::from_static(local::CACHE_AGE);
        answer.headers_mut().insert(name, HeaderValue::from(seconds));
    }
    answer
}

/// Answers what lies at the edges of KV v2's paths, `below` a mount: unknown kinds, and paths that
/// end where no secret can be; `None` for what its route answers.
pub(super) fn edge(below: &str, verb: Verb) -> Option<Result<ApiAnswer, ApiFault>> {
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
            Some(Err(ApiFault::Folder))
        }
        ("data" | "metadata" | "delete" | "undelete" | "destroy", _) if path.is_none() => {
            Some(Ok(root()))
        }
        ("data", Verb::Read | Verb::Delete) if folder => Some(Ok(invalid_path(verb))),
        ("metadata" | "subkeys", Verb::Read) if path == Some("") => Some(Err(ApiFault::Missing)),
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
fn root() -> ApiAnswer {
    let text = "Non-listing operations on the root of a K/V v2 mount are not supported.";
    envelope::warning(StatusCode::NOT_FOUND, Source::Nobody, text)
}

/// Answers a request to a path that KV v2 does not have: mostly a client of version 1.
fn invalid_path(verb: Verb) -> ApiAnswer {
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
