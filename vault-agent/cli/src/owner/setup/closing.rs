//! How `vault setup` ends: one line that says that all is right, and the next command with this
//! host's names filled in; and the first command of all, for a host that has no vault.

use std::path::Path;

use anyhow::Result;
use shared::path::SecretPath;

use super::caller::Caller;
use super::journal::Begun;
use crate::context::Global;
use host::shown::{Shown, quoted};
use machine::identity::Pins;
use machine::paths::Paths;

/// What is right now.
pub struct Outcome<'a> {
    pub pins: &'a Pins,
    pub caller: &'a Caller,
    /// The secret that was published, and its version.
    pub secret: Option<(&'a SecretPath, u64)>,
    /// The file that is kept right.
    pub target: Option<&'a Path>,
    /// Whether there is no secret yet, as far as is known.
    pub is_empty: bool,
}

/// Prints what is right, and what may come next.
pub fn show(outcome: &Outcome<'_>, global: &Global) -> Result<()> {
    let term = &global.term;
    let line = Shown::from(right(outcome));
    term.line(if global.colour() { line.coloured(32) } else { line })?;
    if outcome.is_empty {
        term.line("next: vault import secret/FOLDER/NAME FILE")?;
    }
    term.line(format!("next: {}", next(outcome, global)))?;
    Ok(())
}

fn right(Outcome { pins, caller, secret, target, .. }: &Outcome<'_>) -> String {
    let at = pins.addresses.first().map_or("", String::as_str);
    let done = match (target, secret) {
        (Some(file), Some((path, version))) => {
            format!("{} holds {path} v{version}", caller.shown(file))
        }
        (None, Some((path, version))) => format!("{path} v{version} is published"),
        (_, None) => "server and agent run".to_owned(),
    };
    format!("{} is right: {done}; the vault's server is {at}", pins.name)
}

/// Returns the command that adds the next host.
fn next(Outcome { caller, secret, target, .. }: &Outcome<'_>, global: &Global) -> String {
    let sudo = caller.sudo();
    let state = global.flags.state.as_deref();
    let state = state.map(|state| format!(" --state {}", caller.typed(state))).unwrap_or_default();
    let read = match secret {
        Some((path, _)) => quoted(prefix(path)),
        None => "secret/FOLDER/".to_owned(),
    };
    let target = target.map(|file| format!(" --target {}", caller.typed(file)));
    let target = target.unwrap_or_default();
    format!("{sudo}vault machine add NAME --ssh USER@HOST --read {read}{target}{state}")
}

/// Returns the folder of a secret, itself if it is in none.
fn prefix(path: &SecretPath) -> &str {
    let text = path.as_str();
    match text.rsplit_once('/') {
        Some((folder, name)) if folder.contains('/') => &text[..text.len() - name.len()],
        Some(_) | None => text,
    }
}

/// Says what to do first on a host that has no vault; `None` where there is one, or where another
/// API is named.
pub fn first_step(global: &Global) -> Option<Shown> {
    if ["VAULT_ADDR", "VAULT_AGENT_ADDR"].iter().any(|name| global.env(name).is_some()) {
        return None;
    }
    let paths = global.paths().ok()?;
    let host = Paths::of_host(None);
    let of_host = host.socket.exists() || host.config.exists();
    let agent = paths.sockets().iter().any(|socket| socket.exists());
    if paths.pins().exists() || agent || (!global.has_chosen_place() && of_host) {
        return None;
    }
    if Begun::place(&paths).exists() {
        return Some(Shown::own(
            "`vault setup` was begun on this host and not finished: run the same line again, it \
             goes on",
        ));
    }
    Some(Shown::own(
        "This host has no vault. The next command is

  vault setup

which makes one: the server, your keys, and this host as its first machine. It says what it
will do before it does it. `vault setup -h` tells more.

If the server is another host, run there instead:  vault machine add NAME --ssh THIS-HOST
To try everything out in one folder:               vault dev
All commands:                                      vault help",
    ))
}

#[cfg(test)]
mod tests {
    use shared::hash::Hash;
    use shared::keys::SignKey;

    use super::*;
    use crate::testing::World;

    fn pins() -> Pins {
        Pins {
            vault: Hash::ZERO,
            server: vec![SignKey::from_seed(&[1; 32]).verify_key()],
            name: "rtx1080".parse().unwrap(),
            addresses: vec!["192.168.17.1:8443".to_owned()],
            checkpoint: None,
        }
    }

    #[test]
    fn the_next_command_has_this_hosts_names() {
        let world = World::new("");
        let path = "secret/jjeco/env".parse().unwrap();
        let target = Path::new("/srv/J Jeco/.env");
        let pins = pins();
        let secret = Some((&path, 1));
        let (pins, caller) = (&pins, &Caller::default());
        let whole = Outcome { pins, caller, secret, target: Some(target), is_empty: false };
        let bare = Outcome { pins, caller, secret: None, target: None, is_empty: true };
        let text = |outcome: &Outcome<'_>| {
            format!("{}\n{}", right(outcome), next(outcome, &world.global()))
        };
        insta::assert_snapshot!(format!("{}\n\n{}", text(&whole), text(&bare)));
        assert_eq!(prefix(&"secret/env".parse().unwrap()), "secret/env");
    }

    #[test]
    fn a_host_without_a_vault_is_told_the_one_next_command() {
        let run = World::new("").run_args(&[]);
        assert_eq!(run.exit, 1);
        assert!(run.err.contains("The next command is\n\n  vault setup\n"), "{}", run.err);
        let world = World::new("");
        world.file("setup.json", "{}");
        let begun = world.run_args(&[]);
        assert!(begun.err.contains("run the same line again, it goes on"), "{}", begun.err);
        for world in [World::admin(&[]), World::new("").env("VAULT_ADDR", "http://127.0.0.1:1")] {
            let run = world.run_args(&[]);
            assert!(run.err.contains("Usage: vault COMMAND"), "{}", run.err);
        }
    }
}
