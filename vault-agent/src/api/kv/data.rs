//! `data/`, and `subkeys/`, its keys alone: reading, writing and patching a version.

use std::sync::Arc;

use axum::http::HeaderName;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use shared::audit::{Op, Outcome};
use shared::blob::Kind;
use shared::limits;
use shared::path::SecretPath;
use shared::plaintext::Plaintext;
use shared::time::Time;

use crate::engine::{Change, PutContent, ReadError, WriteError};
use machine::binary;
use machine::scan::told::Told;

use super::super::envelope::{self, ApiAnswer, Source};
use super::super::error::ApiFault;
use super::super::json::{self, Fields};
use super::super::reasons;
use super::super::request::Call;
use super::super::tokens::Right;
use super::{Seen, changed, custom, look, looked_at, or_empty, record, require, settled, with_age};
use machine::local;

/// Answers a version's content and metadata.
pub(in super::super) async fn read(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    #[derive(Serialize)]
    struct Shown<'a> {
        data: Option<&'a RawValue>,
        metadata: Value,
    }
    let path = looked_at(call.mount, call.name())?;
    let (metadata, content) = open(call, Op::LocalRead, &path).await?;
    let data = content.as_deref().map(|content| parse(&path, content)).transpose()?;
    Ok(shown(call, data.is_some(), Shown { data, metadata }))
}

/// Answers the structure of a version, down to `depth` levels; 0 is all of them.
pub(in super::super) async fn subkeys(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let path = looked_at(call.mount, call.name())?;
    let depth = match call.query.integer("depth")?.map(u64::try_from) {
        None | Some(Ok(0)) => u64::MAX,
        Some(depth) => depth.unwrap_or(1),
    };
    let (metadata, content) = open(call, Op::LocalSubkeys, &path).await?;
    let mut keys = content.as_deref().map(|content| parse(&path, content)).transpose()?;
    if let Some(keys) = &mut keys {
        strip(keys, depth);
    }
    let live = keys.is_some();
    Ok(shown(call, live, json!({ "metadata": metadata, "subkeys": keys })))
}

fn parse<'a, T: Deserialize<'a>>(path: &SecretPath, content: &'a Plaintext) -> Result<T, ApiFault> {
    serde_json::from_slice(content.expose())
        .map_err(|_| ApiFault::Broken(format!("the content of `{path}` is not JSON")))
}

/// Answers what was found; without content 404, which clients take for a success nevertheless.
fn shown(call: &Call<'_>, live: bool, found: impl Serialize) -> ApiAnswer {
    with_age(call, if live { envelope::data(Source::Kv, found) } else { envelope::gone(found) })
}

/// Finds and opens the version that the request names, and records that it was read. Returns its
/// metadata, and its content as JSON unless it is deleted or destroyed.
async fn open(
    call: &Call<'_>,
    op: Op,
    path: &SecretPath,
) -> Result<(Value, Option<Arc<Plaintext>>), ApiFault> {
    require(call, op.clone(), path, Right::Read).await?;
    let ver = call.query.number("version")?;
    let Some(Seen { ver, live, metadata }) = look(call, path, ver) else {
        record(call, op, path, ver, Outcome::Missing).await?;
        return Err(ApiFault::Missing);
    };
    if !live {
        record(call, op, path, Some(ver), Outcome::Deleted).await?;
        return Ok((metadata, None));
    }
    let engine = &call.api.engine;
    let offline = call.headers.contains_key(HeaderName::from_static(local::OFFLINE));
    let content = if offline {
        engine.content_here(path, Some(ver)).await
    } else {
        engine.content(path, Some(ver)).await
    };
    let (outcome, found) = match content {
        Ok(content) => (Outcome::Ok, Ok(Some(content))),
        Err(ReadError::Deleted { .. } | ReadError::Destroyed { .. }) => {
            (Outcome::Deleted, Ok(None))
        }
        Err(ReadError::Offline { ver, .. }) if offline => {
            (Outcome::Unavailable, Err(ApiFault::NotCached(ver)))
        }
        Err(error) => (Outcome::Unavailable, Err(error.into())),
    };
    let found = found.map(|content| {
        content.map(|content| match content.kind {
            Kind::Kv => content.bytes,
            // A secret that is one file shows as an object with that file as its only member.
            Kind::Raw => Arc::new(binary::file_json(content.expose())),
        })
    });
    if let (Some(_), Ok(Some(content))) = (&call.caller.by.reason, &found) {
        let data = parse(path, content)?;
        let told = refuse_told_value(call, &op, &data).await;
        json::wipe(Value::Object(data));
        told?;
    }
    record(call, op, path, Some(ver), outcome).await?;
    Ok((metadata, found?))
}

/// Refuses a reason that tells a value which does not lie here yet: that of another version, or one
/// that is to be written.
async fn refuse_told_value(
    call: &Call<'_>,
    op: &Op,
    data: &Map<String, Value>,
) -> Result<(), ApiFault> {
    let Some(reason) = &call.caller.by.reason else { return Ok(()) };
    let told = Told::new(reason.as_str());
    if data.values().any(|value| names(&told, value)) {
        return Err(reasons::refused(call, op).await);
    }
    Ok(())
}

