//! `metadata/`: settings, custom metadata and versions of a secret.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde_json::Value;
use shared::audit::{Op, Outcome};
use shared::limits;
use shared::log::Secret;

use crate::engine::{Change, CustomChange, MetaMerge, WriteError};

use super::super::envelope::{self, Answer, Source};
use super::super::error::Fault;
use super::super::json::Fields;
use super::super::request::Call;
use super::{
    changed, looked_at, made, newest, record, require_look, require_write, with_age, write_custom,
    write_time,
};
use shared::duration::Shown;

/// Answers settings and versions.
pub(in super::super) async fn read(
    call: &Call<'_>,
    mount: &str,
    path: &str,
) -> Result<Answer, Fault> {
    let path = looked_at(mount, path.trim_end_matches('/'))?;
    require_look(call, Op::LocalMetadata, &path).await?;
    let text = call.api.engine.state(|state| state.secret(&path).map(describe));
    let found = if text.is_some() { Outcome::Ok } else { Outcome::Missing };
    record(call, Op::LocalMetadata, &path, None, found).await?;
    let text = text.ok_or(Fault::Missing)?;
    let answer = envelope::data(Source::Kv, text.len(), |out| out.extend_from_slice(&text));
    Ok(with_age(call, answer))
}

/// Writes the JSON object that clients know as the metadata of a secret.
fn describe(secret: &Secret) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    // Writing to memory cannot fail.
    let _ = write!(out, "{{\"cas_required\":{},\"created_time\":", secret.cas_required);
    write_time(&mut out, Some(secret.created));
    let _ = write!(out, ",\"current_version\":{},\"custom_metadata\":", newest(secret));
    write_custom(&mut out, &secret.custom);
    let _ = write!(
        out,
        ",\"delete_version_after\":\"{}\",\"max_versions\":{},\"oldest_version\":{},\"updated_time\":",
        Shown(secret.delete_after),
        secret.max_versions,
        oldest(secret),
    );
    write_time(&mut out, Some(secret.updated));
    out.extend_from_slice(b",\"versions\":{");
    for (index, (ver, version)) in secret.versions().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(out, "{comma}\"{ver}\":{{\"created_time\":");
        write_time(&mut out, Some(version.created));
        out.extend_from_slice(b",\"deletion_time\":");
        write_time(&mut out, version.deletion_time());
        let _ = write!(out, ",\"destroyed\":{}}}", version.destroyed);
    }
    out.extend_from_slice(b"}}");
    out
}

/// Returns the oldest version kept, 0 until the first one was pruned.
fn oldest(secret: &Secret) -> u64 {
    secret.first().filter(|first| *first > secret.base + 1).unwrap_or(0)
}

/// Changes the settings that are given; makes a secret without versions if there is none.
pub(in super::super) async fn write(
    call: &mut Call<'_>,
    mount: &str,
    path: &str,
) -> Result<Answer, Fault> {
    merge(call, mount, path, false).await
}

/// Changes the settings that are given, custom metadata key by key; null takes away.
pub(in super::super) async fn patch(
    call: &mut Call<'_>,
    mount: &str,
    path: &str,
) -> Result<Answer, Fault> {
    call.require_merge_patch()?;
    merge(call, mount, path, true).await
}

async fn merge(
    call: &mut Call<'_>,
    mount: &str,
    path: &str,
    is_patch: bool,
) -> Result<Answer, Fault> {
    let path = made(mount, path)?;
    require_write(call, Op::LocalMetadata, &path).await?;
    let mut fields = call.fields().await?;
    let max_versions =
        if is_patch { fields.natural("max_versions")? } else { fields.count("max_versions")? };
    let merge = MetaMerge {
        path,
        must_exist: is_patch,
        max_versions,
        cas_required: fields.flag("cas_required")?,
        delete_after: fields.delay("delete_version_after")?,
        custom: custom(&mut fields, is_patch)?,
    };
    let nothing = merge.max_versions.is_none()
        && merge.cas_required.is_none()
        && merge.delete_after.is_none()
        && matches!(merge.custom, CustomChange::Keep);
    if nothing && !is_patch {
        return Ok(envelope::no_content());
    }
    match call.api.engine.write_by(call.caller.who.clone(), vec![Change::MetaMerge(merge)]).await {
        Ok(_) => Ok(envelope::no_content()),
        Err(WriteError::Missing) if is_patch => Err(Fault::NothingToPatch),
        Err(error) => Err(error.into()),
    }
}

