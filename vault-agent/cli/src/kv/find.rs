//! `vault kv find`: secrets by name, and with `-keys` the keys in them. Values are neither asked
//! for nor shown.

use std::ops::Add as _;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::route::{Route, Typed};
use super::secret::Secret;
use super::walk;
use crate::client::Client;
use crate::context::Global;
use crate::print::{self, Format};
use host::hint::{Exit, Failure};
use host::shown::Shown;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  vault kv find smtp
  vault kv find 'app/*/db' secret
  vault kv find -keys OPENAI_API_KEY")]
pub struct Args {
    /// Part of the name, upper or lower case; with * or ? the whole path must fit
    #[arg(value_name = "TEXT")]
    text: String,
    /// Folder to look in, e.g. secret/app; every mount without it
    #[arg(value_name = "PATH")]
    path: Option<String>,
    /// Mount of the KV engine; PATH is then below it
    #[arg(long, value_name = "MOUNT")]
    mount: Option<String>,
    /// Look at the names of keys as well
    #[arg(long)]
    keys: bool,
}

/// A find: a secret, or a key in it.
#[derive(Serialize)]
struct Found {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let client = global.client()?;
    let mut found = Vec::new();
    for folder in folders(&client, args)? {
        for name in walk::all(&client, &folder)? {
            look(&client, args, &folder.below(&name), &mut found)?;
        }
    }
    if format == Format::Table {
        let lines = found.iter().map(|found| match &found.key {
            Some(key) => Shown::from(format!("{}  {key}", found.path)).ended(),
            None => Shown::from(&found.path).ended(),
        });
        global.term.print(lines.fold(Shown::default(), Shown::add))?;
    } else {
        global.term.document(print::data(format, &json!(found))?)?;
    }
    if found.is_empty() {
        let failure = Failure::remote(format!("nothing is called `{}`", args.text));
        let hint = (!args.keys).then(|| "-keys looks at the names of keys as well".to_owned());
        return Err(Failure { hint, ..failure }.into());
    }
    Ok(Exit::OK)
}

fn folders(client: &Client, args: &Args) -> anyhow::Result<Vec<Route>> {
    let place = |mount: Option<String>, path: &str| Typed { mount, path: path.to_owned() };
    if args.path.is_some() || args.mount.is_some() {
        let typed = place(args.mount.clone(), args.path.as_deref().unwrap_or_default());
        return Ok(vec![typed.for_read(client)?]);
    }
    let mounts = walk::mounts(client)?;
    Ok(mounts.into_iter().map(|mount| place(Some(mount), "").guess()).collect())
}

fn look(
    client: &Client,
    args: &Args,
    secret: &Route,
    found: &mut Vec<Found>,
) -> anyhow::Result<()> {
    let path = secret.logical();
    if fits(&args.text, &path) {
        found.push(Found { path: path.clone(), key: None });
    }
    if !args.keys {
        return Ok(());
    }
    let depth = [("depth", "1".to_owned())];
    let answer = client.ask(&secret.api("subkeys"), &depth)?;
    // What may be listed may not be readable; what is deleted has no keys.
    if answer.is_denied() {
        return Ok(());
    }
    let answer = Secret::found(Ok(answer), "reading", &path)?;
    let keys = answer.as_ref().and_then(|secret| secret.part("subkeys"));
    let names = keys.into_iter().flat_map(Map::<String, Value>::keys);
    let names = names.filter(|name| fits(&args.text, name));
    found.extend(names.map(|name| Found { path: path.clone(), key: Some(name.clone()) }));
    Ok(())
}

/// Tells whether a name holds the text, or fits the pattern if the text is one; case does not
/// count.
fn fits(text: &str, name: &str) -> bool {
    let (text, name) = (text.to_lowercase(), name.to_lowercase());
    if text.contains(['*', '?']) { glob(&text, &name) } else { name.contains(&text) }
}

/// Matches a whole name, a character at a time: linear memory, no recursion.
fn glob(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let stars = pattern.iter().take_while(|&&c| c == '*').count();
    // Whether the first so many characters of the pattern fit what was read of the name.
    let mut fit: Vec<bool> = (0..=pattern.len()).map(|n| n <= stars).collect();
    for c in name.chars() {
        let mut next = vec![false];
        for (n, &want) in pattern.iter().enumerate() {
            next.push(match want {
                '*' => next[n] || fit[n + 1],
                _ => fit[n] && (want == '?' || want == c),
            });
        }
        fit = next;
    }
    fit[pattern.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_patterns_fit() {
        for (text, name, expected) in [
            ("db", "secret/app/DB", true),
            ("DBX", "secret/app/db", false),
            ("secret/*/db", "secret/app/db", true),
            ("*db", "secret/app/db2", false),
            ("*d?", "secret/app/db", true),
            ("a*b*c", "aXbXbYc", true),
            ("a*b*c", "aXbXbY", false),
            ("*", "", true),
            ("?", "", false),
        ] {
            assert_eq!(fits(text, name), expected, "{text} {name}");
        }
    }
}
