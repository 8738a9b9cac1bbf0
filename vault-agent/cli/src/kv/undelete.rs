//! `vault kv undelete`: brings deleted versions back.

use serde_json::json;

use super::route::Typed;
use super::secret::{context, written};
use crate::context::Global;
use host::hint::{Exit, Failure};

/// Bring deleted versions back
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Typed,
    /// Versions; repeatable
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    versions: Vec<String>,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    if args.versions.is_empty() {
        let text =
            "No versions provided, use the \"-versions\" flag to specify the version to undelete.";
        return Err(Failure::local(text).into());
    }
    global.format_of_answer()?;
    let client = global.client()?;
    let guess = args.place.guess().api("undelete");
    let route =
        args.place.for_write(&client).map_err(|error| context(error, "writing data to", &guess))?;
    if !route.is_versioned() {
        return Err(Failure::local("Undelete not supported on KV Version 1").into());
    }
    let path = route.api("undelete");
    let answer = client.put(&path, &json!({ "versions": args.versions }));
    let answer = answer.map_err(|error| context(error, "writing data to", &path))?;
    written(global, &path, answer, None)
}
