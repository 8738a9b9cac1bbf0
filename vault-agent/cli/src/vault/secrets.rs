//! `vault secrets`: the mounts, with HashiCorp's words.

use hyper::Method;
use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::context::Global;
use crate::kv::Secret;
use crate::kv::data::{given, pair};
use crate::kv::enable_versioning as mount;
use crate::print::{self, Format, go, table};
use host::hint::{Exit, Failure};

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

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Print everything that is known about each
    #[arg(long)]
    detailed: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  vault secrets enable -path=team kv-v2")]
pub struct EnableArgs {
    /// Engine: kv or kv-v2 here; of another Vault whatever it has
    #[arg(value_name = "TYPE")]
    engine: String,
    /// Where; without it the engine's name
    #[arg(long, value_name = "MOUNT")]
    path: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, clap::Args)]
pub struct TuneArgs {
    /// Mount
    #[arg(value_name = "MOUNT")]
    path: String,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, clap::Args)]
pub struct DisableArgs {
    /// Mount
    #[arg(value_name = "MOUNT")]
    path: String,
}

/// What is set.
#[derive(Debug, clap::Args)]
struct Settings {
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Version of the engine
    #[arg(long, value_name = "N")]
    version: Option<u32>,
    /// Setting of the engine, KEY=VALUE; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    options: Vec<(String, Value)>,
}

impl Settings {
    /// Refuses what this machine's agent has no room for: it is not to be lost without a word.
    fn demand_kept(&self, client: &Client) -> Result<(), Failure> {
        if !client.is_own_agent() {
            return Ok(());
        }
        if self.description.as_ref().is_some_and(|text| !text.is_empty()) {
            let fault = Failure::local("a mount has no description here");
            return Err(fault.hint(
                "leave -description out; `vault kv metadata put \
                -custom-metadata` describes a secret",
            ));
        }
        match self.options.iter().find(|(name, _)| name != "version") {
            Some((name, _)) => Err(Failure::local(format!("a mount has no option `{name}` here"))
                .hint("leave it out; `vault kv metadata put` has the settings of a secret")),
            None => Ok(()),
        }
    }

    /// The settings of the engine, with its version among them.
    fn options(&self, version: Option<u32>) -> Option<Map<String, Value>> {
        let version = version.map(|n| ("version".to_owned(), n.to_string().into()));
        let all: Map<_, _> = self.options.iter().cloned().chain(version).collect();
        (!all.is_empty()).then_some(all)
    }
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
    let answer = client.send(Method::GET, "sys/mounts", &[], None);
    let answer = Secret::answered(answer, "listing secrets", "engines")?;
    let mounts = answer.and_then(|secret| secret.data).unwrap_or_default();
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
        global.term.document(text)?;
        return Ok(Exit::OK);
    }
    let columns = if args.detailed { detailed } else { simple };
    let (header, _): (Vec<_>, Vec<_>) = columns("", &Value::Null).into_iter().unzip();
    let row = |(path, mount): (&String, &Value)| {
        columns(path, mount).into_iter().map(|(_, cell)| cell).collect()
    };
    let rows: Vec<Vec<String>> = go::sorted(&mounts).into_iter().map(row).collect();
    global.term.line(table::table(&header, &rows))?;
    Ok(Exit::OK)
}

fn text(mount: &Value, name: &str) -> String {
    mount[name].as_str().unwrap_or_default().to_owned()
}

/// Columns with their titles.
type Columns = Vec<(&'static str, String)>;

fn simple(path: &str, mount: &Value) -> Columns {
    vec![
        ("Path", path.to_owned()),
        ("Type", text(mount, "type")),
        ("Accessor", text(mount, "accessor")),
        ("Description", text(mount, "description")),
    ]
}

fn detailed(path: &str, mount: &Value) -> Columns {
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
        ("Path", path.to_owned()),
        ("Plugin", kind.clone()),
        ("Accessor", text(mount, "accessor")),
        ("Default TTL", ttl("default_lease_ttl")),
        ("Max TTL", ttl("max_lease_ttl")),
        ("Force No Cache", flag(&config["force_no_cache"])),
        ("Replication", replication.to_owned()),
        ("Seal Wrap", flag(&mount["seal_wrap"])),
        ("External Entropy Access", flag(&mount["external_entropy_access"])),
        ("Options", go::value(&options)),
        ("Description", text(mount, "description")),
        ("UUID", text(mount, "uuid")),
        ("Version", text(mount, "plugin_version")),
        ("Running Version", text(mount, "running_plugin_version")),
        ("Running SHA256", text(mount, "running_sha256")),
        ("Deprecation Status", text(mount, "deprecation_status")),
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

fn enable(global: &Global, args: &EnableArgs) -> anyhow::Result<Exit> {
    let client = global.client()?;
    args.settings.demand_kept(&client)?;
    let engine = args.engine.trim();
    let mount = args.path.as_deref().unwrap_or(engine).trim().trim_end_matches('/');
    // This machine's agent has versions on every mount; elsewhere `kv` is what the server makes of
    // it.
    let version = (client.is_own_agent() && engine == "kv").then_some(2);
    let version = args.settings.version.or(version);
    let body = given(json!({
        "type": engine, "description": args.settings.description.as_deref().unwrap_or_default(),
        "config": {}, "local": false, "seal_wrap": false, "options": args.settings.options(version),
    }));
    let path = format!("sys/mounts/{mount}");
    let answer = client.send(Method::POST, &path, &[], Some(body.to_string().into()));
    Secret::answered(answer, "enabling", "")?;
    global.term.line(format!("Success! Enabled the {engine} secrets engine at: {mount}/"))?;
    Ok(Exit::OK)
}

fn tune(global: &Global, args: &TuneArgs) -> anyhow::Result<Exit> {
    args.settings.demand_kept(&global.client()?)?;
    let Settings { description, version, .. } = &args.settings;
    let options = args.settings.options(*version);
    mount::tune(
        global,
        &args.path,
        &given(json!({ "description": description, "options": options })),
    )
}

fn disable(global: &Global, args: &DisableArgs) -> anyhow::Result<Exit> {
    let client = global.client()?;
    let mount = args.path.trim().trim_matches('/');
    let answer = client.send(Method::DELETE, &format!("sys/mounts/{mount}"), &[], None);
    Secret::answered(answer, "disabling secrets engine at", &format!("{mount}/"))?;
    let done = format!("Success! Disabled the secrets engine (if it existed) at: {mount}/");
    global.term.line(done)?;
    Ok(Exit::OK)
}
