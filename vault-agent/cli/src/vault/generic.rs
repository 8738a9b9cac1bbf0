//! `vault read|write|list|delete`: any path of the API, as HashiCorp's commands of these names.

use hyper::Method;
use serde_json::{Map, Value};

use crate::context::Global;
use crate::kv::{self, Secret, context, data};
use crate::print::Format;
use host::hint::{Exit, Failure};

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
    #[command(flatten)]
    reading: data::Reading,
    /// Print this field of the answer only
    #[arg(long, value_name = "KEY")]
    field: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Path, e.g. secret/metadata/app
    #[arg(value_name = "PATH")]
    path: String,
}

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
    let fields = data::parse(global, &args.data, data::Reading::default())?;
    let answer = client.send(Method::GET, path, &query(&fields), None);
    if format == Format::Raw {
        let answer = answer.map_err(|error| context(error, "reading", path))?;
        let answer = answer.success().map_err(|error| context(error, "reading:", path))?;
        global.term.document(String::from_utf8_lossy(&answer.body))?;
        return Ok(Exit::OK);
    }
    match Secret::found(answer, "reading", path)? {
        Some(secret) => secret.print(global, args.field.as_deref()),
        None => Err(Failure::remote(format!("No value found at {path}")).into()),
    }
}

pub(crate) fn write(global: &Global, args: &WriteArgs) -> anyhow::Result<Exit> {
    global.format_of_answer()?;
    if args.data.is_empty() && !args.force {
        return Err(Failure::local("Must supply data or use -force").into());
    }
    let path = clean(&args.path);
    let body = data::parse(global, &args.data, args.reading)?;
    let client = global.client()?;
    let body = if args.data.is_empty() { Value::Null } else { Value::Object(body) };
    let answer = kv::write::put(&client, path, &body)?;
    let done = format!("Success! Data written to: {path}");
    changed(global, answer, args.field.as_deref(), Some(&done))
}

pub(crate) fn list(global: &Global, args: &ListArgs) -> anyhow::Result<Exit> {
    global.format()?;
    let client = global.client()?;
    let path = clean(&args.path);
    let query = [("list", "true".to_owned())];
    let secret = Secret::found(client.send(Method::GET, path, &query, None), "listing", path)?;
    let names = secret.as_ref().and_then(Secret::names);
    kv::list::print(global, secret.as_ref(), names, || match &secret {
        Some(secret) if secret.data.is_none() => secret.print(global, None),
        Some(_) => Err(Failure::remote(format!("No entries found at {path}")).into()),
        None => Err(Failure::remote(format!("No value found at {path}")).into()),
    })
}

pub(crate) fn delete(global: &Global, args: &DeleteArgs) -> anyhow::Result<Exit> {
    global.format_of_answer()?;
    let client = global.client()?;
    let path = clean(&args.path);
    let fields = data::parse(global, &args.data, data::Reading::default())?;
    let answer = client.send(Method::DELETE, path, &query(&fields), None);
    let answer = Secret::answered(answer, "deleting", path)?;
    let done = format!("Success! Data deleted (if it existed) at: {path}");
    changed(global, answer, args.field.as_deref(), Some(&done))
}

/// Prints the answer to a change, or in place of none that it is done.
pub(super) fn changed(
    global: &Global,
    answer: Option<Secret>,
    field: Option<&str>,
    done: Option<&str>,
) -> anyhow::Result<Exit> {
    match (answer, done) {
        (Some(secret), _) => return secret.print(global, field),
        (None, Some(done)) if global.format()? == Format::Table => global.term.line(done)?,
        (None, _) => {}
    }
    Ok(Exit::OK)
}

/// Pairs of a query: a key that is given twice is sent twice.
fn query(fields: &Map<String, Value>) -> Vec<(&str, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs = fields.iter().flat_map(|(name, value)| {
        let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        items.iter().map(move |item| (name.as_str(), text(item)))
    });
    pairs.collect()
}
