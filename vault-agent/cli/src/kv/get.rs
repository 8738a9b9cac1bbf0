//! `vault kv get`: one request, whatever is printed.

use serde_json::{Map, Value};

use super::read::{self, Found, Kind};
use super::route::{Route, Typed};
use super::secret::{Secret, no_field, no_value, print_field};
use super::{Freshness, content};
use crate::client::Client;
use crate::context::Global;
use crate::print::{self, Format, table};
use host::hint::{Exit, Failure};
use host::shown::{Shown, quoted};
use machine::{binary, render};

#[derive(Debug, clap::Args)]
#[command(after_help = "-format=env prints KEY=VALUE lines; of several secrets the later ones win.

Examples:
  vault kv get -field=password secret/app
  vault kv get -format=env secret/app secret/smtp")]
pub struct Args {
    /// Mount of the KV engine; PATH is then below it
    #[arg(long, value_name = "MOUNT")]
    mount: Option<String>,
    /// Secrets, e.g. secret/app/db
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,
    /// Version; 0 for the newest
    #[arg(long, value_name = "N", default_value_t = 0)]
    version: u64,
    /// Print this field's value only
    #[arg(long, value_name = "KEY")]
    field: Option<String>,
    #[command(flatten)]
    freshness: Freshness,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let client = args.freshness.client(global)?;
    let read = |path: &String| {
        let place = Typed { mount: args.mount.clone(), path: path.clone() };
        let kind = Kind::Version(args.version);
        read::typed(&client, &place, kind, |answer| args.freshness.look(global, answer))
    };
    match args.paths.as_slice() {
        [path] if format != Format::Env => one(global, &client, args, read(path)?, format),
        paths => several(global, &client, args, paths.iter().map(read), format),
    }
}

/// Prints one secret.
fn one(
    global: &Global,
    client: &Client,
    args: &Args,
    (route, secret): Found,
    format: Format,
) -> anyhow::Result<Exit> {
    let path = route.api("data");
    let Some(secret) = secret else {
        let failure = no_value(client, &route, &path);
        let versions = format!("`vault kv history {}` lists the versions", route.logical());
        return Err(if args.version > 0 { failure.hint(versions) } else { failure }.into());
    };
    if let Some(name) = &args.field {
        return field(global, &route, &secret, name);
    }
    if secret.data.is_none() {
        secret.say_warnings(global);
        return Err(no_value(client, &route, &path).into());
    }
    if format == Format::Table {
        secret.say_warnings(global);
        global.term.print(text(&route, &secret))?;
    } else {
        global.term.document(secret.text(format)?)?;
    }
    require_content(&route, &secret)?;
    Ok(Exit::OK)
}

/// Says how a key is asked for, where a path is the name of one in a secret before it.
fn key_hint(found: &[(Route, Secret)], name: &str) -> Option<String> {
    let has = |(route, secret): &&(Route, Secret)| {
        secret.content(route).is_some_and(|data| data.contains_key(name))
    };
    let (route, _) = found.iter().find(has)?;
    let path = route.logical();
    Some(format!("a key is no path: `vault kv get -field={} {}`", quoted(name), quoted(&path)))
}

/// Reads several secrets, prints all or none.
fn several(
    global: &Global,
    client: &Client,
    args: &Args,
    answers: impl Iterator<Item = anyhow::Result<Found>>,
    format: Format,
) -> anyhow::Result<Exit> {
    let mut found = Vec::new();
    for answer in answers {
        let (route, secret) = answer?;
        let path = route.api("data");
        let secret = secret.filter(|secret| secret.data.is_some());
        let Some(secret) = secret else {
            let mut failure = no_value(client, &route, &path);
            failure.hint = key_hint(&found, &route.logical()).or(failure.hint);
            return Err(failure.into());
        };
        require_content(&route, &secret)?;
        found.push((route, secret));
    }
    if let Some(name) = &args.field {
        // The last one that has it, as in an environment.
        let value = found.iter().rev().find_map(|(route, secret)| secret.content(route)?.get(name));
        return print_field(global, value, name);
    }
    match format {
        Format::Env => {
            // Lines that every reader of `.env` files reads the same.
            let fields = found.iter().map(|(route, secret)| {
                content::fields(route, secret.content(route).unwrap_or(&Map::new()))
            });
            let secrets: Vec<_> = fields.collect::<anyhow::Result<_>>()?;
            let rules = render::Rules::default();
            let text = content::rendered(global, render::Format::Dotenv, &secrets, &rules)?;
            global.term.value(text.expose())?;
        }
        Format::Table => {
            let texts: Vec<_> = found.iter().map(|(route, secret)| text(route, secret)).collect();
            global.term.print(Shown::lines(texts))?;
        }
        Format::Json | Format::Yaml | Format::Pretty | Format::Raw => {
            let all = found.iter().map(|(route, secret)| {
                (route.logical(), secret.content(route).cloned().unwrap_or_default())
            });
            global.term.document(print::data(format, &all.collect())?)?;
        }
    }
    Ok(Exit::OK)
}

fn field(global: &Global, route: &Route, secret: &Secret, name: &str) -> anyhow::Result<Exit> {
    if !route.is_versioned() {
        return print_field(global, secret.field(name).as_ref(), name);
    }
    let Some(data) = secret.part("data") else {
        return Err(Failure::remote(format!("No data found at {}", route.api("data"))).into());
    };
    if name == "data" && !data.contains_key("data") {
        return print_field(global, secret.field("data").as_ref(), name);
    }
    match data.get(name) {
        None => Err(no_field(name, data).into()),
        value => print_field(global, value, name),
    }
}

/// A version without content is a failure: a script must not go on with nothing.
fn require_content(route: &Route, secret: &Secret) -> Result<(), Failure> {
    let Some(metadata) = secret.part("metadata") else { return Ok(()) };
    if secret.content(route).is_some() {
        return Ok(());
    }
    let version = secret.version().unwrap_or(0);
    let path = route.api("data");
    if metadata.get("destroyed") == Some(&true.into()) {
        return Err(Failure::remote(format!("version {version} of {path} was destroyed")));
    }
    Err(Failure::remote(format!("version {version} of {path} was deleted")).hint(format!(
        "`vault kv undelete -versions={version} {}` brings it back",
        route.logical()
    )))
}

fn text(route: &Route, secret: &Secret) -> Shown {
    if !route.is_versioned() {
        return secret.data.as_ref().map(|data| block("Data", data)).unwrap_or_default();
    }
    let metadata = secret.part("metadata").map(|fields| block("Metadata", fields).ended());
    let data = secret.part("data").map(|fields| block("Data", fields));
    let path = table::path("Secret Path", &route.api("data"));
    path + metadata.unwrap_or_default() + data.unwrap_or_default()
}

/// A table of fields; of bytes it tells how many there are.
fn block(title: &str, fields: &Map<String, Value>) -> Shown {
    let shown = |value: &Value| match binary::of(value) {
        Some(bytes) => format!("<binary, {} bytes>", bytes.len()).into(),
        None => value.clone(),
    };
    let fields = &fields.iter().map(|(key, value)| (key.clone(), shown(value))).collect();
    let rows = table::map(fields).map(Shown::ended).unwrap_or_default();
    table::map_title(title, fields).ended() + rows
}
