//! `vault kv list`: the names below a path.

use serde_json::json;

use super::read::{self, Kind};
use super::route::Typed;
use super::secret::{Secret, context, no_value};
use super::{suggest, walk};
use crate::context::Global;
use crate::print::{self, Format, table};
use host::hint::{Exit, Failure};

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
    global.format()?;
    let client = global.client()?;
    let place = Typed { mount: args.mount.clone(), path: args.path.clone() };
    let (route, secret) = read::shown(global, &client, &place, Kind::Names)?;
    let path = route.api("metadata");
    let mut names = secret.as_ref().and_then(Secret::names);
    if args.recursive
        && let Some(first) = names
    {
        let deep = walk::deep(&client, &route, first);
        names = Some(deep.map_err(|error| context(error, "listing", &path))?);
    }
    print(global, secret.as_ref(), names, || {
        if secret.as_ref().is_some_and(|secret| secret.data.is_some()) {
            return Err(Failure::remote(format!("No entries found at {path}")).into());
        }
        if suggest::is_secret(&client, &route) {
            let name = route.logical();
            let failure = Failure::remote(format!("No value found at {path}"));
            let hint = format!("`{name}` is a secret, not a folder: try `vault kv get {name}`");
            return Err(failure.hint(hint).into());
        }
        Err(no_value(&client, &route, &path).into())
    })
}

/// Prints the names in a folder; where there is none, `{}` for programs and `missing` for people.
pub(crate) fn print(
    global: &Global,
    secret: Option<&Secret>,
    names: Option<Vec<String>>,
    missing: impl FnOnce() -> anyhow::Result<Exit>,
) -> anyhow::Result<Exit> {
    match (names, global.format()?) {
        (Some(mut names), Format::Table) => {
            secret.inspect(|secret| secret.say_warnings(global));
            names.sort_unstable();
            if !names.is_empty() {
                let rows: Vec<_> = names.into_iter().map(|name| vec![name]).collect();
                global.term.line(table::table(&["Keys"], &rows))?;
            }
            Ok(Exit::OK)
        }
        (Some(names), format) => {
            global.term.document(print::data(format, &names.into())?)?;
            Ok(Exit::OK)
        }
        (None, Format::Table) => missing(),
        (None, format) => {
            global.term.document(print::data(format, &json!({}))?)?;
            Ok(Exit::REMOTE)
        }
    }
}
