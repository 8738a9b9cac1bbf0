//! `vault kv put`: writes a secret whole. On a terminal it says beforehand which keys will be gone.

use serde_json::{Map, Value, json};

use super::route::{Route, Typed};
use super::{Secret, data, write};
use crate::client::Client;
use crate::context::Global;
use host::hint::{Exit, Failure};

#[derive(Debug, clap::Args)]
#[command(after_help = super::put::EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    place: Typed,
    /// KEY=VALUE, KEY=@FILE, KEY=- (stdin), KEY (asked for), @FILE.json, or - (JSON on stdin)
    #[arg(value_name = "DATA")]
    data: Vec<String>,
    /// Write only if this is the current version; 0: only if the secret is new
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    cas: i64,
    #[command(flatten)]
    reading: data::Reading,
    /// Print this field of the answer only
    #[arg(long, value_name = "KEY")]
    field: Option<String>,
}

/// Forms of the data, shared with `patch`.
pub(super) const EXAMPLES: &str = "\
Examples:
  vault kv put secret/app user=app password    asks for the password with echo off
  vault kv put secret/app tls=@key.pem         value from a file
  vault kv put secret/app @all.json            all keys from a JSON object
  vault kv put -cas=0 secret/app user=app      only if the secret is new";

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    if args.data.is_empty() {
        return Err(Failure::local("Must supply data").into());
    }
    global.format_of_answer()?;
    let client = global.client()?;
    let content = data::parse(global, &args.data, args.reading)?;
    let route = write::place(&client, &args.place, "writing data to", "data")?;
    let path = route.api("data");
    if global.term.err_is_tty && route.is_versioned() {
        warn_of_lost_keys(global, &client, &route, &content);
    }
    let body = if route.is_versioned() {
        let options = if args.cas >= 0 { json!({ "cas": args.cas }) } else { json!({}) };
        json!({ "data": content, "options": options })
    } else {
        Value::Object(content)
    };
    let answer = write::put(&client, &path, &body)?;
    write::written(global, &path, answer, args.field.as_deref())
}

/// Asks for names only; a server that does not tell them is no reason to stop.
fn warn_of_lost_keys(
    global: &Global,
    client: &Client,
    route: &Route,
    content: &Map<String, Value>,
) {
    let depth = [("depth", "1".to_owned())];
    let Ok(answer) = client.ask(&route.api("subkeys"), &depth) else { return };
    let Ok(Some(secret)) = Secret::of_read(answer) else { return };
    let Some(keys) = secret.part("subkeys") else { return };
    let lost: Vec<_> =
        keys.keys().filter(|key| !content.contains_key(*key)).map(String::as_str).collect();
    if !lost.is_empty() {
        global.term.say_hinted(
            format!("warning: `{}` will no longer have: {}", route.logical(), lost.join(", ")),
            "`vault kv patch` changes some keys and keeps the others",
        );
    }
}
