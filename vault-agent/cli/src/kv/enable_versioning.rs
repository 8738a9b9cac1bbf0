//! `vault kv enable-versioning`: makes a KV mount keep versions. Our own mounts always do.

use hyper::Method;
use serde_json::{Value, json};

use super::Secret;
use crate::context::Global;
use host::hint::Exit;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Mount, e.g. kv
    #[arg(value_name = "MOUNT")]
    mount: String,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    tune(global, &args.mount, &json!({ "options": { "version": "2" } }))
}

/// Changes settings of a mount.
pub(crate) fn tune(global: &Global, mount: &str, body: &Value) -> anyhow::Result<Exit> {
    let mount = format!("{}/", mount.trim().trim_matches('/'));
    let client = global.client()?;
    let path = format!("sys/mounts/{mount}tune");
    let answer = client.send(Method::POST, &path, &[], Some(body.to_string().into()));
    Secret::answered(answer, "tuning secrets engine", &mount)?;
    global.term.line(format!("Success! Tuned the secrets engine at: {mount}"))?;
    Ok(Exit::OK)
}
