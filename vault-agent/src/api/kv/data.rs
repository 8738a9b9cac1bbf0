//! `data/`: reading, writing and patching a version.

use axum::http::{HeaderName, StatusCode};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use shared::audit::{Op, Outcome};
use shared::blob::Kind;
use shared::limits;
use shared::path::SecretPath;
use shared::plaintext::Plaintext;
use shared::time::Time;

use crate::engine::{Change, Content, PutContent, ReadError, WriteError};
use machine::binary;

use super::super::envelope::{self, ApiAnswer, Source};
use super::super::error::ApiFault;
use super::super::json::{self, Fields};
use super::super::request::Call;
use super::{
    GoTime, Metadata, Seen, custom, look, looked_at, made, record, require_read, require_write,
    with_age,
};
use machine::local;

#[derive(Serialize)]
struct Shown<'a> {
    /// Null where it is deleted or destroyed.
    data: Option<&'a RawValue>,
    metadata: &'a Metadata,
}

/// A version that was asked for.
pub(super) enum Opened {
    Live(Metadata, Content),
    /// Deleted or destroyed: answered 404 with the metadata, which clients take for a success
    /// without content.
    Gone(Metadata),
}

/// Answers a version's content and metadata.
pub(in super::super) async fn read(
    call: &Call<'_>,
    mount: &str,
    path: &str,
) -> Result<ApiAnswer, ApiFault> {
    let path = looked_at(mount, path)?;
    let (metadata, content) = match open(call, Op::LocalRead, &path).await? {
        Opened::Live(metadata, content) => (metadata, content),
        Opened::Gone(metadata) => {
            let gone = Shown { data: None, metadata: &metadata };
            let answer = envelope::data_with(StatusCode::NOT_FOUND, Source::Nobody, 0, gone);
            return Ok(with_age(call, answer));
        }
    };
    let file;
    let text = match content.kind {
        Kind::Kv => content.expose(),
        // A secret that is one file shows as an object with that file as its only member.
        Kind::Raw => {
            file = binary::file_json(content.expose());
            file.expose()
        }
    };
    let data = serde_json::from_slice(text)
        .map_err(|_| ApiFault::Broken(format!("the content of `{path}` is not JSON")))?;
    let shown = Shown { data: Some(data), metadata: &metadata };
    Ok(with_age(call, envelope::data_with(StatusCode::OK, Source::Kv, text.len(), shown)))
}

/// Finds and opens the version that the request names, and records that it was read.
pub(super) async fn open(call: &Call<'_>, op: Op, path: &SecretPath) -> Result<Opened, ApiFault> {
    require_read(call, op.clone(), path).await?;
    let ver = call.query.number("version")?;
    let Some(seen) = look(call, path, ver) else {
        record(call, op, path, ver, Outcome::Missing).await?;
        return Err(ApiFault::Missing);
    };
    let ver = seen.metadata.version;
    if !seen.live {
        record(call, op, path, Some(ver), Outcome::Deleted).await?;
        return Ok(Opened::Gone(seen.metadata));
    }
    let engine = &call.api.engine;
    let offline = call.headers.contains_key(HeaderName::from_static(local::OFFLINE));
    let content = if offline {
        engine.content_here(path, Some(ver)).await
    } else {
        engine.content(path, Some(ver)).await
    };
    match content {
        Ok(content) => {
            record(call, op, path, Some(ver), Outcome::Ok).await?;
            Ok(Opened::Live(seen.metadata, content))
        }
        Err(ReadError::Deleted { .. } | ReadError::Destroyed { .. }) => {
            record(call, op, path, Some(ver), Outcome::Deleted).await?;
            Ok(Opened::Gone(seen.metadata))
        }
        Err(error) => {
            record(call, op, path, Some(ver), Outcome::Unavailable).await?;
            Err(match error {
                ReadError::Offline { ver, .. } if offline => ApiFault::NotCached(ver),
                error => error.into(),
            })
        }
    }
}

