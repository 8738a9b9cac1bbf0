//! The status of a Vault that is not ours: sealed or not, as HashiCorp's CLI prints it.

use serde_json::{Map, Value};

use crate::client::{Client, Error};
use crate::context::Global;
use crate::kv::print_field;
use crate::print::{self, Format, go, table};
use host::hint::{Exit, Failure};
use host::shown::Shown;

/// Fields in the order of Go's struct; those of the second list are left out when they are empty.
const ALWAYS: [&str; 9] =
    ["type", "initialized", "sealed", "t", "n", "progress", "nonce", "version", "build_date"];

pub(super) fn run(
    global: &Global,
    client: &Client,
    format: Format,
    field: Option<&str>,
) -> anyhow::Result<Exit> {
    let wrong = |error: Error| {
        let (text, hint) =
            (Shown::own("Error checking seal status: ") + error.shown(), error.hint());
        // 2 means sealed.
        Failure { text, hint, exit: Exit::LOCAL }
    };
    if client.only_shows() {
        client.get::<Value>("sys/seal-status", &[])?;
    }
    let status: Map<String, Value> = client.get("sys/seal-status", &[]).map_err(wrong)?;
    let sealed = status.get("sealed").and_then(Value::as_bool).unwrap_or(false);
    let exit = if sealed { Exit::REMOTE } else { Exit::OK };
    let leader = leader(client)?;
    if let Some(name) = field {
        let mut all = status;
        all.extend(leader.clone());
        let own = leader.get("is_self").and_then(Value::as_bool).unwrap_or(false);
        all.insert("ha_mode".to_owned(), if own { "active" } else { "standby" }.into());
        print_field(global, all.get(name), name)?;
        return Ok(exit);
    }
    match format {
        Format::Table => {
            global.term.line(table::table(&["Key", "Value"], &rows(&status, &leader)))?;
        }
        Format::Json => global.term.document(document(&status, &leader))?,
        other => {
            let document = serde_json::from_str(&document(&status, &leader))?;
            global.term.document(print::data(other, &document)?)?;
        }
    }
    Ok(exit)
}

/// Asks who leads; a sealed Vault does not know, and that is no failure.
fn leader(client: &Client) -> anyhow::Result<Map<String, Value>> {
    let wrong = |text: String| Failure::local(format!("Error checking leader status: {text}"));
    let answer = client.ask("sys/leader", &[]).map_err(|error| wrong(error.to_string()))?;
    let errors = answer.refusal().errors.unwrap_or_default();
    if errors.iter().any(|error| error.contains("Vault is sealed")) {
        return Ok(Map::from_iter([("ha_enabled".to_owned(), true.into())]));
    }
    let leader = answer.success().and_then(|answer| answer.json());
    leader.map_err(|error| wrong(error.to_string()).into())
}

/// Lists names and values, each with whether it is shown.
fn rows(status: &Map<String, Value>, leader: &Map<String, Value>) -> Vec<Vec<String>> {
    let text = |name: &str| status.get(name).map(go::value).unwrap_or_default();
    let of = |name: &str| leader.get(name).map(go::value).unwrap_or_default();
    let has = |name: &str| !text(name).is_empty();
    let is =
        |of: &Map<String, Value>, name: &str| of.get(name).and_then(Value::as_bool) == Some(true);
    let counts = |name: &str| leader.get(name).and_then(Value::as_u64).unwrap_or(0) > 0;
    let (sealed, recovery) = (is(status, "sealed"), is(status, "recovery_seal"));
    let (enabled, own) = (is(leader, "ha_enabled"), is(leader, "is_self"));
    let (ha, cluster) = (enabled && !sealed, has("cluster_name") && has("cluster_id"));
    let shares = if recovery { "Total Recovery Shares" } else { "Total Shares" };
    let progress = format!("{}/{}", text("progress"), text("t"));
    let mode = if own { "active" } else { "standby" }.to_owned();
    let since = ha && own && !of("active_time").starts_with("0001");
    let standby = ha && !own && !of("leader_address").is_empty();
    let all = [
        (true, "Seal Type", text("type")),
        (recovery, "Recovery Seal Type", text("recovery_seal_type")),
        (true, "Initialized", is(status, "initialized").to_string()),
        (true, "Sealed", sealed.to_string()),
        (true, shares, text("n")),
        (true, "Threshold", text("t")),
        (sealed, "Unseal Progress", progress),
        (sealed, "Unseal Nonce", text("nonce")),
        (is(status, "migration"), "Seal Migration in Progress", "true".to_owned()),
        (has("version"), "Version", text("version")),
        (has("build_date"), "Build Date", text("build_date")),
        (has("commit_date"), "Commit Date", text("commit_date")),
        (has("storage_type"), "Storage Type", text("storage_type")),
        (cluster, "Cluster Name", text("cluster_name")),
        (cluster, "Cluster ID", text("cluster_id")),
        (true, "HA Enabled", enabled.to_string()),
        (ha, "HA Cluster", of("leader_cluster_address")),
        (ha, "HA Mode", mode),
        (since, "Active Since", of("active_time")),
        (standby, "Active Node Address", of("leader_address")),
        (counts("raft_committed_index"), "Raft Committed Index", of("raft_committed_index")),
        (counts("raft_applied_index"), "Raft Applied Index", of("raft_applied_index")),
    ];
    let shown = all.into_iter().filter(|(shown, ..)| *shown);
    shown.map(|(_, name, value)| vec![name.to_owned(), value]).collect()
}

fn document(status: &Map<String, Value>, leader: &Map<String, Value>) -> String {
    let json = |value: Option<&Value>| value.map_or("null".to_owned(), go::json);
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text.is_empty() || text.starts_with("0001-01-01T"),
        Value::Array(items) => items.is_empty(),
        Value::Object(_) => false,
    };
    // OpenBao has a commit's date there, and its build date behind all else.
    let bao = status.contains_key("commit_date");
    let mut texts: Vec<(&str, String)> = ALWAYS
        .iter()
        .filter(|name| **name != "build_date" || !bao && status.contains_key(**name))
        .map(|name| (*name, json(status.get(*name))))
        .collect();
    let mut add = |of: &Map<String, Value>, name: &'static str, always: bool| {
        if always || of.get(name).is_some_and(|value| !empty(value)) {
            texts.push((name, json(of.get(name))));
        }
    };
    add(status, "commit_date", bao);
    add(status, "migration", true);
    add(status, "cluster_name", false);
    add(status, "cluster_id", false);
    add(status, "recovery_seal", true);
    add(status, "recovery_seal_type", false);
    add(status, "storage_type", false);
    add(status, "warnings", false);
    if bao {
        add(status, "build_date", true);
    }
    add(leader, "ha_enabled", true);
    add(leader, "is_self", false);
    // HashiCorp's prints the beginning of time as well.
    add(leader, "active_time", !bao && leader.contains_key("active_time"));
    for name in [
        "leader_address",
        "leader_cluster_address",
        "performance_standby",
        "performance_standby_last_remote_wal",
        "last_wal",
        "raft_committed_index",
        "raft_applied_index",
    ] {
        add(leader, name, false);
    }
    go::json_texts(&texts)
}
