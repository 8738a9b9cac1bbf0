//! What to say when no record matches: what was searched, which of the conditions nothing can meet,
//! and what there is instead.

use shared::audit::Record;
use shared::text::like;

use super::filter::{Asked, Filter, is_known_result};
use super::pages;
use super::when::seconds;
use crate::client::{Client, Error};
use crate::context::Global;
use crate::kv::suggest::nearest;
use host::hint::with_hint;
use host::shown::Shown;
use machine::local::{AuditQuery, Holders, KEYS, MACHINES, Machines, PATHS};

/// Names that are listed.
const LISTED: usize = 8;

/// Says that no record matches, and why not.
pub fn say(global: &Global, client: &Client, asked: &Asked) -> anyhow::Result<()> {
    let searched = searched(client, asked)?;
    let (text, hint) = match why(client, asked)? {
        Some((why, hint)) => (format!("no record matches: {searched}; {why}"), hint),
        None => (format!("no record matches: {searched}"), None),
    };
    match hint {
        Some(hint) => global.term.say(with_hint(text, hint)),
        None => global.term.say(Shown::from(text)),
    }
    Ok(())
}

/// Tells how many records there are in the time that was asked for.
fn searched(client: &Client, asked: &Asked) -> anyhow::Result<String> {
    let AuditQuery { since, until, .. } = asked.query;
    let edge = |newest: bool, bounded: bool| -> anyhow::Result<Option<Record>> {
        let (since, until) = if bounded { (since, until) } else { (None, None) };
        let limit = Some(1);
        let query = AuditQuery { since, until, newest, limit, ..AuditQuery::default() };
        let mut page = pages::page(client, &query)?;
        Ok(pages::lines(&mut page)?.pop().map(|line| line.record))
    };
    if let (Some(first), Some(last)) = (edge(false, true)?, edge(true, true)?) {
        let (count, from, to) = (last.n + 1 - first.n, seconds(first.time), seconds(last.time));
        let records = if count == 1 { "record" } else { "records" };
        return Ok(format!("{count} {records} searched, {from} to {to}"));
    }
    let (Some(first), Some(last)) = (edge(false, false)?, edge(true, false)?) else {
        return Ok("there are no records".to_owned());
    };
    let (from, to) = (seconds(first.time), seconds(last.time));
    Ok(format!("none is of that time; those that there are go from {from} to {to}"))
}

/// A condition that nothing can meet, and what to type instead.
type Why = Option<(String, Option<String>)>;

fn why(client: &Client, asked: &Asked) -> Result<Why, Error> {
    let Filter { machine, path, result, process, user, .. } = &asked.filter;
    if let Some(result) = result.as_deref().filter(|result| !is_known_result(result)) {
        let hint = "use ok, refused, missing, deleted, conflict, denied or a code such as E_DENIED";
        return Ok(Some((format!("no result is called `{result}`"), Some(hint.to_owned()))));
    }
    if let Some(machine) = machine
        && let Some(why) = no_machine(client, machine)?
    {
        return Ok(Some(why));
    }
    if let Some(path) = path
        && let Some(why) = no_path(client, path)?
    {
        return Ok(Some(why));
    }
    let others = asked.others();
    let wanted = process.as_ref().map(|name| ("process", name));
    let wanted = wanted.or_else(|| user.as_ref().map(|name| ("user", name)));
    Ok(match wanted {
        Some((what, name)) if !others.is_empty() => {
            let hint = Some(format!("there are {}", others.join(", ")));
            Some((format!("none is by {what} `{name}`"), hint))
        }
        Some(_) | None => None,
    })
}

fn no_machine(client: &Client, wanted: &str) -> Result<Why, Error> {
    let all: Machines = client.get(MACHINES, &[])?;
    let mut names: Vec<String> = all.machines.iter().map(|row| row.name.to_string()).collect();
    names.dedup();
    if names.iter().any(|name| name == wanted) {
        return Ok(None);
    }
    let hint = match nearest(wanted, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("there are {}", listed(&names)),
    };
    Ok(Some((format!("no machine is called `{wanted}`"), Some(hint))))
}

fn no_path(client: &Client, wanted: &str) -> Result<Why, Error> {
    let paths: Vec<String> = client.get(PATHS, &[])?;
    if paths.iter().any(|path| like(wanted, path)) {
        return Ok(None);
    }
    let text = format!("no secret matches `{wanted}`");
    // Whoever looks for a key as if it were a path.
    let key = wanted.rsplit('/').next().unwrap_or(wanted);
    if key.chars().any(char::is_alphanumeric) {
        let found: Holders = client.get(KEYS, &[("name", key.to_owned())])?;
        if let Some(holder) = found.secrets.first() {
            let path = &holder.path;
            let hint = format!("`{key}` is a key of {path}: use --key '{key}'");
            return Ok(Some((text, Some(hint))));
        }
    }
    let bare = wanted.replace('*', "");
    let part: Vec<String> = paths
        .iter()
        .filter(|path| bare.len() > 2 && path.to_lowercase().contains(&bare.to_lowercase()))
        .cloned()
        .collect();
    let near = nearest(&bare, paths.iter().map(String::as_str));
    let hint = match (part.is_empty(), near) {
        (false, _) => format!("there is {}: use --path '*{bare}*'", listed(&part)),
        (true, Some(near)) => format!("did you mean {near}?"),
        (true, None) => format!("there are {}", listed(&paths)),
    };
    Ok(Some((text, Some(hint).filter(|_| !paths.is_empty()))))
}

fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names[..names.len().min(LISTED)].join(", "))
}
