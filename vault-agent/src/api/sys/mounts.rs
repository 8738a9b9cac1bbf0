//! Mounts: lists, the preflight that every `vault kv` command makes, and making one.

use serde_json::{Map, Value, json};
use shared::hash::Hash;
use shared::limits;
use shared::path::{Mount, SecretPath, demand_nfc};

use crate::engine::{Change, Settings};

use super::super::context::Api;
use super::super::envelope::{self, ApiAnswer, Source};
use super::super::error::ApiFault;
use super::super::request::Call;

/// Answers `sys/mounts`.
pub(in super::super) fn all(api: &Api) -> ApiAnswer {
    envelope::doubled(&described(api))
}

/// Answers `sys/mounts/NAME`.
pub(in super::super) fn one(api: &Api, mount: &str) -> Result<ApiAnswer, ApiFault> {
    match describe(api, mount) {
        Some(description) => Ok(envelope::doubled(&description)),
        None => Err(ApiFault::Refused(format!("No secret engine mount at {mount}/"))),
    }
}

/// Answers `sys/internal/ui/mounts` to who shows no token: as in Vault, that there is nothing to
/// see.
pub(in super::super) fn none_visible() -> ApiAnswer {
    envelope::data(Source::Nobody, json!({"auth": {}, "secret": {}}))
}

/// Answers `sys/internal/ui/mounts`: what a web page may show.
pub(in super::super) fn visible(api: &Api) -> ApiAnswer {
    let auth = json!({"token/": {"type": "token", "description": "", "options": null}});
    let secret: Map<String, Value> = described(api);
    envelope::data(Source::System, json!({"auth": auth, "secret": secret}))
}

/// Answers the preflight for a path: the mount it lies below. Clients take a 404 for KV version 1.
pub(in super::super) fn preflight(api: &Api, path: &str) -> Result<ApiAnswer, ApiFault> {
    let mount = path.split('/').next().unwrap_or_default();
    let Some(mut description) = describe(api, mount) else {
        return Err(ApiFault::Preflight(format!("{path}/")));
    };
    description.insert("path".to_owned(), Value::from(format!("{mount}/")));
    Ok(envelope::data(Source::System, description))
}

/// Answers `sys/mounts/NAME/tune`.
pub(in super::super) fn tuning(api: &Api, mount: &str) -> Result<ApiAnswer, ApiFault> {
    if describe(api, mount).is_none() {
        return Err(ApiFault::Refused(format!("cannot fetch sysview for path \"{mount}/\"")));
    }
    let mut tuning = lease_times();
    tuning.insert("description".to_owned(), Value::from(""));
    tuning.insert("options".to_owned(), json!({"version": "2"}));
    Ok(envelope::doubled(&tuning))
}

/// Changes nothing: the one thing `kv enable-versioning` asks for is so already.
pub(in super::super) async fn tune(
    call: &mut Call<'_>,
    mount: &str,
) -> Result<ApiAnswer, ApiFault> {
    require_all(call)?;
    let fields = call.fields().await?;
    if describe(call.api, mount).is_none() {
        let text = format!("tune of path \"{mount}/\" failed: no mount entry found");
        return Err(ApiFault::Refused(text));
    }
    require_version_2(fields.get("options"))?;
    Ok(envelope::no_content())
}

/// Makes a mount: `vault secrets enable -path=NAME kv-v2`.
pub(in super::super) async fn make(call: &mut Call<'_>, name: &str) -> Result<ApiAnswer, ApiFault> {
    require_all(call)?;
    let fields = call.fields().await?;
    let mount: Mount = name.parse::<Mount>()?;
    demand_nfc(name)?;
    match fields.text("type")? {
        Some("kv" | "kv-v2") => {}
        None | Some("") => {
            return Err(ApiFault::Refused("backend type must be specified as a string".to_owned()));
        }
        Some(other) => {
            return Err(ApiFault::Refused(format!(
                "plugin not found in the catalog: {other}\nhint: only `kv-v2` is here"
            )));
        }
    }
    require_version_2(fields.get("options"))?;
    if call.api.engine.state(|state| state.mounts().contains_key(name)) {
        return Err(ApiFault::Refused(format!("path is already in use at {name}/")));
    }
    let make = Change::Mount(mount, Settings::default());
    call.api.engine.write(call.caller.who.clone(), vec![make]).await?;
    Ok(envelope::no_content())
}

