//! What `target add` foretells: secrets and keys that are to be in the file and do not exist. The
//! running agent is asked; without one, its status says so later.

use std::os::unix::net::UnixStream;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use shared::path::SecretPath;

use crate::ask;
use host::hint;
use host::shown::quoted;
use host::term::Term;
use machine::paths::Paths;

/// The names of a secret's keys.
#[derive(Deserialize)]
struct Subkeys {
    data: SubkeysData,
}

#[derive(Deserialize)]
struct SubkeysData {
    subkeys: Map<String, Value>,
}

/// Warns of what does not exist.
pub(super) fn warn(secrets: &[SecretPath], keys: &[&String], paths: &Paths, term: &Term) {
    if UnixStream::connect(&paths.socket).is_err() {
        return;
    }
    let mut wanted = keys.to_vec();
    let mut all_known = true;
    for path in secrets {
        match ask::find::<IgnoredAny>(paths, &ask::route("metadata", path)) {
            Ok(Some(_)) => {}
            Ok(None) => {
                let put = format!("vault kv put {} KEY=-", quoted(path.as_str()));
                term.say_hinted(
                    format!("warning: there is no secret `{path}`: nothing is written before"),
                    format!("`{put}` makes it; if the name is wrong, remove the target again"),
                );
                continue;
            }
            Err(why) => {
                all_known = false;
                term.say(format!("warning: `{path}`: {}", hint::shown(&why)));
                continue;
            }
        }
        if keys.is_empty() {
            continue;
        }
        match ask::find::<Subkeys>(paths, &format!("{}?depth=1", ask::route("subkeys", path))) {
            Ok(Some(found)) => wanted.retain(|key| !has(&found.data.subkeys, key)),
            // A deleted version says nothing of the next one.
            Ok(None) | Err(_) => all_known = false,
        }
    }
    if all_known && !wanted.is_empty() {
        let names = wanted.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        term.say_hinted(
            format!("warning: no secret has {names}: the file is written without"),
            "`vault kv get SECRET` shows which keys there are",
        );
    }
}

/// Tells whether a secret has the key, or one that is flattened to it.
fn has(keys: &Map<String, Value>, key: &str) -> bool {
    keys.contains_key(key) || key.split_once("__").is_some_and(|(top, _)| keys.contains_key(top))
}
