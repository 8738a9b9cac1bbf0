//! `vault secrets`: the mounts, with HashiCorp's words.

use hyper::Method;
use serde_json::{Map, Value, json};
use shared::duration;

use crate::client::Answer;
use crate::context::Global;
use crate::kv::{Secret, context};
use crate::print::{self, Format, go, table};
use host::hint::Exit;

/// List, make and tune mounts
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List mounts
    List(ListArgs),
    /// Make a mount
    Enable(EnableArgs),
    /// Change settings of a mount
    Tune(TuneArgs),
    /// Remove a mount with everything in it
    Disable(DisableArgs),
}

/// List mounts
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Print everything that is known about each
    #[arg(long)]
    detailed: bool,
}

/// Make a mount
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  vault secrets enable -path=team kv-v2")]
pub struct EnableArgs {
    /// Engine: kv or kv-v2 here; of another Vault whatever it has
    #[arg(value_name = "TYPE")]
    engine: String,
    /// Where; without it the engine's name
    #[arg(long, value_name = "MOUNT")]
    path: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Version of the engine
    #[arg(long, value_name = "N")]
    version: Option<u32>,
    /// Setting of the engine, KEY=VALUE; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    options: Vec<(String, String)>,
}

/// Change settings of a mount
#[derive(Debug, clap::Args)]
pub struct TuneArgs {
    /// Mount
    #[arg(value_name = "MOUNT")]
    path: String,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Version of the engine
    #[arg(long, value_name = "N")]
    version: Option<u32>,
    /// Setting of the engine, KEY=VALUE; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    options: Vec<(String, String)>,
}

/// Remove a mount with everything in it
#[derive(Debug, clap::Args)]
pub struct DisableArgs {
    /// Mount
    #[arg(value_name = "MOUNT")]
    path: String,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(crate) fn run(global: &Global, command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::List(args) => list(global, args),
        Command::Enable(args) => enable(global, args),
        Command::Tune(args) => tune(global, args),
        Command::Disable(args) => disable(global, args),
    }
}

fn list(global: &Global, args: &ListArgs) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let client = global.client()?;
    let answer = client.send(Method::GET, "sys/mounts", &[], None).and_then(Answer::success);
    let answer = answer.map_err(|error| context(error, "listing secrets", "engines"))?;
    let mounts = Secret::of(&answer)?.and_then(|secret| secret.data).unwrap_or_default();
    if format != Format::Table {
        let mounts: Vec<_> = go::sorted(&mounts)
            .into_iter()
            .map(|(path, mount)| (path.as_str(), document(mount)))
            .collect();
        let json = go::json_texts(&mounts);
        let text = match format {
            Format::Json => json,
            other => print::data(other, &serde_json::from_str(&json)?)?,
        };
        global.term.line(text)?;
        return Ok(Exit::OK);
    }
    let mounts = go::sorted(&mounts);
    let rows =
        mounts.iter().map(
            |(path, mount)| {
                if args.detailed { detailed(path, mount) } else { simple(path, mount) }
            },
        );
    let header: &[&str] =
        if args.detailed { &DETAILS } else { &["Path", "Type", "Accessor", "Description"] };
    global.term.line(table::table(header, &rows.collect::<Vec<_>>()))?;
    Ok(Exit::OK)
}

const DETAILS: [&str; 16] = [
    "Path",
    "Plugin",
    "Accessor",
    "Default TTL",
    "Max TTL",
    "Force No Cache",
    "Replication",
    "Seal Wrap",
    "External Entropy Access",
    "Options",
    "Description",
    "UUID",
    "Version",
    "Running Version",
    "Running SHA256",
    "Deprecation Status",
];

fn text(mount: &Value, name: &str) -> String {
    mount[name].as_str().unwrap_or_default().to_owned()
}

fn simple(path: &str, mount: &Value) -> Vec<String> {
    vec![path.to_owned(), text(mount, "type"), text(mount, "accessor"), text(mount, "description")]
}

fn detailed(path: &str, mount: &Value) -> Vec<String> {
    let config = &mount["config"];
    let kind = text(mount, "type");
    let ttl = |name: &str| match config[name].as_i64().unwrap_or(0) {
        _ if matches!(kind.as_str(), "system" | "cubbyhole") => String::new(),
        0 => "system".to_owned(),
        seconds => seconds.to_string(),
    };
    let flag = |value: &Value| value.as_bool().unwrap_or(false).to_string();
    let replication = if mount["local"] == true { "local" } else { "replicated" };
    let options = match &mount["options"] {
        Value::Null => Value::Object(Map::new()),
        other => other.clone(),
    };
    vec![
        path.to_owned(),
        kind.clone(),
        text(mount, "accessor"),
        ttl("default_lease_ttl"),
        ttl("max_lease_ttl"),
        flag(&config["force_no_cache"]),
        replication.to_owned(),
        flag(&mount["seal_wrap"]),
        flag(&mount["external_entropy_access"]),
        go::value(&options),
        text(mount, "description"),
        text(mount, "uuid"),
        text(mount, "plugin_version"),
        text(mount, "running_plugin_version"),
        text(mount, "running_sha256"),
        text(mount, "deprecation_status"),
    ]
}

