//! KV v2: what its routes share: paths, rights, recording, and the JSON of a version. One file per
//! route lies below.

pub(super) mod config;
pub(super) mod data;
pub(super) mod list;
pub(super) mod metadata;
pub(super) mod versions;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use shared::audit::{Fact, Op, Outcome};
use shared::limits;
use shared::log::{Custom, Secret};
use shared::path::{SecretPath, demand_nfc};
use shared::time::Time;

use crate::engine::{Change, WriteError};
use host::clock;

use super::caller::Peer;
use super::context::Api;
use super::envelope::{self, ApiAnswer, Source};
use super::error::ApiFault;
use super::request::{Call, Verb};
use super::tokens::Right;
use machine::findings::access_command;
use machine::local;

/// Returns the path of a request that only looks: what breaks the grammar is not there.
fn looked_at(mount: &str, name: &str) -> Result<SecretPath, ApiFault> {
    format!("{mount}/{name}").parse().map_err(|_| ApiFault::Missing)
}

/// Returns the path of a request that its caller may make to change a secret.
async fn changed(call: &Call<'_>, op: Op) -> Result<SecretPath, ApiFault> {
    let name = call.name();
    if name.is_empty() || name.ends_with('/') {
        return Err(ApiFault::Folder);
    }
    let path: SecretPath = format!("{}/{name}", call.mount).parse()?;
    // The name of a secret that this may make is to be in Unicode's form NFC.
    if matches!(op, Op::LocalPut | Op::LocalPatch | Op::LocalMetaSet) {
        demand_nfc(path.as_str())?;
    }
    require(call, op, &path, Right::Write).await?;
    Ok(path)
}

/// Lets the caller go on if they have a right on `path`, or records that they have not.
async fn require(call: &Call<'_>, op: Op, path: &SecretPath, right: Right) -> Result<(), ApiFault> {
    if call.may(path, right) {
        return Ok(());
    }
    record(call, op, path, None, Outcome::Denied).await?;
    if !call.caller.scope.covers(path, right) {
        return Err(ApiFault::Denied);
    }
    if call.api.engine.is_substituted() {
        return Err(ApiFault::Substituted);
    }
    Err(no_grant(call, path, right).map_or(ApiFault::Denied, ApiFault::NoGrant))
}

/// Says which command would give this machine the right, and where to run it, to those who may know
/// all that it may.
fn no_grant(call: &Call<'_>, path: &SecretPath, right: Right) -> Option<String> {
    if !call.caller.scope.is_all() {
        return None;
    }
    call.api.engine.own(|_, own| {
        let more = |wanted: bool| wanted.then_some(path);
        let is_write = right == Right::Write;
        let command =
            access_command(&own.name, (&own.read, more(!is_write)), (&own.write, more(is_write)));
        format!(
            "`{}` has no grant to {} it; an admin gives one, where the admin key is: `{command}`",
            own.name,
            if is_write { "write" } else { "read" },
        )
    })
}

