//! `vault kv rollback`: writes an old version again as the newest, unless somebody wrote meanwhile.

use serde_json::{Value, json};

use super::get::{current, fetch};
use super::route::{Route, Typed};
use super::secret::{Secret, context, print_field};
use crate::context::Global;
use crate::print::{Format, table};
use host::hint::{Exit, Failure};

/// Write an old version again as the newest
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Typed,
    /// Version to bring back
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    version: Option<i64>,
    /// Print this field of the answer only
    #[arg(long, value_name = "KEY")]
    field: Option<String>,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let version = match args.version {
        None => return Err(Failure::local("Version flag must be specified").into()),
        Some(n) => u64::try_from(n)
            .ok()
            .filter(|&n| n > 0)
            .ok_or_else(|| Failure::local(format!("Invalid value {n} for the version flag")))?,
    };
    let format = global.format_of_answer()?;
    let client = global.client()?;
    let (route, newest) = current(&client, &args.place)?;
    if !route.is_versioned() {
        return Err(
            Failure::remote("K/V engine mount must be version 2 for rollback support").into()
        );
    }
    let path = route.api("data");
    let cas = existing(&route, newest.as_ref())?;
    let (_, answer) = fetch(&client, &args.place, version)?;
    let old =
        Secret::of_read(answer).map_err(|error| context(error, "doing pre-read at", &path))?;
    existing(&route, old.as_ref())?;
    let content = old.as_ref().map(|old| content(&path, old)).transpose()?;
    let answer = client.put(&path, &json!({ "data": content, "options": { "cas": cas } }));
    let answer = answer.and_then(crate::client::Answer::success);
    let answer = answer.map_err(|error| context(error, "writing data to", &path))?;
    let written = Secret::of(&answer)?;
    match (written, &args.field) {
        (Some(secret), Some(name)) => {
            return print_field(global, secret.field(name).as_ref(), name);
        }
        (Some(secret), None) if format == Format::Table => {
            secret.say_warnings(global);
            let rows = secret.data.as_ref().and_then(table::map);
            global.term.line(rows.unwrap_or_default())?;
        }
        (Some(secret), None) => global.term.line(secret.text(format)?)?,
        (None, _) if format == Format::Table => {
            global.term.line(format!("Success! Data written to: {path}"))?;
        }
        (None, _) => {}
    }
    Ok(Exit::OK)
}

fn existing(route: &Route, secret: Option<&Secret>) -> Result<u64, Failure> {
    let path = route.api("data");
    let Some(secret) = secret else {
        return Err(Failure::remote(format!("No value found at {path}")));
    };
    secret.version().ok_or_else(|| {
        Failure::remote(format!(
            "No metadata found at {path}; rollback only works on existing data"
        ))
    })
}

fn content<'a>(path: &str, old: &'a Secret) -> Result<&'a serde_json::Map<String, Value>, Failure> {
    let metadata = old.part("metadata");
    let is = |name: &str| metadata.and_then(|metadata| metadata.get(name));
    if is("destroyed").and_then(Value::as_bool).unwrap_or(false) {
        return Err(Failure::remote("Cannot roll back to a version that has been destroyed"));
    }
    if is("deletion_time").and_then(Value::as_str).is_some_and(|time| !time.is_empty())
        && old.part("data").is_none()
    {
        return Err(Failure::remote("Cannot roll back to a version that has been deleted"));
    }
    old.part("data").ok_or_else(|| {
        Failure::remote(format!("No data found at {path}; rollback only works on existing data"))
    })
}
