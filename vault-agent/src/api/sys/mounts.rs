//! Mounts: lists, the preflight that every `vault kv` command makes, and making one.

use serde_json::{Value, json};
use shared::hash::Hash;
use shared::limits;
use shared::path::{Mount, SecretPath, demand_nfc};

use crate::engine::{Change, Settings};

use super::super::context::Api;
use super::super::envelope::{self, ApiAnswer, Source};
use super::super::error::ApiFault;
use super::super::json::Fields;
use super::super::request::Call;

/// Answers `sys/mounts`.
pub(in super::super) fn all(api: &Api) -> ApiAnswer {
    envelope::doubled(&described(api))
}

/// Answers `sys/mounts/NAME`.
pub(in super::super) fn one(api: &Api, mount: &str) -> Result<ApiAnswer, ApiFault> {
    if !api.has_mount(mount) {
        return Err(ApiFault::Refused(format!("No secret engine mount at {mount}/")));
    }
    Ok(envelope::doubled(&describe(api, mount)))
}

/// Answers `sys/internal/ui/mounts` to who shows no token: as in Vault, that there is nothing to
/// see.
pub(in super::super) fn none_visible() -> ApiAnswer {
    envelope::data(Source::Nobody, json!({"auth": {}, "secret": {}}))
}

/// Answers `sys/internal/ui/mounts`: what a web page may show.
pub(in super::super) fn visible(api: &Api) -> ApiAnswer {
    let auth = json!({"token/": {"type": "token", "description": "", "options": null}});
    envelope::data(Source::System, json!({"auth": auth, "secret": described(api)}))
}

/// Answers the preflight for a path: the mount it lies below. Clients take a 404 for KV version 1.
pub(in super::super) fn preflight(api: &Api, path: &str) -> Result<ApiAnswer, ApiFault> {
    let mount = path.split('/').next().unwrap_or_default();
    if !api.has_mount(mount) {
        return Err(ApiFault::Preflight(format!("{path}/")));
    }
    let mut description = describe(api, mount);
    description["path"] = Value::from(format!("{mount}/"));
    Ok(envelope::data(Source::System, description))
}

/// Answers `sys/mounts/NAME/tune`.
pub(in super::super) fn tuning(api: &Api, mount: &str) -> Result<ApiAnswer, ApiFault> {
    if !api.has_mount(mount) {
        return Err(ApiFault::Refused(format!("cannot fetch sysview for path \"{mount}/\"")));
    }
    let mut tuning = lease_times();
    tuning["description"] = Value::from("");
    tuning["options"] = json!({"version": "2"});
    Ok(envelope::doubled(&tuning))
}

/// Changes nothing: the one thing `kv enable-versioning` asks for is so already.
pub(in super::super) async fn tune(
    call: &mut Call<'_>,
    mount: &str,
) -> Result<ApiAnswer, ApiFault> {
    call.require_all()?;
    let fields = call.fields().await?;
    if !call.api.has_mount(mount) {
        let text = format!("tune of path \"{mount}/\" failed: no mount entry found");
        return Err(ApiFault::Refused(text));
    }
    require_version_2(fields.get("options"))?;
    require_no_description(&fields)?;
    Ok(envelope::no_content())
}

/// Makes a mount: `vault secrets enable -path=NAME kv-v2`.
pub(in super::super) async fn make(call: &mut Call<'_>, name: &str) -> Result<ApiAnswer, ApiFault> {
    call.require_all()?;
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
    require_no_description(&fields)?;
    if call.api.has_mount(name) {
        return Err(ApiFault::Refused(format!("path is already in use at {name}/")));
    }
    let make = Change::Mount(mount, Settings::default());
    call.api.engine.write(call.caller.by.clone(), vec![make]).await?;
    Ok(envelope::no_content())
}

/// Drops a mount with all its secrets: `vault secrets disable NAME`. The version counters stay in
/// the log; a mount that is not there is passed over, as in Vault.
pub(in super::super) async fn disable(call: &Call<'_>, name: &str) -> Result<ApiAnswer, ApiFault> {
    call.require_all()?;
    let Ok(mount) = name.parse::<Mount>() else { return Ok(envelope::no_content()) };
    let engine = &call.api.engine;
    let paths: Option<Vec<SecretPath>> = engine.state(|state| {
        state.mounts().contains_key(name).then(|| {
            state.secrets_below(&format!("{name}/")).map(|(path, _)| path.clone()).collect()
        })
    });
    let Some(paths) = paths else { return Ok(envelope::no_content()) };
    // First, for it needs the right to the whole mount: a refusal has dropped nothing.
    let who = || call.caller.by.clone();
    engine.write(who(), vec![Change::Mount(mount.clone(), Settings::default())]).await?;
    for chunk in paths.chunks(limits::OPS) {
        let forget = |path: &SecretPath| Change::Forget { path: path.clone() };
        engine.write(who(), chunk.iter().map(forget).collect()).await?;
    }
    engine.write(who(), vec![Change::MountDrop(mount)]).await?;
    Ok(envelope::no_content())
}

/// The log has no room for it, and it is not to be lost without a word.
fn require_no_description(fields: &Fields) -> Result<(), ApiFault> {
    if fields.text("description")?.is_none_or(str::is_empty) {
        return Ok(());
    }
    Err(ApiFault::Refused("a mount has no description here\nhint: leave it out".to_owned()))
}

fn require_version_2(options: Option<&Value>) -> Result<(), ApiFault> {
    let version = options.and_then(|options| options.get("version"));
    if version.is_none_or(|version| version.is_null() || *version == "2" || *version == 2) {
        return Ok(());
    }
    Err(ApiFault::Refused("only version 2 of the KV secrets engine is here".to_owned()))
}

/// Returns all mounts as `sys/mounts` shows them.
fn described(api: &Api) -> Value {
    let names: Vec<Mount> = api.engine.state(|state| state.mounts().keys().cloned().collect());
    names.iter().map(|name| (format!("{name}/"), describe(api, name.as_str()))).collect()
}

fn describe(api: &Api, name: &str) -> Value {
    let id = Hash::of(&[api.engine.vault().as_bytes(), name.as_bytes()]);
    json!({
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
    })
}

fn lease_times() -> Value {
    json!({"default_lease_ttl": 0, "force_no_cache": false, "max_lease_ttl": 0})
}
