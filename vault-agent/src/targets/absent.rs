//! What `target add` foretells: that no agent runs, or secrets and keys that are to be in the file
//! and do not exist. The running agent is asked; without one, its status says so later.

use anyhow::Result;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use shared::path::SecretPath;

use super::contact::DENIED;
use crate::ask;
use host::hint;
use host::shown::{Shown, quoted};
use host::term::Term;
use machine::paths::Paths;
use machine::running::NOT_RUNNING;

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
///
/// # Errors
/// If the caller has to say why, and has not.
pub(super) fn warn(
    secrets: &[SecretPath],
    keys: &[&String],
    paths: &Paths,
    term: &Term,
) -> Result<()> {
    if !ask::is_running(paths) {
        let text = format!("{NOT_RUNNING}: nothing is written before one does");
        term.say_hinted(text, ask::starts(paths));
        return Ok(());
    }
    // What is in the file is as good as read.
    secrets.iter().try_for_each(|path| ask::demand_reason(paths, path))?;
    let mut wanted = keys.to_vec();
    let mut all_known = true;
    let (mut unknown, mut reason) = (Vec::new(), Shown::default());
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
                let why = hint::shown(&why);
                if why == DENIED {
                    term.say(format!("warning: `{path}`: {why}"));
                } else {
                    unknown.push(format!("`{path}`"));
                    reason = why;
                }
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
    if !unknown.is_empty() {
        let (all, exist) =
            (unknown.join(", "), if unknown.len() == 1 { "exists" } else { "exist" });
        term.say_hinted(
            format!("warning: whether {all} {exist} is not known now: {reason}"),
            "nothing is to be done: the file is written as soon as it is known",
        );
    }
    if all_known && !wanted.is_empty() {
        let names = wanted.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        term.say_hinted(
            format!("warning: no secret has {names}: the file is written without"),
            "`vault kv get SECRET` shows which keys there are",
        );
    }
    Ok(())
}

/// Tells whether a secret has the key, or one that is flattened to it.
fn has(keys: &Map<String, Value>, key: &str) -> bool {
    keys.contains_key(key) || key.split_once("__").is_some_and(|(top, _)| keys.contains_key(top))
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    use super::super::tests::Printed;
    use super::*;

    /// Warns of two secrets of which an agent says the same.
    fn warned(error: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::resolve(Some(folder.path().to_owned()), None).unwrap();
        let listener = UnixListener::bind(&paths.socket).unwrap();
        let body = serde_json::json!({ "errors": [error] }).to_string();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // The first call only looks whether anybody is there.
                if stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {
                    let length = body.len();
                    let head = "HTTP/1.1 503 Service Unavailable\r\nconnection: close";
                    let answer = format!("{head}\r\ncontent-length: {length}\r\n\r\n{body}");
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            }
        });
        let printed = Printed::default();
        let term = Term::piped(io::empty(), io::sink(), printed.clone());
        let secrets = ["secret/a", "secret/b"].map(|path| path.parse().unwrap());
        let warned = warn(&secrets, &[], &paths, &term).map_err(|why| why.to_string());
        warned.err().unwrap_or_else(|| String::from_utf8(printed.0.take()).unwrap())
    }

    #[test]
    fn what_is_not_known_is_said_once_with_what_becomes_of_it() {
        insta::assert_snapshot!(warned("nothing was heard yet\nhint: of somebody else's"), @r"
        warning: whether `secret/a`, `secret/b` exist is not known now: nothing was heard yet
        hint: nothing is to be done: the file is written as soon as it is known
        ");
        insta::assert_snapshot!(warned("permission denied"), @r"
        warning: `secret/a`: permission denied
        warning: `secret/b`: permission denied
        ");
        let wanted = "a reason is wanted of `codex`, and none was given";
        assert_eq!(warned(&format!("{wanted}\nhint: say why")), wanted);
    }
}
