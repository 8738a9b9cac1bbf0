//! The status of a Vault that is not ours: sealed or not, as HashiCorp's CLI prints it.

use serde_json::{Map, Value};

use crate::client::Client;
use crate::context::Global;
use crate::kv::print_field;
use crate::print::{self, Format, go, table};
use host::hint::{Exit, Failure};

/// Fields in the order of Go's struct; those of the second list are left out when they are empty.
const ALWAYS: [&str; 9] =
    ["type", "initialized", "sealed", "t", "n", "progress", "nonce", "version", "build_date"];

pub(super) fn run(
    global: &Global,
    client: &Client,
    format: Format,
    field: Option<&str>,
) -> anyhow::Result<Exit> {
    let wrong = |error: crate::client::Error| {
        // 2 means sealed.
        let text = format!("Error checking seal status: {error}");
        let failure = Failure::local(text);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
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
        Format::Json => global.term.line(document(&status, &leader))?,
        other => {
            let document = serde_json::from_str(&document(&status, &leader))?;
            global.term.line(print::data(other, &document)?)?;
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

fn rows(status: &Map<String, Value>, leader: &Map<String, Value>) -> Vec<Vec<String>> {
    let text = |name: &str| status.get(name).map(go::value).unwrap_or_default();
    let of = |name: &str| leader.get(name).map(go::value).unwrap_or_default();
    let is =
        |of: &Map<String, Value>, name: &str| of.get(name).and_then(Value::as_bool) == Some(true);
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    row("Seal Type", text("type"));
    let prefix = if is(status, "recovery_seal") { "Recovery " } else { "" };
    if is(status, "recovery_seal") {
        row("Recovery Seal Type", text("recovery_seal_type"));
    }
    row("Initialized", is(status, "initialized").to_string());
    row("Sealed", is(status, "sealed").to_string());
    row(&format!("Total {prefix}Shares"), text("n"));
    row("Threshold", text("t"));
    if is(status, "sealed") {
        row("Unseal Progress", format!("{}/{}", text("progress"), text("t")));
        row("Unseal Nonce", text("nonce"));
    }
    if is(status, "migration") {
        row("Seal Migration in Progress", "true".to_owned());
    }
    for (title, name) in [
        ("Version", "version"),
        ("Build Date", "build_date"),
        ("Commit Date", "commit_date"),
        ("Storage Type", "storage_type"),
    ] {
        if !text(name).is_empty() {
            row(title, text(name));
        }
    }
    if !text("cluster_name").is_empty() && !text("cluster_id").is_empty() {
        row("Cluster Name", text("cluster_name"));
        row("Cluster ID", text("cluster_id"));
    }
    row("HA Enabled", is(leader, "ha_enabled").to_string());
    if is(leader, "ha_enabled") && !is(status, "sealed") {
        row("HA Cluster", of("leader_cluster_address"));
        row("HA Mode", if is(leader, "is_self") { "active" } else { "standby" }.to_owned());
        if is(leader, "is_self") && !of("active_time").starts_with("0001") {
            row("Active Since", of("active_time"));
        }
        if !is(leader, "is_self") && !of("leader_address").is_empty() {
            row("Active Node Address", of("leader_address"));
        }
    }
    for (title, name) in [
        ("Raft Committed Index", "raft_committed_index"),
        ("Raft Applied Index", "raft_applied_index"),
    ] {
        if leader.get(name).and_then(Value::as_u64).unwrap_or(0) > 0 {
            row(title, of(name));
        }
    }
    rows
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