/// Tells whether a text names any of the values in a value.
fn names(told: &Told<'_>, value: &Value) -> bool {
    match value {
        Value::String(value) => told.names(value.as_bytes()),
        Value::Number(value) => told.names(value.to_string().as_bytes()),
        Value::Array(all) => all.iter().any(|value| names(told, value)),
        Value::Object(all) => match binary::of(value) {
            Some(bytes) => told.names(bytes.expose()),
            None => all.values().any(|value| names(told, value)),
        },
        Value::Null | Value::Bool(_) => false,
    }
}

/// Writes a new version.
pub(in super::super) async fn write(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let path = changed(call, Op::LocalPut).await?;
    let mut fields = call.fields().await?;
    if fields.get("data").is_none() {
        return Err(ApiFault::NoData);
    }
    let data = fields.take_map("data")?.unwrap_or_default();
    let cas = cas(&mut fields)?;
    refuse_told_value(call, &Op::LocalPut, &data).await?;
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
pub(in super::super) async fn patch(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    call.require_merge_patch()?;
    let path = changed(call, Op::LocalPatch).await?;
    let mut fields = call.fields().await?;
    if fields.get("data").is_none() {
        return Err(ApiFault::NoData);
    }
    // Null takes everything away (RFC 7396, section 2).
    let data = fields.take_map("data")?;
    let cas = cas(&mut fields)?;
    if let Some(data) = &data {
        refuse_told_value(call, &Op::LocalPatch, data).await?;
    }
    let patch = data.map_or(Value::Null, Value::Object);
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
    let written = match call.api.engine.write(call.caller.by.clone(), vec![change]).await {
        Ok(written) => written,
        Err(WriteError::Missing) if is_patch => return Err(ApiFault::NothingToPatch),
        Err(WriteError::Deleted { ver }) => {
            let seen = look(call, &path, Some(ver)).ok_or(ApiFault::Missing)?;
            return Ok(envelope::gone(seen.metadata));
        }
        Err(error) => return Err(error.into()),
    };
    settled(call, &path).await;
    let ver = written.versions.first().map_or(0, |(_, ver)| *ver);
    let metadata = match look(call, &path, Some(ver)) {
        Some(seen) => seen.metadata,
        None => as_written(call, &path, ver, written.time),
    };
    Ok(envelope::data(Source::Kv, metadata))
}

/// Returns the metadata of a version that others' writes, even in its own entry, have pruned since.
fn as_written(call: &Call<'_>, path: &SecretPath, ver: u64, time: Time) -> Value {
    call.api.engine.state(|state| {
        json!({
            "created_time": time.to_string(),
            "custom_metadata": state.secret(path).and_then(custom),
            "deletion_time": or_empty(state.delete_after(path).map(|micros| time.plus(micros))),
            "destroyed": false,
            "version": ver,
        })
    })
}

/// Turns every value into null, but maps that are not empty and not too deep.
fn strip(keys: &mut Map<String, Value>, depth: u64) {
    for (_, value) in keys.iter_mut() {
        if let Value::Object(below) = value
            && depth > 1
            && !below.is_empty()
        {
            strip(below, depth - 1);
        } else {
            json::wipe(value.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_tells_a_value_is_noticed() {
        let inner = json!(["short", { "c": "inner-value" }]);
        let bytes = json!({ "$base64": "aHVudGVyMy1odW50ZXIz" });
        let data = json!({ "a": "hunter2-hunter2", "b": inner, "n": 12345678, "f": bytes });
        for (text, expected) in [
            ("set it to hunter2-hunter2", true),
            ("inner-value is old", true),
            ("short", false),
            ("deploy 12345678", true),
            ("deploy 1234567", false),
            ("hunter3-hunter3", true),
            ("hunter2", false),
        ] {
            let told = Told::new(text);
            assert!(!names(&told, &json!("          ")), "{text}");
            assert_eq!(names(&told, &data), expected, "{text}");
        }
    }

    #[test]
    fn values_go_and_keys_stay() {
        let text = r#"{"a":1,"b":{"c":{"d":"x"},"e":[1],"f":{}}}"#;
        for (depth, expected) in [
            (1, r#"{"a":null,"b":null}"#),
            (2, r#"{"a":null,"b":{"c":null,"e":null,"f":null}}"#),
            (3, r#"{"a":null,"b":{"c":{"d":null},"e":null,"f":null}}"#),
            (u64::MAX, r#"{"a":null,"b":{"c":{"d":null},"e":null,"f":null}}"#),
        ] {
            let mut keys = serde_json::from_str(text).unwrap();
            strip(&mut keys, depth);
            assert_eq!(Value::Object(keys).to_string(), expected, "{depth}");
        }
    }
}
