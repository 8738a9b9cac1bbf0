//! `metadata/`: settings, custom metadata and versions of a secret.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use shared::audit::{Op, Outcome};
use shared::limits;
use shared::log::{Secret, Version};

use crate::engine::{Change, CustomChange, MetaMerge, Settings, WriteError};

use super::super::envelope::{self, ApiAnswer, Source};
use super::super::error::ApiFault;
use super::super::json::Fields;
use super::super::request::{Call, Verb};
use super::super::tokens::Right;
use super::{apply, changed, custom, kept, looked_at, or_empty, record, require, with_age};
use shared::duration::Shown;

/// Answers settings and versions.
pub(in super::super) async fn read(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let path = looked_at(call.mount, call.name().trim_end_matches('/'))?;
    require(call, Op::LocalMetadata, &path, Right::Look).await?;
    let found = call.api.engine.state(|state| state.secret(&path).map(Described::of));
    let outcome = if found.is_some() { Outcome::Ok } else { Outcome::Missing };
    record(call, Op::LocalMetadata, &path, None, outcome).await?;
    let described = found.ok_or(ApiFault::Missing)?;
    Ok(with_age(call, envelope::data(Source::Kv, described)))
}

/// What clients know as the metadata of a secret.
#[derive(Serialize)]
struct Described {
    #[serde(flatten)]
    settings: Value,
    /// By number: as texts, 10 would come before 2.
    versions: BTreeMap<u64, Value>,
}

impl Described {
    fn of(secret: &Secret) -> Self {
        let current = secret.current().map_or(0, |(ver, _)| ver);
        // 0 until the first one was pruned.
        let oldest = secret.first().filter(|first| *first > secret.base + 1).unwrap_or(0);
        let settings = json!({
            "cas_required": secret.cas_required,
            "created_time": secret.created.to_string(),
            "current_version": current,
            "custom_metadata": custom(secret),
            "delete_version_after": Shown(secret.delete_after).to_string(),
            "max_versions": secret.max_versions,
            "oldest_version": oldest,
            "updated_time": secret.updated.to_string(),
        });
        let version = |(ver, version): (u64, &Version)| {
            let described = json!({
                "created_time": version.created.to_string(),
                "deletion_time": or_empty(version.deletion_time()),
                "destroyed": version.destroyed,
            });
            (ver, described)
        };
        Self { settings, versions: secret.versions().map(version).collect() }
    }
}

/// Changes the settings that are given, and makes a secret without versions if there is none. A
/// patch needs one, and changes custom metadata key by key; null takes away.
pub(in super::super) async fn write(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let is_patch = call.verb == Verb::Patch;
    if is_patch {
        call.require_merge_patch()?;
    }
    let path = changed(call, Op::LocalMetaSet).await?;
    let mut fields = call.fields().await?;
    let max_versions =
        if is_patch { fields.natural("max_versions")? } else { fields.count("max_versions")? };
    let settings = Settings {
        max_versions: kept(max_versions)?,
        cas_required: fields.flag("cas_required")?,
        delete_after: fields.delay("delete_version_after")?,
    };
    let custom = custom_change(&mut fields, is_patch)?;
    let nothing = settings == Settings::default() && matches!(custom, CustomChange::Keep);
    if nothing && !is_patch {
        return Ok(envelope::no_content());
    }
    let merge = Change::MetaMerge(MetaMerge { path, must_exist: is_patch, settings, custom });
    match call.api.engine.write(call.caller.by.clone(), vec![merge]).await {
        Ok(_) => Ok(envelope::no_content()),
        Err(WriteError::Missing) if is_patch => Err(ApiFault::NothingToPatch),
        Err(error) => Err(error.into()),
    }
}

/// Drops the secret with all its versions; nothing if there is none.
pub(in super::super) async fn delete(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let path = changed(call, Op::LocalForget).await?;
    apply(call, &path.clone(), Change::Forget { path }).await
}

/// Reads custom metadata: texts; numbers and booleans become texts, in a patch null takes away.
fn custom_change(fields: &mut Fields, is_patch: bool) -> Result<CustomChange, ApiFault> {
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
                return Err(ApiFault::Refused(format!(
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
fn check(texts: &BTreeMap<String, Option<String>>) -> Result<(), ApiFault> {
    let set: Vec<_> = texts.iter().filter_map(|(key, text)| Some((key, text.as_ref()?))).collect();
    if set.len() > limits::CUSTOM_KEYS {
        return Err(ApiFault::several(&[format!(
            "{PREFIX}: payload must contain at most {} keys, provided {}",
            limits::CUSTOM_KEYS,
            set.len()
        )]));
    }
    let mut faults = Vec::new();
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
    if faults.is_empty() { Ok(()) } else { Err(ApiFault::several(&faults)) }
}
