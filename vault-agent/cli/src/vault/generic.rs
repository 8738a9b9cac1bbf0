//! `vault read|write|list|delete`: any path of the API, as HashiCorp's commands of these names.

use hyper::Method;
use serde_json::{Map, Value, json};

use crate::client::{Answer, Client};
use crate::context::Global;
use crate::kv::{Secret, context, data};
use crate::print::{self, Format, table};
use host::hint::{Exit, Failure};

/// Read any path of the API
#[derive(Debug, clap::Args)]
pub struct ReadArgs {
    /// Path, e.g. secret/data/app
    #[arg(value_name = "PATH")]
    path: String,
    /// KEY=VALUE pairs for the query
    #[arg(value_name = "DATA")]
    data: Vec<String>,
    /// Print this field only
    #[arg(long, value_name = "KEY")]
    field: Option<String>,
}

/// Write to any path of the API
#[derive(Debug, clap::Args)]
pub struct WriteArgs {
    /// Path, e.g. auth/token/create
    #[arg(value_name = "PATH")]
    path: String,
    /// KEY=VALUE, KEY=@FILE, KEY=- (stdin), @FILE.json, or - (JSON on stdin)
    #[arg(value_name = "DATA")]
    data: Vec<String>,
    /// Write without data
    #[arg(short, long)]
    force: bool,
    /// Keep the final line end of a file or of standard input
    #[arg(long)]
    keep_newline: bool,
    /// Print this field of the answer only
    #[arg(long, value_name = "KEY")]
    field: Option<String>,
}

/// List any path of the API
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Path, e.g. secret/metadata/app
    #[arg(value_name = "PATH")]
    path: String,
}

/// Delete at any path of the API
#[derive(Debug, clap::Args)]
pub struct DeleteArgs {
    /// Path, e.g. secret/metadata/app
    #[arg(value_name = "PATH")]
    path: String,
    /// KEY=VALUE pairs for the query
    #[arg(value_name = "DATA")]
    data: Vec<String>,
    /// Print this field of the answer only
    #[arg(long, value_name = "KEY")]
    field: Option<String>,
}

fn clean(path: &str) -> &str {
    path.trim().trim_matches('/')
}

pub(crate) fn read(global: &Global, args: &ReadArgs) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let client = global.client()?;
    let path = clean(&args.path);
    let pairs = pairs(global, &args.data)?;
    let answer = client.send(Method::GET, path, &query(&pairs), None);
    let answer = answer.map_err(|error| context(error, "reading", path))?;
    if format == Format::Raw {
        let answer = answer.success().map_err(|error| context(error, "reading:", path))?;
        global.term.line(String::from_utf8_lossy(&answer.body))?;
        return Ok(Exit::OK);
    }
    let secret = Secret::of_read(answer).map_err(|error| context(error, "reading", path))?;
    let Some(secret) = secret else {
        return Err(Failure::remote(format!("No value found at {path}")).into());
    };
    secret.print(global, args.field.as_deref())
}

pub(crate) fn write(global: &Global, args: &WriteArgs) -> anyhow::Result<Exit> {
    let format = global.format_of_answer()?;
    if args.data.is_empty() && !args.force {
        return Err(Failure::local("Must supply data or use -force").into());
    }
    let path = clean(&args.path);
    let body = data::parse(global, &args.data, args.keep_newline)?;
    let client = global.client()?;
    let body = if args.data.is_empty() { Value::Null } else { Value::Object(body) };
    let answer = put(&client, path, &body)?;
    match answer {
        Some(secret) => secret.print(global, args.field.as_deref()),
        None => {
            if format == Format::Table {
                global.term.line(format!("Success! Data written to: {path}"))?;
            }
            Ok(Exit::OK)
        }
    }
}

fn put(client: &Client, path: &str, body: &Value) -> anyhow::Result<Option<Secret>> {
    let answer = client.put(path, body).and_then(Answer::success);
    let answer = answer.map_err(|error| context(error, "writing data to", path))?;
    Ok(Secret::of(&answer)?)
}

pub(crate) fn list(global: &Global, args: &ListArgs) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let client = global.client()?;
    let path = clean(&args.path);
    let query = [("list", "true".to_owned())];
    let answer = client.send(Method::GET, path, &query, None);
    let answer = answer.map_err(|error| context(error, "listing", path))?;
    let secret = Secret::of_read(answer).map_err(|error| context(error, "listing", path))?;
    let data = secret.as_ref().and_then(|secret| secret.data.as_ref());
    let keys = data.and_then(|data| data.get("keys")).and_then(Value::as_array);
    match (keys, &secret) {
        (Some(keys), Some(secret)) if format == Format::Table => {
            secret.say_warnings(global);
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
        (None, _) if format != Format::Table => {
            global.term.line(print::data(format, &json!({}))?)?;
            Ok(Exit::REMOTE)
        }
        (None, Some(secret)) if secret.data.is_none() => secret.print(global, None),
        (None, Some(_)) => Err(Failure::remote(format!("No entries found at {path}")).into()),
        (None, None) => Err(Failure::remote(format!("No value found at {path}")).into()),
    }
}

pub(crate) fn delete(global: &Global, args: &DeleteArgs) -> anyhow::Result<Exit> {
    let format = global.format_of_answer()?;
    let client = global.client()?;
    let path = clean(&args.path);
    let pairs = pairs(global, &args.data)?;
    let answer = client.send(Method::DELETE, path, &query(&pairs), None).and_then(Answer::success);
    let answer = answer.map_err(|error| context(error, "deleting", path))?;
    match Secret::of(&answer)? {
        Some(secret) => secret.print(global, args.field.as_deref()),
        None => {
            if format == Format::Table {
                global.term.line(format!("Success! Data deleted (if it existed) at: {path}"))?;
            }
            Ok(Exit::OK)
        }
    }
}

/// Pairs of a query: a key that is given twice is sent twice.
fn pairs(global: &Global, args: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let fields: Map<String, Value> = data::parse(global, args, false)?;
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let mut pairs = Vec::new();
    for (name, value) in fields {
        match value {
            Value::Array(items) => {
                pairs.extend(items.into_iter().map(|item| (name.clone(), text(item))));
            }
            one => pairs.push((name, text(one))),
        }
    }
    Ok(pairs)
}

fn query(pairs: &[(String, String)]) -> Vec<(&str, String)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.clone())).collect()
}
