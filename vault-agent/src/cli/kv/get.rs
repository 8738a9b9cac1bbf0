//! `vault kv get`: one request, whatever is printed.

use hyper::Method;
use serde_json::{Map, Value};

use super::route::{Route, Typed};
use super::secret::{Secret, context, no_value, print_field, say_age};
use crate::binary;
use crate::cli::Global;
use crate::cli::client::{Answer, Client, Error};
use crate::exit::{Exit, Failure};
use crate::output::{Format, table};

/// Print a secret, or one field of it
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Typed,
    /// Version; 0 for the newest
    #[arg(long, value_name = "N", default_value_t = 0)]
    version: u64,
    /// Print this field's value only
    #[arg(long, value_name = "KEY")]
    field: Option<String>,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let client = global.client()?;
    let (route, answer) = fetch(&client, &args.place, args.version)?;
    let path = route.api("data");
    say_age(global, &answer);
    let Some(secret) = Secret::of_read(answer).map_err(|error| context(error, "reading", &path))?
    else {
        return Err(no_value(&route, &path).into());
    };
    if let Some(name) = &args.field {
        return field(global, &route, &secret, name);
    }
    if secret.data.is_none() {
        secret.say_warnings(global);
        return Err(no_value(&route, &path).into());
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

/// Reads a version; 0 is the newest.
pub(in crate::cli) fn fetch(
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
    print_field(global, data.get(name), name)
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
pub(in crate::cli) fn current(
    client: &Client,
    place: &Typed,
) -> anyhow::Result<(Route, Option<Secret>)> {
    let (route, answer) = fetch(client, place, 0)?;
    let path = route.api("data");
    let secret =
        Secret::of_read(answer).map_err(|error| context(error, "doing pre-read at", &path))?;
    Ok((route, secret))
}
