//! `vault kv enable-versioning`: makes a KV mount keep versions. Our own mounts always do.

use hyper::Method;
use serde_json::json;

use super::secret::context;
use crate::context::Global;
use host::hint::Exit;

/// Keep versions on a mount that keeps none yet
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Mount, e.g. kv
    #[arg(value_name = "MOUNT")]
    mount: String,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let mount = format!("{}/", args.mount.trim().trim_matches('/'));
    let client = global.client()?;
    let body = json!({ "options": { "version": "2" } });
    let body = Some(body.to_string().into());
    let answer = client.send(Method::POST, &format!("sys/mounts/{mount}tune"), &[], body);
    let answer = answer.and_then(crate::client::Answer::success);
    answer.map_err(|error| context(error, "tuning secrets engine", &mount))?;
    global.term.line(format!("Success! Tuned the secrets engine at: {mount}"))?;
    Ok(Exit::OK)
}
