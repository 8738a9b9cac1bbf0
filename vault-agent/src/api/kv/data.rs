//! `data/`: reading, writing and patching a version.

use axum::http::{HeaderName, StatusCode};
use serde_json::Value;
use shared::audit::{Op, Outcome};
use shared::blob::Kind;
use shared::limits;
use shared::path::SecretPath;
use shared::plaintext::Plaintext;
use shared::time::Time;

use crate::engine::{Change, Content, PutContent, ReadError, WriteError};
use machine::binary;

use super::super::envelope::{self, Answer, Source};
use super::super::error::Fault;
use super::super::json::{self, Fields};
use super::super::request::Call;
use super::{
    Metadata, Seen, look, looked_at, made, record, require_read, require_write, with_age,
    write_metadata,
};
use machine::local;

/// Answers a version's content and metadata.
pub(in super::super) async fn read(
    call: &Call<'_>,
    mount: &str,
    path: &str,
) -> Result<Answer, Fault> {
    let path = looked_at(mount, path)?;
    let (seen, content) = open(call, Op::LocalRead, &path).await?;
    let size = content.expose().len() + seen.metadata.len() + 32;
    let answer = envelope::data(Source::Kv, size, |out| {
        out.extend_from_slice(b"{\"data\":");
        write_content(out, &content);
        out.extend_from_slice(b",\"metadata\":");
        out.extend_from_slice(&seen.metadata);
        out.push(b'}');
    });
    Ok(with_age(call, answer))
}

/// Finds and opens the version that the request names, and records that it was read. A deleted or
/// destroyed one is a fault that carries the answer: 404 with its metadata.
pub(super) async fn open(
    call: &Call<'_>,
    op: Op,
    path: &SecretPath,
) -> Result<(Seen, Content), Fault> {
    require_read(call, op.clone(), path).await?;
    let ver = call.query.number("version")?;
    let Some(seen) = look(call, path, ver) else {
        record(call, op, path, ver, Outcome::Missing).await?;
        return Err(Fault::Missing);
    };
    if !seen.live {
        let gone = gone(call, &op, &seen);
        record(call, op, path, Some(seen.ver), Outcome::Deleted).await?;
        return Err(gone);
    }
    let engine = &call.api.engine;
    let offline = call.headers.contains_key(HeaderName::from_static(local::OFFLINE));
    let content = if offline {
        engine.content_here(path, Some(seen.ver)).await
    } else {
        engine.content(path, Some(seen.ver)).await
    };
    match content {
        Ok(content) => {
            record(call, op, path, Some(seen.ver), Outcome::Ok).await?;
            Ok((seen, content))
        }
        Err(ReadError::Deleted { .. } | ReadError::Destroyed { .. }) => {
            let gone = gone(call, &op, &seen);
            record(call, op, path, Some(seen.ver), Outcome::Deleted).await?;
            Err(gone)
        }
        Err(error) => {
            record(call, op, path, Some(seen.ver), Outcome::Unavailable).await?;
            Err(match error {
                ReadError::Offline { ver, .. } if offline => Fault::NotCached(ver),
                error => error.into(),
            })
        }
    }
}

/// Answers 404 with the metadata: clients take it for a success without content.
fn gone(call: &Call<'_>, op: &Op, seen: &Seen) -> Fault {
    let status = StatusCode::NOT_FOUND;
    let answer = envelope::data_with(status, Source::Nobody, seen.metadata.len() + 40, |out| {
        let name = if *op == Op::LocalSubkeys { "subkeys" } else { "data" };
        out.extend_from_slice(format!("{{\"{name}\":null,\"metadata\":").as_bytes());
        out.extend_from_slice(&seen.metadata);
        out.push(b'}');
    });
    Fault::Answered(Box::new(with_age(call, answer)))
}

/// Writes content as a JSON object; that of a secret that is one file as its only field.
fn write_content(out: &mut Vec<u8>, content: &Content) {
    match content.kind {
        Kind::Kv => out.extend_from_slice(content.expose()),
        Kind::Raw => out.extend_from_slice(binary::file_json(content.expose()).expose()),
    }
}