/// Drops the secret with all its versions; nothing if there is none.
pub(in super::super) async fn delete(
    call: &Call<'_>,
    mount: &str,
    path: &str,
) -> Result<Answer, Fault> {
    let path = changed(mount, path)?;
    require_write(call, Op::LocalForget, &path).await?;
    match call.api.engine.write_by(call.caller.who.clone(), vec![Change::Forget { path }]).await {
        Ok(_) | Err(WriteError::Missing) => Ok(envelope::no_content()),
        Err(error) => Err(error.into()),
    }
}

/// Reads custom metadata: texts; numbers and booleans become texts, in a patch null takes away.
fn custom(fields: &mut Fields, is_patch: bool) -> Result<CustomChange, Fault> {
    if fields.get("custom_metadata").is_none() {
        return Ok(CustomChange::Keep);
    }
    let Some(map) = fields.take_map("custom_metadata")? else {
        return Ok(CustomChange::Replace(BTreeMap::new()));
    };
    let mut texts = BTreeMap::new();
    for (key, value) in map {
        let text = match value {
            Value::Null if is_patch => None,
            Value::Null => Some(String::new()),
            Value::Bool(yes) => Some(String::from(if yes { "1" } else { "0" })),
            Value::Number(number) => Some(number.to_string()),
            Value::String(text) => Some(text),
            Value::Array(_) | Value::Object(_) => {
                return Err(Fault::Refused(format!(
                    "{PREFIX}: value for key {key:?} is not a text"
                )));
            }
        };
        texts.insert(key, text);
    }
    check(&texts)?;
    if is_patch {
        return Ok(CustomChange::Merge(texts));
    }
    Ok(CustomChange::Replace(
        texts.into_iter().map(|(key, text)| (key, text.unwrap_or_default())).collect(),
    ))
}

/// Tells whether a text has what Go's `unicode.IsPrint` takes for no sign: controls, formats, and
/// every space but the plain one.
fn unprintable(text: &str) -> bool {
    text.chars().filter(|c| !matches!(c, '\'' | '"' | '\\')).any(|c| {
        // Behind a letter, so that marks which combine are not escaped for standing alone.
        let shown = format!("a{c}");
        shown.escape_debug().to_string() != shown
    })
}

const PREFIX: &str = "custom_metadata validation failed";

/// Checks Vault's limits, in Vault's words; the log checks them again.
fn check(texts: &BTreeMap<String, Option<String>>) -> Result<(), Fault> {
    let set: Vec<_> = texts.iter().filter_map(|(key, text)| Some((key, text.as_ref()?))).collect();
    let mut faults = Vec::new();
    if set.len() > limits::CUSTOM_KEYS {
        faults.push(format!(
            "{PREFIX}: payload must contain at most {} keys, provided {}",
            limits::CUSTOM_KEYS,
            set.len()
        ));
        return Err(Fault::several(&faults));
    }
    for (key, text) in set {
        let (key_len, len) = (key.len(), text.len());
        if key_len == 0 || key_len > limits::CUSTOM_KEY {
            faults.push(format!(
                "{PREFIX}: length of key {key:?} is {key_len} but must be 0 < len(key) <= {}",
                limits::CUSTOM_KEY
            ));
        }
        if len == 0 || len > limits::CUSTOM_VALUE {
            faults.push(format!(
                "{PREFIX}: length of value for key {key:?} is {len} but must be 0 < len(value) <= {}",
                limits::CUSTOM_VALUE
            ));
        }
        if unprintable(key) {
            faults.push(format!("{PREFIX}: key {key:?} ({key}) contains unprintable characters"));
        }
        if unprintable(text) {
            faults.push(format!("{PREFIX}: value for key {key:?} contains unprintable characters"));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Fault::several(&faults)) }
}
