//! `vault kv put`: writes a secret whole. On a terminal it says beforehand which keys will be gone,
//! and asks.

use serde_json::{Map, Value, json};

use super::after::{self, Keys, Written};
use super::route::{Route, Typed};
use super::{data, write};
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
    /// Write without a question, even if keys will be gone
    #[arg(long)]
    yes: bool,
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
    let looks = global.term.err_is_tty && route.is_versioned();
    let before = if looks { after::keys(&client, &route) } else { None };
    if let Some(before) = &before
        && !agreed(global, &route, before, &content, args.yes)?
    {
        global.term.say("nothing was written");
        return Ok(Exit::LOCAL);
    }
    let body = if route.is_versioned() {
        let options = if args.cas >= 0 { json!({ "cas": args.cas }) } else { json!({}) };
        json!({ "data": content, "options": options })
    } else {
        Value::Object(content.clone())
    };
    let answer = write::put(&client, &path, &body)?;
    let written = Written { route: &route, before: before.as_ref(), change: &content, whole: true };
    let ver = after::version(answer.as_ref());
    let exit = write::written(global, &path, answer, args.field.as_deref())?;
    if route.is_versioned() {
        written.say(global, &client, ver);
    }
    Ok(exit)
}

/// Names the keys that will be gone, and asks whether that is meant; scripts are not asked.
fn agreed(
    global: &Global,
    route: &Route,
    before: &Keys,
    content: &Map<String, Value>,
    yes: bool,
) -> anyhow::Result<bool> {
    let lost = before.iter().filter(|key| !content.contains_key(*key)).map(String::as_str);
    let lost: Vec<&str> = lost.collect();
    if lost.is_empty() {
        return Ok(true);
    }
    global.term.say_hinted(
        format!("warning: `{}` will no longer have: {}", route.logical(), lost.join(", ")),
        "`vault kv patch` changes some keys and keeps the others",
    );
    if yes || !global.can_ask() {
        return Ok(true);
    }
    global.term.say("Write it all the same? [y/N]");
    let answer = global.term.read_line()?.unwrap_or_default();
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes" | "j" | "ja"))
}
