//! `vault kv get`: one request, whatever is printed.

use std::sync::LazyLock;

use hyper::Method;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::Freshness;
use super::route::{Route, Typed};
use super::secret::{Secret, context, no_field, no_value, print_field, say_age};
use crate::client::{Answer, Client, Error};
use crate::context::Global;
use crate::print::{self, Format, table};
use host::hint::{Exit, Failure};
use machine::binary;
use machine::render;

/// Print a secret, or one field of it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "-format=env prints KEY=VALUE lines; of several secrets the later ones win.\n\nExamples:\n  vault kv get -field=password secret/app\n  vault kv get -format=env secret/app secret/smtp"
)]
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

impl Args {
    fn places(&self) -> impl Iterator<Item = Typed> {
        let place = |path: &String| Typed { mount: self.mount.clone(), path: path.clone() };
        self.paths.iter().map(place)
    }
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let client = args.freshness.client(global)?;
    match args.places().collect::<Vec<_>>().as_slice() {
        [place] if format != Format::Env => one(global, &client, args, place, format),
        places => several(global, &client, args, places, format),
    }
}

/// Reads one secret and prints it.
fn one(
    global: &Global,
    client: &Client,
    args: &Args,
    place: &Typed,
    format: Format,
) -> anyhow::Result<Exit> {
    let (route, secret) = read(global, client, &args.freshness, place, args.version)?;
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
    let gone = gone(&route, &secret);
    if format == Format::Table {
        secret.say_warnings(global);
        global.term.print(text(&route, &secret))?;
    } else {
        global.term.line(secret.text(format)?)?;
    }
    match gone {
        Some(failure) => Err(failure.into()),
        None => Ok(Exit::OK),
    }
}

/// Reads one secret, if it is there; says how old the answer is, and refuses one that is too old.
fn read(
    global: &Global,
    client: &Client,
    freshness: &Freshness,
    place: &Typed,
    version: u64,
) -> anyhow::Result<(Route, Option<Secret>)> {
    let (route, answer) = fetch(client, place, version)?;
    freshness.check(&answer)?;
    say_age(global, &answer);
    let path = route.api("data");
    let secret = Secret::of_read(answer).map_err(|error| context(error, "reading", &path))?;
    Ok((route, secret))
}

/// Reads several secrets, prints all or none.
fn several(
    global: &Global,
    client: &Client,
    args: &Args,
    places: &[Typed],
    format: Format,
) -> anyhow::Result<Exit> {
    let mut found = Vec::with_capacity(places.len());
    for place in places {
        let (route, secret) = read(global, client, &args.freshness, place, args.version)?;
        let path = route.api("data");
        let secret = secret.filter(|secret| secret.data.is_some());
        let Some(secret) = secret else { return Err(no_value(client, &route, &path).into()) };
        if let Some(failure) = gone(&route, &secret) {
            return Err(failure.into());
        }
        found.push((route, secret));
    }
    if let Some(name) = &args.field {
        let content = |(route, secret): &(Route, Secret)| content(route, secret).get(name).cloned();
        // The last one that has it, as in an environment.
        let value = found.iter().rev().find_map(content);
        return print_field(global, value.as_ref(), name);
    }
    match format {
        Format::Env => environment(global, &found)?,
        Format::Table => {
            let texts: Vec<_> = found.iter().map(|(route, secret)| text(route, secret)).collect();
            global.term.print(texts.join("\n"))?;
        }
        Format::Json | Format::Yaml | Format::Pretty | Format::Raw => {
            let all: Map<_, _> = found
                .iter()
                .map(|(route, secret)| (route.logical(), content(route, secret).clone().into()))
                .collect();
            global.term.line(print::data(format, &Value::Object(all))?)?;
        }
    }
    Ok(Exit::OK)
}

fn content<'a>(route: &Route, secret: &'a Secret) -> &'a Map<String, Value> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    let data = if route.is_versioned() { secret.part("data") } else { secret.data.as_ref() };
    data.unwrap_or(&NONE)
}

/// Prints secrets as lines that every reader of `.env` files reads the same.
fn environment(global: &Global, found: &[(Route, Secret)]) -> anyhow::Result<()> {
    let mut secrets = Vec::with_capacity(found.len());
    for (route, secret) in found {
        let bytes = Zeroizing::new(serde_json::to_vec(content(route, secret))?);
        let path = route.logical().parse().map_err(anyhow::Error::from)?;
        secrets.push((path, render::fields(&bytes)?));
    }
    let rules = render::Rules::default();
    let rendered = render::render(render::Format::Dotenv, &secrets, &rules).map_err(|refused| {
        let hint = refused.faults.first().map_or("", |fault| fault.why.hint);
        Failure::local(format!("the secrets {refused}")).hint(hint)
    })?;
    for warning in rendered.warnings {
        global.term.say(format!("warning: {warning}"));
    }
    global.term.print(rendered.content.expose())?;
    Ok(())
}

/// Reads a version; 0 is the newest.
pub(crate) fn fetch(
    client: &Client,
    place: &Typed,
    version: u64,
) -> anyhow::Result<(Route, Answer)> {
    let read = |route: &Route| -> Result<Answer, Error> {
        let query = [("version", version.to_string())];
        let query = if version > 0 && route.is_versioned() { &query[..] } else { &[] };
        client.send(Method::GET, &route.api("data"), query, None)
    };
    let path = place.guess().api("data");
    place.read(client, read).map_err(|error| context(error, "reading", &path))
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
fn gone(route: &Route, secret: &Secret) -> Option<Failure> {
    if !route.is_versioned() || secret.part("data").is_some() {
        return None;
    }
    let metadata = secret.part("metadata")?;
    let version = secret.version().unwrap_or(0);
    let destroyed = metadata.get("destroyed").and_then(Value::as_bool).unwrap_or(false);
    let path = route.api("data");
    Some(if destroyed {
        Failure::remote(format!("version {version} of {path} was destroyed"))
    } else {
        Failure::remote(format!("version {version} of {path} was deleted")).hint(format!(
            "`vault kv undelete -versions={version} {}` brings it back",
            route.logical()
        ))
    })
}

fn text(route: &Route, secret: &Secret) -> String {
    if !route.is_versioned() {
        return secret.data.as_ref().map(|data| block("Data", data)).unwrap_or_default();
    }
    let metadata = secret.part("metadata").map(|fields| block("Metadata", fields) + "\n");
    let data = secret.part("data").map(|fields| block("Data", fields));
    let path = table::path("Secret Path", &route.api("data"));
    format!("{path}{}{}", metadata.unwrap_or_default(), data.unwrap_or_default())
}

/// A table of fields; of bytes it tells how many there are.
fn block(title: &str, fields: &Map<String, Value>) -> String {
    let shown = |value: &Value| match binary::of(value) {
        Some(bytes) => format!("<binary, {} bytes>", bytes.len()).into(),
        None => value.clone(),
    };
    let fields = &fields.iter().map(|(key, value)| (key.clone(), shown(value))).collect();
    let rows = table::map(fields).map(|rows| rows + "\n").unwrap_or_default();
    format!("{}\n{rows}", table::map_title(title, fields))
}

/// Reads the newest version's content and number for commands that build on it.
pub(crate) fn current(client: &Client, place: &Typed) -> anyhow::Result<(Route, Option<Secret>)> {
    let (route, answer) = fetch(client, place, 0)?;
    let path = route.api("data");
    let secret =
        Secret::of_read(answer).map_err(|error| context(error, "doing pre-read at", &path))?;
    Ok((route, secret))
}