/// Writes a new version.
pub(in super::super) async fn write(
    call: &mut Call<'_>,
    mount: &str,
    path: &str,
) -> Result<ApiAnswer, ApiFault> {
    let path = made(mount, path)?;
    require_write(call, Op::LocalPut, &path).await?;
    let mut fields = call.fields().await?;
    if fields.get("data").is_none() {
        return Err(ApiFault::NoData);
    }
    let data = fields.take_map("data")?.unwrap_or_default();
    let cas = cas(&mut fields)?;
    let (kind, content) = match binary::only_file(&data) {
        Some(bytes) => (Kind::Raw, bytes),
        None => {
            let text =
                serde_json::to_vec(&data).map_err(|why| ApiFault::BadJson(why.to_string()))?;
            (Kind::Kv, Plaintext::new(text))
        }
    };
    json::wipe(Value::Object(data));
    if content.len() > limits::CONTENT {
        return Err(ApiFault::ContentTooLarge(Some(content.len())));
    }
    put(call, path, kind, PutContent::Whole(content), cas).await
}

/// Writes a new version: the newest with a merge patch on it.
pub(in super::super) async fn patch(
    call: &mut Call<'_>,
    mount: &str,
    path: &str,
) -> Result<ApiAnswer, ApiFault> {
    call.require_merge_patch()?;
    let path = made(mount, path)?;
    require_write(call, Op::LocalPatch, &path).await?;
    let mut fields = call.fields().await?;
    if fields.get("data").is_none() {
        return Err(ApiFault::NoData);
    }
    // Null takes everything away (RFC 7396, section 2).
    let patch = fields.take_map("data")?.map_or(Value::Null, Value::Object);
    let cas = cas(&mut fields)?;
    put(call, path, Kind::Kv, PutContent::Merge(patch), cas).await
}

/// Reads `options.cas`, a number or its text. A number that no version has matches none.
fn cas(fields: &mut Fields) -> Result<Option<u64>, ApiFault> {
    let Some(options) = fields.take_map("options")? else { return Ok(None) };
    let Some(cas) = options.get("cas") else { return Ok(None) };
    let cas = json::integer(cas).ok_or(ApiFault::CasMalformed)?;
    Ok(Some(u64::try_from(cas).unwrap_or(u64::MAX)))
}

async fn put(
    call: &Call<'_>,
    path: SecretPath,
    kind: Kind,
    content: PutContent,
    cas: Option<u64>,
) -> Result<ApiAnswer, ApiFault> {
    let is_patch = matches!(content, PutContent::Merge(_));
    let change = Change::Put { path: path.clone(), kind, content, cas };
    let written = match call.api.engine.write(call.caller.who.clone(), vec![change]).await {
        Ok(written) => written,
        Err(WriteError::Missing) if is_patch => return Err(ApiFault::NothingToPatch),
        Err(WriteError::Deleted { ver }) => return unpatchable(call, &path, ver),
        Err(error) => return Err(error.into()),
    };
    let ver = written.versions.first().map_or(0, |(_, ver)| *ver);
    let metadata = match look(call, &path, Some(ver)) {
        Some(seen) => seen.metadata,
        None => as_written(call, &path, ver, written.time),
    };
    Ok(envelope::data(Source::Kv, metadata))
}

/// Returns the metadata of a version that others' writes, even in its own entry, have pruned since.
fn as_written(call: &Call<'_>, path: &SecretPath, ver: u64, time: Time) -> Metadata {
    call.api.engine.state(|state| Metadata {
        created_time: GoTime(Some(time)),
        custom_metadata: state.secret(path).and_then(custom),
        deletion_time: GoTime(state.delete_after(path).map(|micros| time.plus(micros))),
        destroyed: false,
        version: ver,
    })
}

/// Answers a patch of a deleted version: 404 with its metadata.
fn unpatchable(call: &Call<'_>, path: &SecretPath, ver: u64) -> Result<ApiAnswer, ApiFault> {
    let Seen { metadata, .. } = look(call, path, Some(ver)).ok_or(ApiFault::Missing)?;
    Ok(envelope::data_with(StatusCode::NOT_FOUND, Source::Nobody, 0, metadata))
}
