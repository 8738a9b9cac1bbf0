//! `vault kv metadata`: what is kept about a secret, beside its versions' content.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::route::{Route, Typed};
use super::secret::{Secret, context, no_value, print_field, refused, say_age, written};
use crate::argv::boolean;
use crate::client::Client;
use crate::context::Global;
use crate::print::{Format, table};
use host::hint::{Exit, Failure};
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
    Delete(DeleteArgs),
}

/// Print settings and versions
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
    custom_metadata: Vec<(String, String)>,
}

/// Set what is given; custom metadata is replaced whole
#[derive(Debug, clap::Args)]
pub struct PutArgs {
    #[command(flatten)]
    place: Typed,
    #[command(flatten)]
    settings: Settings,
}

/// Set what is given; single custom entries are kept
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

/// Remove all versions and everything about them for good
#[derive(Debug, clap::Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    place: Typed,
}

fn checked_duration(text: &str) -> Result<String, String> {
    let known = duration::parse(text).map(|_| text.to_owned());
    known.ok_or_else(|| "expected a duration such as 90m or 24h".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) fn run(global: &Global, command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Get(args) => get(global, args),
        Command::Put(args) => put(global, args),
        Command::Patch(args) => patch(global, args),
        Command::Delete(args) => delete(global, args),
    }
}

fn get(global: &Global, args: &GetArgs) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let client = global.client()?;
    let read = |route: &Route| client.send(Method::GET, &route.api("metadata"), &[], None);
    let guess = args.place.guess().api("metadata");
    let (route, answer) =
        args.place.read(&client, read).map_err(|error| context(error, "reading", &guess))?;
    check(&route)?;
    let path = route.api("metadata");
    say_age(global, &answer);
    let Some(mut secret) =
        Secret::of_read(answer).map_err(|error| context(error, "reading", &path))?
    else {
        return Err(no_value(&client, &route, &path).into());
    };
    if let Some(name) = &args.field {
        return print_field(global, secret.field(name).as_ref(), name);
    }
    if format != Format::Table {
        global.term.line(secret.text(format)?)?;
        return Ok(Exit::OK);
    }
    secret.say_warnings(global);
    let data = secret.data.take().unwrap_or_default();
    let Some(text) = text(&path, data) else {
        return Err(no_value(&client, &route, &path).into());
    };
    global.term.print(text)?;
    Ok(Exit::OK)
}

fn text(path: &str, mut data: Map<String, Value>) -> Option<String> {
    let versions = data.remove("versions")?;
    let mut versions: Vec<_> = versions
        .as_object()?
        .iter()
        .filter_map(|(n, fields)| Some((n.parse::<u64>().ok()?, fields.as_object()?)))
        .collect();
    versions.sort_unstable_by_key(|(n, _)| *n);
    let block = |title: &str, fields| {
        let rows = table::map(fields).unwrap_or_default();
        format!("{}\n{rows}\n", table::map_title(title, fields))
    };
    let mut text = table::path("Metadata Path", path) + &block("Metadata", &data);
    for (n, fields) in versions {
        text.push('\n');
        text.push_str(&block(&format!("Version {n}"), fields));
    }
    Some(text)
}

fn put(global: &Global, args: &PutArgs) -> anyhow::Result<Exit> {
    global.format_of_answer()?;
    let client = global.client()?;
    let path = place(&client, &args.place, "writing data to")?;
    let mut body = settings(&args.settings);
    if !args.settings.custom_metadata.is_empty() {
        let custom: Map<_, _> = custom(&args.settings);
        body.insert("custom_metadata".to_owned(), custom.into());
    }
    let answer = client.put(&path, &Value::Object(body));
    let answer = answer.map_err(|error| context(error, "writing data to", &path))?;
    written(global, &path, answer, None)
}

fn patch(global: &Global, args: &PatchArgs) -> anyhow::Result<Exit> {
    global.format_of_answer()?;
    let client = global.client()?;
    let path = place(&client, &args.place, "writing data to")?;
    let mut body = settings(&args.settings);
    let mut custom = custom(&args.settings);
    custom.extend(args.remove_custom_metadata.iter().map(|key| (key.clone(), Value::Null)));
    body.insert("custom_metadata".to_owned(), custom.into());
    let answer = client.send(Method::PATCH, &path, &[], Some(json!(body).to_string().into()));
    let answer = answer.map_err(|error| context(error, "writing data to", &path))?;
    if answer.status == 404 {
        return Err(Failure::remote(format!("No value found at {path}")).into());
    }
    written(global, &path, answer, None)
}

fn delete(global: &Global, args: &DeleteArgs) -> anyhow::Result<Exit> {
    let client = global.client()?;
    let path = place(&client, &args.place, "deleting")?;
    let answer = client.send(Method::DELETE, &path, &[], None);
    refused(answer.map_err(|error| context(error, "deleting", &path))?, "deleting", &path)?;
    global.term.line(format!("Success! Data deleted (if it existed) at: {path}"))?;
    Ok(Exit::OK)
}

fn place(client: &Client, place: &Typed, doing: &str) -> anyhow::Result<String> {
    let guess = place.guess().api("metadata");
    let route = place.for_write(client).map_err(|error| context(error, doing, &guess))?;
    check(&route)?;
    Ok(route.api("metadata"))
}

fn check(route: &Route) -> Result<(), Failure> {
    if route.is_versioned() {
        Ok(())
    } else {
        Err(Failure::local("Metadata not supported on KV Version 1"))
    }
}

fn settings(settings: &Settings) -> Map<String, Value> {
    let mut body = Map::new();
    body.extend(settings.max_versions.map(|n| ("max_versions".to_owned(), n.into())));
    body.extend(settings.cas_required.map(|flag| ("cas_required".to_owned(), flag.into())));
    let after = settings.delete_version_after.clone();
    body.extend(after.map(|text| ("delete_version_after".to_owned(), text.into())));
    body
}

fn custom(settings: &Settings) -> Map<String, Value> {
    settings
        .custom_metadata
        .iter()
        .map(|(key, value)| (key.clone(), value.clone().into()))
        .collect()
}
