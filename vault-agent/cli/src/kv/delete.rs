//! `vault kv delete|undelete|destroy`: takes versions out of sight, brings them back, or removes
//! their content for good.

use hyper::Method;
use serde_json::json;

use super::route::Typed;
use super::{Secret, write};
use crate::context::Global;
use crate::print::Format;
use host::hint::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    place: Typed,
    /// Versions instead of the newest; repeatable
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    versions: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub struct VersionsArgs {
    #[command(flatten)]
    place: Typed,
    /// Versions; repeatable
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    versions: Vec<String>,
}

pub fn delete(global: &Global, args: &DeleteArgs) -> anyhow::Result<Exit> {
    let format = global.format_of_answer()?;
    let client = global.client()?;
    let route = write::place(&client, &args.place, "deleting", "data")?;
    let path = route.api("data");
    let answer = if args.versions.is_empty() {
        client.send(Method::DELETE, &path, &[], None)
    } else if route.is_versioned() {
        client.put(&route.api("delete"), &json!({ "versions": args.versions }))
    } else {
        return Err(Failure::local("Versions are not kept on KV Version 1").into());
    };
    match Secret::answered(answer, "deleting", &path)? {
        Some(secret) if format != Format::Table => global.term.document(secret.text(format)?)?,
        Some(secret) => secret.say_warnings(global),
        None => {}
    }
    if format == Format::Table {
        global.term.line(format!("Success! Data deleted (if it existed) at: {path}"))?;
    }
    Ok(Exit::OK)
}

/// Does `what`, which is `Undelete` or `Destroy`, to the versions named.
pub fn each(global: &Global, args: &VersionsArgs, what: &str) -> anyhow::Result<Exit> {
    let kind = what.to_lowercase();
    if args.versions.is_empty() {
        return Err(Failure::local(format!(
            "No versions provided, use the \"-versions\" flag to specify the version to {kind}."
        ))
        .into());
    }
    global.format_of_answer()?;
    let client = global.client()?;
    let route = write::place(&client, &args.place, "writing data to", &kind)?;
    route.supports(what)?;
    let path = route.api(&kind);
    let answer = write::put(&client, &path, &json!({ "versions": args.versions }))?;
    write::written(global, &path, answer, None)
}
