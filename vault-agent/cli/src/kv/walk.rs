//! All secrets below a folder, by listing each folder in it. What is done with them lives
//! elsewhere.

use serde_json::{Value, json};

use super::read::Kind;
use super::route::{Route, Typed};
use super::secret::{Secret, context};
use crate::client::{Client, Error};

/// Folders deeper than this are taken for a loop.
const DEEPEST: usize = 64;
/// Paths asked about in one request.
const AT_ONCE: usize = 500;

/// Returns the names in a folder; `None` if there is none.
pub fn names(client: &Client, folder: &Route) -> Result<Option<Vec<String>>, Error> {
    let secret = Kind::Names.ask(client, folder).and_then(Secret::of_read)?;
    Ok(secret.as_ref().and_then(Secret::names))
}

/// Returns the names of all secrets below a folder, seen from it and sorted; `first` is what the
/// folder itself holds.
pub fn deep(client: &Client, folder: &Route, first: Vec<String>) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    let mut open = first;
    while let Some(name) = open.pop() {
        let Some(inner) = name.strip_suffix('/') else {
            found.push(name);
            continue;
        };
        if inner.split('/').count() > DEEPEST {
            return Err(Error::setup(format!("`{name}` is too deep")));
        }
        let inside = names(client, &folder.below(inner))?.unwrap_or_default();
        open.extend(inside.into_iter().filter(|n| !n.is_empty()).map(|n| format!("{inner}/{n}")));
    }
    found.sort_unstable();
    Ok(found)
}

/// Returns the names of all secrets below a folder.
pub fn all(client: &Client, folder: &Route) -> anyhow::Result<Vec<String>> {
    let path = folder.api("metadata");
    below(client, folder).map_err(|error| context(error, "listing", &path))
}

fn below(client: &Client, folder: &Route) -> Result<Vec<String>, Error> {
    deep(client, folder, names(client, folder)?.unwrap_or_default())
}

/// Returns the mounts that keep versions, without their final slash.
pub fn mounts(client: &Client) -> Result<Vec<String>, Error> {
    let body: Value = client.ask("sys/internal/ui/mounts", &[])?.success()?.json()?;
    let secret = body["data"]["secret"].as_object().cloned().unwrap_or_default();
    let versioned = secret.iter().filter(|(_, mount)| mount["options"]["version"] == "2");
    Ok(versioned.map(|(path, _)| path.trim_end_matches('/').to_owned()).collect())
}

/// Returns the secrets that the caller may read; it is asked first, so that no refusal is put on
/// record. What is closed is told in `closed`.
pub fn readable(client: &Client, closed: &mut Vec<String>) -> anyhow::Result<Vec<Route>> {
    let mut found = Vec::new();
    for (root, is_folder) in roots(client)? {
        if !is_folder {
            found.push(root);
            continue;
        }
        match below(client, &root) {
            Ok(names) => found.extend(names.iter().map(|name| root.below(name))),
            Err(Error::Refused(refusal)) if refusal.status == 403 => {
                closed.push(format!("`{}/` may not be listed", root.logical()));
            }
            Err(error) => return Err(context(error, "listing", &root.api("metadata"))),
        }
    }
    let mut open = Vec::with_capacity(found.len());
    for some in found.chunks(AT_ONCE) {
        let paths: Vec<String> = some.iter().map(|route| route.api("data")).collect();
        let answer = client.put("sys/capabilities-self", &json!({ "paths": paths }))?;
        let body: Value = if answer.status < 300 { answer.json()? } else { Value::Null };
        for (route, path) in some.iter().zip(&paths) {
            let words = body["data"][path].as_array().or(body[path].as_array());
            // A server that does not tell is asked for the secret itself.
            let may = words.is_none_or(|words| words.iter().any(|w| w == "read" || w == "root"));
            if may {
                open.push(route.clone());
            } else {
                closed.push(format!("`{}` may not be read", route.logical()));
            }
        }
    }
    Ok(open)
}

/// Returns where the caller's secrets are, and whether that is a folder: what his token is for, or
/// else every mount.
fn roots(client: &Client) -> Result<Vec<(Route, bool)>, Error> {
    let place = |mount: Option<String>, path: &str| Typed { mount, path: path.to_owned() }.guess();
    let answer = client.ask("auth/token/lookup-self", &[])?;
    let body = if answer.status == 200 { answer.json()? } else { Value::Null };
    // Tokens of our agents say so.
    let of_token = body["data"]["policies"] == json!(["token"]);
    match body["data"]["meta"]["paths"].as_str().filter(|paths| of_token && *paths != "*") {
        Some(paths) => {
            let grants = paths.split(',').filter(|grant| !grant.is_empty());
            Ok(grants.map(|grant| (place(None, grant), grant.ends_with('/'))).collect())
        }
        None => Ok(mounts(client)?.into_iter().map(|m| (place(Some(m), ""), true)).collect()),
    }
}