/// Writes a change of a secret; what is not there is passed over.
async fn apply(call: &Call<'_>, path: &SecretPath, change: Change) -> Result<ApiAnswer, ApiFault> {
    match call.api.engine.write(call.caller.by.clone(), vec![change]).await {
        Ok(_) => settled(call, path).await,
        Err(WriteError::Missing) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(envelope::no_content())
}

/// Waits until this host's own targets have what was written, as whoever wrote it may read them
/// next; not for long, and not for callers who do not care.
async fn settled(call: &Call<'_>, path: &SecretPath) {
    let waits = !call.headers.contains_key(HeaderName::from_static(local::NO_WAIT));
    if let Some(targets) = call.api.targets.as_ref().filter(|_| waits) {
        targets.settled(path).await;
    }
}

/// Refuses a setting that keeps more versions than the log allows; Vault would take it.
fn kept(versions: Option<u64>) -> Result<Option<u64>, ApiFault> {
    match versions {
        Some(over) if over > limits::VERSIONS => Err(ApiFault::Refused(format!(
            "max_versions is {over}: at most {} are kept",
            limits::VERSIONS
        ))),
        fits => Ok(fits),
    }
}

/// Notes an access; it is on disk when this returns, so the answer may go out.
async fn record(
    call: &Call<'_>,
    op: Op,
    path: &SecretPath,
    ver: Option<u64>,
    result: Outcome,
) -> Result<(), ApiFault> {
    let path = Some(path.clone());
    let access = Fact { path, ver, result, ..Fact::new(op).by(&call.caller.by) };
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
    let (by, path, result) = (api.gate.asker(peer).await, Some(path), Outcome::Denied);
    let access = Fact { path, result, ..Fact::new(Op::LocalRead).by(&by) };
    api.engine.record(access).await.map_err(|why| ApiFault::Broken(format!("{why:#}")))
}

/// A version, as the log shows it now.
struct Seen {
    ver: u64,
    /// Whether its content may be read.
    live: bool,
    /// What clients are told of it beside its content.
    metadata: Value,
}

/// Looks a version up, the newest if none is named.
fn look(call: &Call<'_>, path: &SecretPath, ver: Option<u64>) -> Option<Seen> {
    let now = call.api.engine.time_for_ages();
    call.api.engine.state(|state| {
        let secret = state.secret(path)?;
        let (ver, version) = match ver {
            Some(ver) => (ver, secret.version(ver)?),
            None => secret.current()?,
        };
        let metadata = json!({
            "created_time": version.created.to_string(),
            "custom_metadata": custom(secret),
            "deletion_time": or_empty(version.deletion_time()),
            "destroyed": version.destroyed,
            "version": ver,
        });
        Some(Seen { ver, live: version.is_live(now), metadata })
    })
}

/// Shows a time; an absent one as `""`, never as null.
fn or_empty(time: Option<Time>) -> String {
    time.map(|time| time.to_string()).unwrap_or_default()
}

/// Returns the custom metadata; `None` where there is none.
fn custom(secret: &Secret) -> Option<&Custom> {
    Some(&secret.custom).filter(|custom| !custom.is_empty())
}

/// Says how old an answer may be while the server is away.
fn with_age(call: &Call<'_>, mut answer: ApiAnswer) -> ApiAnswer {
    if let Some(synced_at) = call.api.engine.away() {
        // The calendar counts for what an earlier process knew only: it may be set meanwhile.
        let seconds = match call.api.engine.heard().0 {
            Some(up) => clock::since_boot().saturating_sub(up).as_secs(),
            None => clock::now().seconds_since(synced_at),
        };
        let name = HeaderName::from_static(local::CACHE_AGE);
        answer.headers_mut().insert(name, HeaderValue::from(seconds));
    }
    answer
}

/// Answers what lies at the edges of KV v2's paths, `below` a mount: unknown kinds, and paths that
/// end where no secret can be; `None` for what its route answers.
pub(super) fn edge(below: &str, verb: Verb) -> Result<Option<ApiAnswer>, ApiFault> {
    let (kind, name) = match below.split_once('/') {
        Some((kind, name)) => (kind, Some(name)),
        None => (below, None),
    };
    let folder = name.is_some_and(|name| name.is_empty() || name.ends_with('/'));
    let versioned = matches!(kind, "data" | "metadata" | "delete" | "undelete" | "destroy");
    Ok(match verb {
        Verb::List if kind == "metadata" => None,
        Verb::List if matches!(kind, "data" | "config") => Some(invalid_path(verb)),
        Verb::Write | Verb::Patch if versioned && folder => return Err(ApiFault::Folder),
        _ if versioned && name.is_none() => {
            let text = "Non-listing operations on the root of a K/V v2 mount are not supported.";
            Some(envelope::warning(StatusCode::NOT_FOUND, Source::Nobody, text))
        }
        Verb::Read | Verb::Delete if kind == "data" && folder => Some(invalid_path(verb)),
        Verb::Delete if kind == "metadata" && name == Some("") => Some(envelope::no_content()),
        _ if versioned || kind == "subkeys" && name.is_some() => None,
        _ if kind == "config" && name.is_none() => None,
        _ => Some(invalid_path(verb)),
    })
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
        "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API \
         endpoints to use. If using the Vault CLI, use 'vault kv {command}' for this operation."
    );
    envelope::warning(StatusCode::NOT_FOUND, Source::Nobody, &text)
}
