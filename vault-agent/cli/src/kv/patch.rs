//! `vault kv patch`: changes some keys. By HTTP PATCH, or by reading and writing with CAS where
//! that is not to be had.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::after::{self, Keys, Written};
use super::read::{Kind, existing, missing};
use super::route::{Route, Typed, has_data};
use super::secret::{Secret, context};
use super::{data, put, suggest, write};
use crate::client::{Answer, Client};
use crate::context::Global;
use host::hint::{Exit, Failure};

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
    #[command(flatten)]
    reading: data::Reading,
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
    let mut change = data::parse(global, &args.data, args.reading)?;
    change.extend(args.remove_data.iter().map(|key| (key.clone(), Value::Null)));
    let route = write::place(&client, &args.place, "writing data to", "data")?;
    route.requires_versions("patch support")?;
    let path = route.api("data");
    let words = |error| context(error, "writing data to", &path);
    let merge = || {
        let options = if args.cas > 0 { json!({ "cas": args.cas }) } else { json!({}) };
        let body = json!({ "data": change, "options": options }).to_string();
        client.send(Method::PATCH, &path, &[], Some(body.into())).map_err(words)
    };
    let read_then_write = || {
        let newest = Kind::Version(0).ask(&client, &route);
        let newest = Secret::found(newest, "doing pre-read at", &path)?;
        let (newest, version) = existing(newest.as_ref(), &path, "patch")?;
        let old = newest.part("data").ok_or_else(|| missing("data", &path, "patch"))?;
        let cas = u64::try_from(args.cas).ok().filter(|&cas| cas > 0).unwrap_or(version);
        let mut merged = old.clone();
        merged.extend(change.clone());
        merged.retain(|key, _| change.get(key).is_none_or(|value| !value.is_null()));
        let body = json!({ "data": merged, "options": { "cas": cas } });
        client.put(&path, &body).map_err(words)
    };
    let looks = global.term.out_is_tty || global.term.err_is_tty;
    let before = if looks { after::keys(&client, &route) } else { None };
    let remarks = before.as_ref().map(|there| remarks(there, &change)).unwrap_or_default();
    let answer = match args.method.as_deref() {
        Some("patch") => merge()?,
        Some("rw") => read_then_write()?,
        Some(other) => {
            let text = format!("Unsupported method provided to -method flag: {other}");
            return Err(Failure::remote(text).hint("use patch or rw").into());
        }
        None => {
            let answer = merge()?;
            let barred = answer.status == 405 || (answer.status == 403 && !client.is_own_agent());
            if barred { read_then_write()? } else { answer }
        }
    };
    if answer.status == 404 {
        return Err(nothing_to_patch(&client, &route, &answer).into());
    }
    let answer = Secret::answered(Ok(answer), "writing data to", &path)?;
    for remark in remarks {
        global.term.say(remark);
    }
    let written = Written { route: &route, before: before.as_ref(), change: &change, whole: false };
    let ver = after::version(answer.as_ref());
    let exit = write::written(global, &path, answer, args.field.as_deref())?;
    written.say(global, &client, ver);
    Ok(exit)
}

/// Says which keys are new beside one that is called nearly so, for people who mistype.
fn remarks(there: &Keys, change: &Map<String, Value>) -> Vec<String> {
    let new = change.iter().filter(|(key, value)| !value.is_null() && !there.contains(*key));
    let told = new.filter_map(|(key, _)| {
        let near = suggest::nearest(key, there.iter().map(String::as_str))?;
        Some(format!("new key {key} (there is {near})"))
    });
    told.collect()
}

fn nothing_to_patch(client: &Client, route: &Route, answer: &Answer) -> Failure {
    let path = route.api("data");
    if has_data(answer) {
        missing("data", &path, "patch").hint("`vault kv undelete` brings a deleted version back")
    } else {
        let put = format!("`vault kv put {} …` makes a new secret", route.logical());
        // One that is meant to be changed may be called nearly so.
        let near = suggest::path(client, route).filter(|near| !near.ends_with('/'));
        let meant = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
        Failure::remote(format!("No value found at {path}")).hint(meant + &put)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_beside_one_that_looks_alike_is_told() {
        let object = |value: Value| value.as_object().cloned().unwrap();
        let there = ["OPENAI_API_KEY", "DB_HOST"].map(str::to_owned).into();
        let told = |change: Value| remarks(&there, &object(change));
        let new = "new key OPENAI_KEY (there is OPENAI_API_KEY)";
        assert_eq!(told(json!({ "OPENAI_KEY": "x" })), [new]);
        assert_eq!(told(json!({ "OPENAI_API_KEY": "x", "zzz": "y", "OPENAI_KEY": null })), [""; 0]);
    }
}
