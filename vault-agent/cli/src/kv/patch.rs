//! `vault kv patch`: changes some keys. By HTTP PATCH, or by reading and writing with CAS where
//! that is not to be had.

use std::collections::BTreeMap;

use hyper::Method;
use serde_json::{Map, Value, json};

use super::get::current;
use super::route::{Route, Typed};
use super::secret::{context, written};
use super::{data, put};
use crate::client::{Answer, Client};
use crate::context::Global;
use host::hint::{Exit, Failure};

/// Change some keys of a secret and keep the others
#[derive(Debug, clap::Args)]
#[command(after_help = put::EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    place: Typed,
    /// KEY=VALUE, KEY=@FILE, KEY=- (stdin), KEY (asked for), @FILE.json, or - (JSON on stdin)
    #[arg(value_name = "DATA")]
    data: Vec<String>,
    /// Write only if this is the current version
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    cas: i64,
    /// patch: one request; rw: read, then write; default: patch, else rw
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Remove this key; repeatable
    #[arg(long, value_name = "KEY")]
    remove_data: Vec<String>,
    /// Keep the final line end of a file or of standard input
    #[arg(long)]
    keep_newline: bool,
    /// Print this field of the answer only
    #[arg(long, value_name = "KEY")]
    field: Option<String>,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    if args.data.is_empty() && args.remove_data.is_empty() {
        return Err(Failure::local("Must supply data").into());
    }
    global.format_of_answer()?;
    let client = global.client()?;
    let mut change = data::parse(global, &args.data, args.keep_newline)?;
    change.extend(args.remove_data.iter().map(|key| (key.clone(), Value::Null)));
    let guess = args.place.guess().api("data");
    let route =
        args.place.for_write(&client).map_err(|error| context(error, "writing data to", &guess))?;
    if !route.is_versioned() {
        return Err(Failure::remote("K/V engine mount must be version 2 for patch support").into());
    }
    let path = route.api("data");
    let answer = match args.method.as_deref() {
        Some("patch") => merge(&client, &path, &change, args.cas)?,
        Some("rw") => read_then_write(&client, args, &change)?,
        Some(other) => {
            let text = format!("Unsupported method provided to -method flag: {other}");
            return Err(Failure::remote(text).hint("use patch or rw").into());
        }
        None => {
            let answer = merge(&client, &path, &change, args.cas)?;
            let barred = answer.status == 405 || (answer.status == 403 && !client.is_own_agent());
            if barred { read_then_write(&client, args, &change)? } else { answer }
        }
    };
    if answer.status == 404 {
        return Err(nothing_to_patch(&route, &answer).into());
    }
    written(global, &path, answer, args.field.as_deref())
}

fn merge(
    client: &Client,
    path: &str,
    change: &Map<String, Value>,
    cas: i64,
) -> anyhow::Result<Answer> {
    let options = if cas > 0 { json!({ "cas": cas }) } else { json!({}) };
    let body = json!({ "data": change, "options": options }).to_string();
    let answer = client.send(Method::PATCH, path, &[], Some(body.into()));
    answer.map_err(|error| context(error, "writing data to", path))
}

fn read_then_write(
    client: &Client,
    args: &Args,
    change: &Map<String, Value>,
) -> anyhow::Result<Answer> {
    let (route, secret) = current(client, &args.place)?;
    let path = route.api("data");
    let Some(secret) = secret else {
        return Err(Failure::remote(format!("No value found at {path}")).into());
    };
    let Some(version) = secret.version() else {
        let text = format!("No metadata found at {path}; patch only works on existing data");
        return Err(Failure::remote(text).into());
    };
    let Some(old) = secret.part("data") else {
        let text = format!("No data found at {path}; patch only works on existing data");
        return Err(Failure::remote(text).into());
    };
    let cas = u64::try_from(args.cas).ok().filter(|&cas| cas > 0).unwrap_or(version);
    let mut merged: BTreeMap<_, _> = old.iter().collect();
    for (key, value) in change {
        if value.is_null() {
            merged.remove(key);
        } else {
            merged.insert(key, value);
        }
    }
    let body = json!({ "data": merged, "options": { "cas": cas } });
    client.put(&path, &body).map_err(|error| context(error, "writing data to", &path))
}

fn nothing_to_patch(route: &Route, answer: &Answer) -> Failure {
    let path = route.api("data");
    let deleted = answer.json::<Value>().is_ok_and(|body| body["data"].is_object());
    if deleted {
        Failure::remote(format!("No data found at {path}; patch only works on existing data"))
            .hint("`vault kv undelete` brings a deleted version back")
    } else {
        Failure::remote(format!("No value found at {path}"))
            .hint(format!("`vault kv put {} …` makes a new secret", route.logical()))
    }
}