/// Writes a new version.
pub(in super::super) async fn write(
    call: &mut Call<'_>,
    mount: &str,
    path: &str,
) -> Result<Answer, Fault> {
    let path = made(mount, path)?;
    require_write(call, Op::LocalPut, &path).await?;
    let mut fields = call.fields().await?;
    if fields.get("data").is_none() {
        return Err(Fault::NoData);
    }
    let data = fields.take_map("data")?.unwrap_or_default();
    let cas = cas(&mut fields)?;
    let (kind, content) = match binary::only_file(&data) {
        Some(bytes) => (Kind::Raw, bytes),
        None => {
            let text = serde_json::to_vec(&data).map_err(|why| Fault::BadJson(why.to_string()))?;
            (Kind::Kv, Plaintext::new(text))
        }
    };
    json::wipe(Value::Object(data));
    if content.len() > limits::CONTENT {
        return Err(Fault::ContentTooLarge(Some(content.len())));
    }
    put(call, path, kind, PutContent::Whole(content), cas).await
}

/// Writes a new version: the newest with a merge patch on it.
pub(in super::super) async fn patch(
    call: &mut Call<'_>,
    mount: &str,
    path: &str,
) -> Result<Answer, Fault> {
    call.require_merge_patch()?;
    let path = made(mount, path)?;
    require_write(call, Op::LocalPatch, &path).await?;
    let mut fields = call.fields().await?;
    if fields.get("data").is_none() {
        return Err(Fault::NoData);
    }
    // Null takes everything away (RFC 7396, section 2).
    let patch = fields.take_map("data")?.map_or(Value::Null, Value::Object);
    let cas = cas(&mut fields)?;
    put(call, path, Kind::Kv, PutContent::Merge(patch), cas).await
}

/// Reads `options.cas`, a number or its text. A number that no version has matches none.
fn cas(fields: &mut Fields) -> Result<Option<u64>, Fault> {
    let Some(options) = fields.take_map("options")? else { return Ok(None) };
    let Some(cas) = options.get("cas") else { return Ok(None) };
    let cas = json::integer(cas).ok_or(Fault::CasMalformed)?;
    Ok(Some(u64::try_from(cas).unwrap_or(u64::MAX)))
}

async fn put(
    call: &Call<'_>,
    path: SecretPath,
    kind: Kind,
    content: PutContent,
    cas: Option<u64>,
) -> Result<Answer, Fault> {
    let is_patch = matches!(content, PutContent::Merge(_));
    let change = Change::Put { path: path.clone(), kind, content, cas };
    let written = match call.api.engine.write_by(call.caller.who.clone(), vec![change]).await {
        Ok(written) => written,
        Err(WriteError::Missing) if is_patch => return Err(Fault::NothingToPatch),
        Err(WriteError::Deleted { ver }) => return Err(unpatchable(call, &path, ver)),
        Err(error) => return Err(error.into()),
    };
    let ver = written.versions.first().map_or(0, |(_, ver)| *ver);
    let metadata = match look(call, &path, Some(ver)) {
        Some(seen) => seen.metadata,
        None => as_written(call, &path, ver, written.time),
    };
    Ok(envelope::data(Source::Kv, metadata.len(), |out| out.extend_from_slice(&metadata)))
}

/// Returns the metadata of a version that others' writes, even in its own entry, have pruned since.
fn as_written(call: &Call<'_>, path: &SecretPath, ver: u64, time: Time) -> Vec<u8> {
    call.api.engine.state(|state| {
        let custom = state.secret(path).map(|secret| secret.custom.clone()).unwrap_or_default();
        let deletion = state.delete_after(path).map(|micros| time.plus(micros));
        let mut metadata = Vec::new();
        write_metadata(
            &mut metadata,
            &Metadata { ver, created: time, deletion, destroyed: false },
            &custom,
        );
        metadata
    })
}

/// Answers a patch of a deleted version: 404 with its metadata.
fn unpatchable(call: &Call<'_>, path: &SecretPath, ver: u64) -> Fault {
    let Some(seen) = look(call, path, Some(ver)) else { return Fault::Missing };
    let status = StatusCode::NOT_FOUND;
    let answer = envelope::data_with(status, Source::Nobody, seen.metadata.len(), |out| {
        out.extend_from_slice(&seen.metadata);
    });
    Fault::Answered(Box::new(answer))
}
