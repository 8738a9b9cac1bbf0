//! All secrets below a folder, by listing each folder in it. What is done with them lives elsewhere.

use hyper::Method;
use serde_json::Value;

use super::route::Route;
use super::secret::Secret;
use crate::cli::client::{Answer, Client, Error};

/// Folders deeper than this are taken for a loop.
const DEEPEST: usize = 64;

/// Asks for the names in a folder.
///
/// # Errors
/// No answer.
pub fn list(client: &Client, folder: &Route) -> Result<Answer, Error> {
    let list = [("list", "true".to_owned())];
    client.send(Method::GET, &folder.api("metadata"), &list, None)
}

/// Reads the names out of an answer; `None` if there is no folder.
///
/// # Errors
/// Other statuses from 400 on.
pub fn names(answer: Answer) -> Result<Option<Vec<String>>, Error> {
    let data = Secret::of_read(answer)?.and_then(|secret| secret.data);
    let keys = data.as_ref().and_then(|data| data.get("keys")).and_then(Value::as_array);
    Ok(keys.map(|keys| keys.iter().filter_map(Value::as_str).map(str::to_owned).collect()))
}

/// Returns the names of all secrets below a folder, seen from it and sorted; `first` is what the folder itself holds.
///
/// # Errors
/// No answer, or an error of the API.
pub fn deep(client: &Client, folder: &Route, first: Vec<String>) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    let mut open: Vec<String> = first;
    while let Some(name) = open.pop() {
        let Some(inner) = name.strip_suffix('/') else {
            found.push(name);
            continue;
        };
        if inner.split('/').count() > DEEPEST {
            return Err(Error::Setup(format!("`{name}` is too deep")));
        }
        let inside = names(list(client, &folder.below(inner))?)?.unwrap_or_default();
        open.extend(inside.into_iter().filter(|n| !n.is_empty()).map(|n| format!("{inner}/{n}")));
    }
    found.sort_unstable();
    Ok(found)
}

/// Returns the names of all secrets below a folder.
///
/// # Errors
/// As [`deep`].
pub fn all(client: &Client, folder: &Route) -> Result<Vec<String>, Error> {
    let first = names(list(client, folder)?)?.unwrap_or_default();
    deep(client, folder, first)
}

/// Returns the mounts that keep versions, without their final slash.
///
/// # Errors
/// No answer, or an error of the API.
pub fn mounts(client: &Client) -> Result<Vec<String>, Error> {
    let body: Value = client.ask("sys/internal/ui/mounts", &[])?.success()?.json()?;
    let secret = body["data"]["secret"].as_object().cloned().unwrap_or_default();
    let versioned = secret.iter().filter(|(_, mount)| mount["options"]["version"] == "2");
    Ok(versioned.map(|(path, _)| path.trim_end_matches('/').to_owned()).collect())
}
