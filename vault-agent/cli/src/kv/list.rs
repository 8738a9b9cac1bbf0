//! `vault kv list`: the names below a path.

use serde_json::{Value, json};

use super::route::{Route, Typed};
use super::secret::{Secret, context, no_value, say_age};
use super::walk;
use crate::context::Global;
use crate::print::{self, Format, table};
use host::hint::{Exit, Failure};

/// List names below a path
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Mount of the KV engine; PATH is then below it
    #[arg(long, value_name = "MOUNT")]
    mount: Option<String>,
    /// Folder, e.g. secret/app; may be left out with --mount
    #[arg(value_name = "PATH", required_unless_present = "mount", default_value = "")]
    path: String,
    /// List what is in the folders too
    #[arg(short, long)]
    recursive: bool,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let client = global.client()?;
    let place = Typed { mount: args.mount.clone(), path: args.path.clone() };
    let list = |route: &Route| walk::list(&client, route);
    let guess = place.guess().api("metadata");
    let (route, answer) =
        place.read(&client, list).map_err(|error| context(error, "listing", &guess))?;
    let path = route.api("metadata");
    say_age(global, &answer);
    let secret = Secret::of_read(answer).map_err(|error| context(error, "listing", &path))?;
    let data = secret.as_ref().and_then(|secret| secret.data.as_ref());
    let keys = data.and_then(|data| data.get("keys")).and_then(Value::as_array);
    let deep = match keys {
        Some(keys) if args.recursive => {
            let first = keys.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            let names = walk::deep(&client, &route, first);
            let names = names.map_err(|error| context(error, "listing", &path))?;
            Some(names.into_iter().map(Value::from).collect::<Vec<_>>())
        }
        Some(_) | None => None,
    };
    let keys = deep.as_ref().or(keys);
    match (keys, format) {
        (Some(keys), Format::Table) => {
            if let Some(secret) = &secret {
                secret.say_warnings(global);
            }
            let mut names: Vec<_> = keys.iter().filter_map(Value::as_str).collect();
            names.sort_unstable();
            if !names.is_empty() {
                let rows: Vec<_> = names.into_iter().map(|name| vec![name.to_owned()]).collect();
                global.term.line(table::table(&["Keys"], &rows))?;
            }
            Ok(Exit::OK)
        }
        (Some(keys), _) => {
            global.term.line(print::data(format, &Value::from(keys.clone()))?)?;
            Ok(Exit::OK)
        }
        (None, Format::Table) if data.is_some() => {
            Err(Failure::remote(format!("No entries found at {path}")).into())
        }
        (None, Format::Table) => Err(no_value(&client, &route, &path).into()),
        (None, _) => {
            global.term.line(print::data(format, &json!({}))?)?;
            Ok(Exit::REMOTE)
        }
    }
}
