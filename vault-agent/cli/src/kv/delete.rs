//! `vault kv delete`: takes the newest version, or some versions, out of sight.

use hyper::Method;
use serde_json::json;

use super::route::Typed;
use super::secret::{Secret, context, refused};
use crate::context::Global;
use crate::print::Format;
use host::hint::{Exit, Failure};

/// Delete the newest version, or some versions; they can be undeleted
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Typed,
    /// Versions instead of the newest; repeatable
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    versions: Vec<String>,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let format = global.format_of_answer()?;
    let client = global.client()?;
    let guess = args.place.guess().api("data");
    let route =
        args.place.for_write(&client).map_err(|error| context(error, "deleting", &guess))?;
    let path = route.api("data");
    let answer = if args.versions.is_empty() {
        client.send(Method::DELETE, &path, &[], None)
    } else if route.is_versioned() {
        client.put(&route.api("delete"), &json!({ "versions": args.versions }))
    } else {
        return Err(Failure::local("Versions are not kept on KV Version 1").into());
    };
    let answer = answer.map_err(|error| context(error, "deleting", &path))?;
    match Secret::of(&refused(answer, "deleting", &path)?)? {
        Some(secret) if format != Format::Table => global.term.line(secret.text(format)?)?,
        Some(secret) => secret.say_warnings(global),
        None => {}
    }
    if format == Format::Table {
        global.term.line(format!("Success! Data deleted (if it existed) at: {path}"))?;
    }
    Ok(Exit::OK)
}
