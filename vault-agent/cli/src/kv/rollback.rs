//! `vault kv rollback`: writes an old version again as the newest, unless somebody wrote meanwhile.

use serde_json::{Map, Value, json};

use super::read::{self, existing, missing};
use super::route::Typed;
use super::{Secret, write};
use crate::context::Global;
use crate::print::{Format, table};
use host::hint::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Typed,
    /// Version to bring back
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    version: Option<i64>,
    /// Print this field of the answer only
    #[arg(long, value_name = "KEY")]
    field: Option<String>,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let n = args.version.ok_or_else(|| Failure::local("Version flag must be specified"))?;
    let version = u64::try_from(n)
        .ok()
        .filter(|&n| n > 0)
        .ok_or_else(|| Failure::local(format!("Invalid value {n} for the version flag")))?;
    let format = global.format_of_answer()?;
    let client = global.client()?;
    let (route, newest) = read::before(&client, &args.place, 0)?;
    route.requires_versions("rollback support")?;
    let path = route.api("data");
    let (_, cas) = existing(newest.as_ref(), &path, "rollback")?;
    let (_, old) = read::before(&client, &args.place, version)?;
    let (old, _) = existing(old.as_ref(), &path, "rollback")?;
    let body = json!({ "data": content(old, &path)?, "options": { "cas": cas } });
    match write::put(&client, &path, &body)? {
        Some(secret) if format == Format::Table && args.field.is_none() => {
            secret.say_warnings(global);
            let rows = secret.data.as_ref().and_then(table::map);
            global.term.line(rows.unwrap_or_default())?;
            Ok(Exit::OK)
        }
        answer => write::written(global, &path, answer, args.field.as_deref()),
    }
}

fn content<'a>(old: &'a Secret, path: &str) -> Result<&'a Map<String, Value>, Failure> {
    let data = old.part("data");
    let metadata = |name: &str| old.part("metadata")?.get(name);
    if metadata("destroyed") == Some(&true.into()) {
        return Err(Failure::remote("Cannot roll back to a version that has been destroyed"));
    }
    let deletion = metadata("deletion_time").and_then(Value::as_str).unwrap_or_default();
    if data.is_none() && !deletion.is_empty() {
        return Err(Failure::remote("Cannot roll back to a version that has been deleted"));
    }
    data.ok_or_else(|| missing("data", path, "rollback"))
}