/// A mount with its fields in the order of HashiCorp's struct, absent texts as empty ones.
fn document(mount: &Value) -> String {
    const CONFIG: [&str; 3] = ["default_lease_ttl", "max_lease_ttl", "force_no_cache"];
    let config = mount["config"].as_object().cloned().unwrap_or_default();
    let mut settings: Vec<(&str, String)> =
        CONFIG.iter().map(|name| (*name, go::json(&mount["config"][*name]))).collect();
    let more = go::sorted(&config).into_iter().filter(|(name, value)| {
        let empty = value.is_null() || **value == json!("") || **value == json!([]);
        !CONFIG.contains(&name.as_str()) && !empty
    });
    settings.extend(more.map(|(name, value)| (name.as_str(), go::json(value))));
    let is = |name: &str| (mount[name] == true).to_string();
    let said = |name: &str| go::json(&text(mount, name).into());
    go::json_texts(&[
        ("uuid", said("uuid")),
        ("type", said("type")),
        ("description", said("description")),
        ("accessor", said("accessor")),
        ("config", go::json_texts(&settings)),
        ("options", go::json(&mount["options"])),
        ("local", is("local")),
        ("seal_wrap", is("seal_wrap")),
        ("external_entropy_access", is("external_entropy_access")),
        ("plugin_version", said("plugin_version")),
        ("running_plugin_version", said("running_plugin_version")),
        ("running_sha256", said("running_sha256")),
        ("deprecation_status", said("deprecation_status")),
    ])
}

/// The settings of an engine, with its version among them.
fn options(options: &[(String, String)], version: Option<u32>) -> Option<Value> {
    let mut all: Map<String, Value> =
        options.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    all.extend(version.map(|n| ("version".to_owned(), n.to_string().into())));
    (!all.is_empty()).then(|| all.into())
}

fn enable(global: &Global, args: &EnableArgs) -> anyhow::Result<Exit> {
    let client = global.client()?;
    let engine = args.engine.trim();
    let mount = args.path.as_deref().unwrap_or(engine);
    let mount = format!("{}/", mount.trim().trim_end_matches('/'));
    // This machine's agent has versions on every mount; elsewhere `kv` is what the server makes of
    // it.
    let version = args.version.or((client.is_own_agent() && engine == "kv").then_some(2));
    let mut body = json!({
        "type": engine, "description": args.description.clone().unwrap_or_default(),
        "config": {}, "local": false, "seal_wrap": false,
    });
    if let Some(options) = options(&args.options, version) {
        body["options"] = options;
    }
    let path = format!("sys/mounts/{mount}");
    let body = Some(body.to_string().into());
    let answer = client.send(Method::POST, path.trim_end_matches('/'), &[], body);
    answer.and_then(Answer::success).map_err(|error| says(error, "Error enabling"))?;
    global.term.line(format!("Success! Enabled the {engine} secrets engine at: {mount}"))?;
    Ok(Exit::OK)
}

fn tune(global: &Global, args: &TuneArgs) -> anyhow::Result<Exit> {
    let client = global.client()?;
    let mount = format!("{}/", args.path.trim().trim_matches('/'));
    let mut body = Map::new();
    body.extend(args.description.clone().map(|text| ("description".to_owned(), text.into())));
    body.extend(options(&args.options, args.version).map(|all| ("options".to_owned(), all)));
    let body = Some(Value::Object(body).to_string().into());
    let answer = client.send(Method::POST, &format!("sys/mounts/{mount}tune"), &[], body);
    let answer = answer.and_then(Answer::success);
    answer.map_err(|error| says(error, &format!("Error tuning secrets engine {mount}")))?;
    global.term.line(format!("Success! Tuned the secrets engine at: {mount}"))?;
    Ok(Exit::OK)
}

fn disable(global: &Global, args: &DisableArgs) -> anyhow::Result<Exit> {
    let client = global.client()?;
    let mount = format!("{}/", args.path.trim().trim_matches('/'));
    let path = format!("sys/mounts/{}", mount.trim_end_matches('/'));
    let answer = client.send(Method::DELETE, &path, &[], None).and_then(Answer::success);
    let doing = format!("Error disabling secrets engine at {mount}");
    answer.map_err(|error| says(error, &doing))?;
    global
        .term
        .line(format!("Success! Disabled the secrets engine (if it existed) at: {mount}"))?;
    Ok(Exit::OK)
}

/// Puts HashiCorp's words before an error of the API.
pub(crate) fn says(error: crate::client::Error, words: &str) -> anyhow::Error {
    match error.status() {
        Some(_) => anyhow::Error::from(error).context(words.to_owned()),
        None => error.into(),
    }
}

/// Seconds of a Go duration, as the API takes them.
pub(crate) fn ttl(text: &str) -> Result<String, String> {
    let seconds = text.parse::<u32>().is_ok();
    let known = seconds || duration::parse(text).is_some_and(|micros| micros >= 0);
    if known {
        Ok(text.to_owned())
    } else {
        Err("expected a duration such as 1h or 30m".to_owned())
    }
}
