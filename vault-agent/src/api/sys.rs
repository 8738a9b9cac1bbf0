//! `sys/`: what clients ask before they trust an address. There is no seal here: the answers say
//! so.

pub(super) mod mounts;

use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::hash::Hash;
use shared::path::SecretPath;
use uuid::Uuid;

use host::clock;

use super::context::Api;
use super::envelope::{self, ApiAnswer};
use super::error::ApiFault;
use super::request::{Call, Query};
use super::tokens::Right;

/// The Vault whose KV v2 this is: clients choose what to send by it.
const VAULT: &str = "1.21.0";

/// Returns that Vault's version, and this program's.
fn version() -> String {
    format!("{VAULT}+agent.{}", host::version::own())
}

/// Answers `sys/health`: always active, whatever the query makes of other states.
pub(super) fn health(api: &Api, query: Query<'_>) -> Result<ApiAnswer, ApiFault> {
    let status = match query.get("activecode") {
        None => StatusCode::OK,
        Some(code) => code.parse().map_err(|_| ApiFault::BadQuery)?,
    };
    let (name, id) = cluster(api);
    let mut answer = envelope::plain(&json!({
        "initialized": true,
        "sealed": false,
        "standby": false,
        "performance_standby": false,
        "replication_performance_mode": "disabled",
        "replication_dr_mode": "disabled",
        "server_time_utc": clock::now().as_secs(),
        "version": version(),
        "enterprise": false,
        "cluster_name": name,
        "cluster_id": id,
        "echo_duration_ms": 0,
        "clock_skew_ms": 0,
        "replication_primary_canary_age_ms": 0,
    }));
    *answer.status_mut() = status;
    Ok(answer)
}

/// Answers `sys/seal-status`.
pub(super) fn seal_status(api: &Api) -> ApiAnswer {
    let (name, id) = cluster(api);
    envelope::plain(&json!({
        "type": "shamir",
        "initialized": true,
        "sealed": false,
        "t": 1,
        "n": 1,
        "progress": 0,
        "nonce": "",
        "version": version(),
        "build_date": "",
        "migration": false,
        "cluster_name": name,
        "cluster_id": id,
        "recovery_seal": false,
        "storage_type": "agent",
    }))
}

/// Answers `sys/leader`.
pub(super) fn leader() -> ApiAnswer {
    envelope::plain(&json!({
        "ha_enabled": false,
        "is_self": false,
        "active_time": "0001-01-01T00:00:00Z",
        "leader_address": "",
        "leader_cluster_address": "",
        "performance_standby": false,
        "performance_standby_last_remote_wal": 0,
    }))
}

/// Answers `sys/init`.
pub(super) fn init() -> ApiAnswer {
    envelope::plain(&json!({ "initialized": true }))
}

/// Returns the vault's name, and its id in the form of a UUID.
fn cluster(api: &Api) -> (String, String) {
    let name = api.engine.state(|state| state.name().to_string());
    (name, uuid(&api.engine.vault()))
}

/// Shows the first half of a hash in the form of a UUID.
fn uuid(hash: &Hash) -> String {
    Uuid::from_slice(&hash.as_bytes()[..16]).expect("a UUID has 16 bytes").to_string()
}

/// Answers what the caller may do with each of some API paths.
pub(super) async fn capabilities(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let fields = call.fields().await?;
    let mut paths = fields.texts("paths")?;
    if paths.is_empty() {
        paths = fields.texts("path")?;
    }
    if paths.is_empty() {
        return Err(ApiFault::Refused("paths must be supplied".to_owned()));
    }
    let words = |path: &String| (path.clone(), allowed(call, path.trim_start_matches('/')));
    let mut answer: Value = paths.iter().map(words).collect();
    // With one path alone, as older clients expect it.
    if let [path] = paths.as_slice() {
        answer["capabilities"] = answer[path].clone();
    }
    Ok(envelope::doubled(&answer))
}

/// Returns Vault's words for what the caller may do with an API path.
fn allowed(call: &Call<'_>, path: &str) -> Vec<&'static str> {
    let known = |(mount, _): &(&str, &str)| call.api.has_mount(mount);
    let Some((mount, below)) = path.split_once('/').filter(known) else {
        let open = path.starts_with("sys/internal/ui/mounts")
            || path.starts_with("auth/token/") && path.ends_with("-self");
        return if open { vec!["read"] } else { vec!["deny"] };
    };
    let (kind, rest) = below.split_once('/').unwrap_or((below, ""));
    let full = format!("{mount}/{rest}");
    let mut words = Vec::new();
    if kind == "metadata" && full.ends_with('/') && call.caller.scope.covers_folder(&full) {
        words.push("list");
    }
    if let Ok(path) = full.parse::<SecretPath>() {
        let (write, read) = (call.may(&path, Right::Write), call.may(&path, Right::Read));
        words.extend_from_slice(match kind {
            "data" if write => &["create", "delete", "patch", "update"],
            "metadata" if write => &["create", "delete", "list", "patch", "update"],
            "delete" | "undelete" | "destroy" if write => &["update"],
            _ => &[],
        });
        if read && matches!(kind, "data" | "metadata" | "subkeys") {
            words.push("read");
        }
    }
    if words.is_empty() {
        words.push("deny");
    }
    words.sort_unstable();
    words.dedup();
    words
}
