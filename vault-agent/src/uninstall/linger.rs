//! The lingering of a user, which has their agent run without a login: ended with the agent if it
//! was `vault machine add --ssh` or `vault setup` that began it, as a file beside the state folder
//! says, and no server of theirs needs it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use host::account;
use host::term::Term;
use machine::paths::Paths;

/// Where systemd notes who lingers.
const LINGERS: &str = "/var/lib/systemd/linger";

/// Ends the lingering that was begun for the agent; says how where that takes root.
///
/// # Errors
/// If the note of it cannot be removed.
pub(super) fn end(paths: &Paths, term: &Term) -> Result<()> {
    let note = paths.lingering();
    if !note.exists() {
        return Ok(());
    }
    let name = account::own_name();
    if has_server() {
        term.say(format!(
            "`{name}` lingers still, for the server here: `loginctl disable-linger` ends that"
        ));
    } else {
        stop(&name, term);
    }
    std::fs::remove_file(&note).with_context(|| format!("cannot remove `{}`", note.display()))
}

/// Tells whether this user has a server that runs without a login, too.
fn has_server() -> bool {
    let config = account::folder("XDG_CONFIG_HOME", ".config");
    config.is_some_and(|config| config.join("systemd/user/vault-server.service").exists())
}

/// Has a user linger no more, or says how.
fn stop(name: &str, term: &Term) {
    let lingers = || Path::new(LINGERS).join(name).exists();
    let tries: [&[&str]; 2] = [
        &["loginctl", "--no-ask-password", "disable-linger"],
        &["sudo", "-n", "loginctl", "disable-linger", name],
    ];
    for words in tries.iter().filter_map(|words| words.split_first()) {
        if lingers() {
            // Whether it may is the policy's: the outcome is looked at.
            let _ = Command::new(words.0).args(words.1).stdin(Stdio::null()).output();
        }
    }
    if lingers() {
        term.say(format!(
            "`{name}` lingers still, as it was begun for the agent: `sudo loginctl disable-linger \
             {name}` ends that"
        ));
    }
}
