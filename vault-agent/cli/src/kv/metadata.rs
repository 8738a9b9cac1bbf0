//! `vault kv metadata`: what is kept about a secret, beside its versions' content.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::data::{given, pair};
use super::read::{self, Kind};
use super::route::Typed;
use super::secret::{Secret, no_value, print_field};
use super::write;
use crate::argv::boolean;
use crate::client::Client;
use crate::context::Global;
use crate::print::{Format, table};
use host::hint::{Exit, Failure};
use host::shown::Shown;
use shared::duration;

/// Read and change what is kept about a secret
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print settings and versions
    Get(GetArgs),
    /// Set what is given; custom metadata is replaced whole
    Put(PutArgs),
    /// Set what is given; single custom entries are kept
    Patch(PatchArgs),
    /// Remove all versions and everything about them for good
    Delete(Typed),
}

#[derive(Debug, clap::Args)]
pub struct GetArgs {
    #[command(flatten)]
    place: Typed,
    /// Print this field's value only
    #[arg(long, value_name = "KEY")]
    field: Option<String>,
}

/// What can be set.
#[derive(Debug, clap::Args)]
struct Settings {
    /// Versions to keep; 0 for the mount's number
    #[arg(long, value_name = "N")]
    max_versions: Option<u64>,
    /// Refuse writes that do not say which version they build on
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = boolean)]
    cas_required: Option<bool>,
    /// Delete a version this long after it was written, e.g. 90m; 0s for never
    #[arg(long, value_name = "DURATION", value_parser = checked_duration, allow_hyphen_values = true)]
    delete_version_after: Option<String>,
    /// Custom entry; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    custom_metadata: Vec<(String, Value)>,
}

#[derive(Debug, clap::Args)]
pub struct PutArgs {
    #[command(flatten)]
    place: Typed,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, clap::Args)]
pub struct PatchArgs {
    #[command(flatten)]
    place: Typed,
    #[command(flatten)]
    settings: Settings,
    /// Remove this custom entry; repeatable
    #[arg(long, value_name = "KEY")]
    remove_custom_metadata: Vec<String>,
}

fn checked_duration(text: &str) -> Result<String, String> {
    let known = duration::parse(text).map(|_| text.to_owned());
    known.ok_or_else(|| "expected a duration such as 90m or 24h".to_owned())
}

pub(super) fn run(global: &Global, command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Get(args) => get(global, args),
        Command::Put(args) => put(global, args),
        Command::Patch(args) => patch(global, args),
        Command::Delete(typed) => delete(global, typed),
    }
}

fn get(global: &Global, args: &GetArgs) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let client = global.client()?;
    let (route, secret) = read::shown(global, &client, &args.place, Kind::Metadata)?;
    let path = route.api("metadata");
    let Some(secret) = secret else { return Err(no_value(&client, &route, &path).into()) };
    if let Some(name) = &args.field {
        return print_field(global, secret.field(name).as_ref(), name);
    }
    if format != Format::Table {
        global.term.document(secret.text(format)?)?;
        return Ok(Exit::OK);
    }
    secret.say_warnings(global);
    let Some(text) = text(&path, secret.data.unwrap_or_default()) else {
        return Err(no_value(&client, &route, &path).into());
    };
    global.term.print(text)?;
    Ok(Exit::OK)
}

fn text(path: &str, mut data: Map<String, Value>) -> Option<Shown> {
    let versions = data.remove("versions")?;
    let mut versions: Vec<_> = versions
        .as_object()?
        .iter()
        .filter_map(|(n, fields)| Some((n.parse::<u64>().ok()?, fields.as_object()?)))
        .collect();
    versions.sort_unstable_by_key(|(n, _)| *n);
    let mut text = table::path("Metadata Path", path) + write::block("Metadata", &data);
    for (n, fields) in versions {
        text = text.ended() + write::block(&format!("Version {n}"), fields);
    }
    Some(text)
}

fn put(global: &Global, args: &PutArgs) -> anyhow::Result<Exit> {
    global.format_of_answer()?;
    let client = global.client()?;
    let path = place(&client, &args.place, "writing data to")?;
    let custom: Map<_, _> = args.settings.custom_metadata.iter().cloned().collect();
    let custom = (!custom.is_empty()).then_some(&custom);
    let answer = write::put(&client, &path, &body(&args.settings, custom))?;
    write::written(global, &path, answer, None)
}

fn patch(global: &Global, args: &PatchArgs) -> anyhow::Result<Exit> {
    global.format_of_answer()?;
    let client = global.client()?;
    let path = place(&client, &args.place, "writing data to")?;
    let removed = args.remove_custom_metadata.iter().map(|key| (key.clone(), Value::Null));
    let custom: Map<_, _> = args.settings.custom_metadata.iter().cloned().chain(removed).collect();
    let body = body(&args.settings, Some(&custom)).to_string();
    let answer = client.send(Method::PATCH, &path, &[], Some(body.into()));
    if answer.as_ref().is_ok_and(|answer| answer.status == 404) {
        return Err(Failure::remote(format!("No value found at {path}")).into());
    }
    let answer = Secret::answered(answer, "writing data to", &path)?;
    write::written(global, &path, answer, None)
}

fn delete(global: &Global, typed: &Typed) -> anyhow::Result<Exit> {
    let client = global.client()?;
    let path = place(&client, typed, "deleting")?;
    Secret::answered(client.send(Method::DELETE, &path, &[], None), "deleting", &path)?;
    global.term.line(format!("Success! Data deleted (if it existed) at: {path}"))?;
    Ok(Exit::OK)
}

fn place(client: &Client, place: &Typed, doing: &str) -> anyhow::Result<String> {
    let route = write::place(client, place, doing, "metadata")?;
    route.supports("Metadata")?;
    Ok(route.api("metadata"))
}

fn body(settings: &Settings, custom: Option<&Map<String, Value>>) -> Value {
    given(json!({
        "max_versions": settings.max_versions, "cas_required": settings.cas_required,
        "delete_version_after": settings.delete_version_after, "custom_metadata": custom,
    }))
}