/// Drops a mount with all its secrets: `vault secrets disable NAME`. The version counters stay in
/// the log; a mount that is not there is passed over, as in Vault.
pub(in super::super) async fn disable(call: &Call<'_>, name: &str) -> Result<ApiAnswer, ApiFault> {
    require_all(call)?;
    let Ok(mount) = name.parse::<Mount>() else { return Ok(envelope::no_content()) };
    let engine = &call.api.engine;
    let paths: Option<Vec<SecretPath>> = engine.state(|state| {
        state.mounts().contains_key(name).then(|| {
            state.secrets_below(&format!("{name}/")).map(|(path, _)| path.clone()).collect()
        })
    });
    let Some(paths) = paths else { return Ok(envelope::no_content()) };
    // First, for it needs the right to the whole mount: a refusal has dropped nothing.
    let who = || call.caller.who.clone();
    engine.write(who(), vec![Change::Mount(mount.clone(), Settings::default())]).await?;
    for chunk in paths.chunks(limits::OPS) {
        let forget = |path: &SecretPath| Change::Forget { path: path.clone() };
        engine.write(who(), chunk.iter().map(forget).collect()).await?;
    }
    engine.write(who(), vec![Change::MountDrop(mount)]).await?;
    Ok(envelope::no_content())
}

fn require_all(call: &Call<'_>) -> Result<(), ApiFault> {
    if call.caller.scope.is_all() { Ok(()) } else { Err(ApiFault::Denied) }
}

fn require_version_2(options: Option<&Value>) -> Result<(), ApiFault> {
    let version = options.and_then(|options| options.get("version"));
    let is_2 = match version {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text == "2",
        Some(Value::Number(number)) => number.as_u64() == Some(2),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => false,
    };
    if is_2 {
        return Ok(());
    }
    Err(ApiFault::Refused("only version 2 of the KV secrets engine is here".to_owned()))
}

/// Returns all mounts as `sys/mounts` shows them.
fn described(api: &Api) -> Map<String, Value> {
    let names: Vec<Mount> = api.engine.state(|state| state.mounts().keys().cloned().collect());
    names
        .iter()
        .filter_map(|name| Some((format!("{name}/"), Value::Object(describe(api, name.as_str())?))))
        .collect()
}

/// Describes a mount, if there is one of that name.
fn describe(api: &Api, name: &str) -> Option<Map<String, Value>> {
    if !api.engine.state(|state| state.mounts().contains_key(name)) {
        return None;
    }
    let id = Hash::of(&[api.engine.vault().as_bytes(), name.as_bytes()]);
    let description = json!({
        "accessor": format!("kv_{}", &id.to_string()[56..]),
        "config": lease_times(),
        "deprecation_status": "supported",
        "description": "",
        "external_entropy_access": false,
        "local": false,
        "options": {"version": "2"},
        "plugin_version": "",
        "running_plugin_version": "",
        "running_sha256": "",
        "seal_wrap": false,
        "type": "kv",
        "uuid": super::uuid(&id),
    });
    match description {
        Value::Object(description) => Some(description),
        _ => None,
    }
}

fn lease_times() -> Map<String, Value> {
    Map::from_iter([
        ("default_lease_ttl".to_owned(), Value::from(0)),
        ("force_no_cache".to_owned(), Value::from(false)),
        ("max_lease_ttl".to_owned(), Value::from(0)),
    ])
}
