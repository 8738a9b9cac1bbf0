//! `vault machine invite`: what makes another host a machine of this vault. Nothing in it is a
//! secret or a right: program, public keys and addresses, and the commands that ask for the rest.

mod invitation;
mod stream;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use shared::grant::Grant;
use shared::name::Name;

use super::enrolment::reachable;
use crate::context::Global;
use crate::owner::owning::{Lists, server_addresses};
use crate::print::{self, Format};
use host::hint::{Exit, hinted, parsed};
use invitation::Invitation;
use machine::config::is_address;
use machine::identity::Pins;
use machine::local::{MACHINES, Machines};
use stream::Stream;

#[derive(Debug, clap::Args)]
#[command(after_help = "On the host that is to join, if it reaches this one by ssh:
  ssh HOST vault machine invite NAME --read \"'*'\" --via HOST | sh
The stream brings the programs along; the passphrase is asked for over ssh. On a terminal, the
commands for a host without ssh are printed instead; with -format=json, for programs.")]
pub struct Args {
    /// Name of the new machine
    #[arg(value_name = "NAME")]
    machine: String,

    #[command(flatten)]
    lists: Lists,

    /// What the new host calls this one in its ssh, so that the stream can add it by itself
    #[arg(long, value_name = "[USER@]HOST")]
    via: Option<String>,

    /// Have it reach the server at this host:port instead; repeatable
    #[arg(long, value_name = "ADDRESS")]
    server: Vec<String>,

    /// What a shell on the way has made of a `*`
    #[arg(hide = true)]
    more: Vec<String>,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let invitation = invitation(args, global)?;
    if args.via.as_ref().is_some_and(|via| via.is_empty() || via.starts_with('-')) {
        bail!(hinted("`--via` names no host", "pass what `ssh` there takes, such as `rtx1080`"));
    }
    match global.format()? {
        Format::Table if global.term.out_is_tty => {
            global.term.line(invitation.for_people())?;
        }
        Format::Table => {
            let stream = Stream::of(&invitation, args.via.as_deref())?;
            stream.write(&global.term)?;
        }
        other => global.term.document(print::data(other, &invitation.for_programs())?)?,
    }
    Ok(Exit::OK)
}

fn invitation(args: &Args, global: &Global) -> Result<Invitation> {
    if let Some(more) = args.more.first() {
        bail!(hinted(
            format!("nothing is expected behind the name, such as `{more}`"),
            "behind `ssh HOST` two shells read the line: quote a `*` twice, as --read \"'*'\""
        ));
    }
    let name: Name = parsed(args.machine.parse())?;
    let (read, write) = args.lists.parsed(global)?;
    let paths = global.paths()?;
    let Some(pins) = Pins::load(&paths)? else {
        bail!(hinted(
            format!("this host belongs to no vault (`{}`)", paths.state.display()),
            "make one with `vault setup`, or name the state with `--state DIR`"
        ));
    };
    if let Some(bad) = args.server.iter().find(|address| !is_address(address)) {
        let way = "write it as host:port, such as 10.8.0.3:8443";
        bail!(hinted(format!("`--server {bad}` is not host:port"), way));
    }
    let Machines { server, machines, checkpoint, .. } = global.client()?.get(MACHINES, &[])?;
    if machines.iter().any(|row| row.active && row.name == name) {
        global.term.say_hinted(
            format!("machine `{name}` is in the vault already"),
            "this brings its own host back in; another host needs another name",
        );
    }
    let addresses = if args.server.is_empty() {
        reachable(server_addresses(global, &pins)?)
    } else {
        args.server.clone()
    };
    let flag = |flag: &str, list: &[Grant]| {
        let texts: Vec<_> = list.iter().map(Grant::as_str).collect();
        (!texts.is_empty()).then(|| [format!("--{flag}"), texts.join(",")])
    };
    let lists = [flag("read", read.as_slice()), flag("write", write.as_slice())];
    let grants = lists.into_iter().flatten().flatten().collect();
    let named = args.server.iter().flat_map(|address| ["--server".to_owned(), address.clone()]);
    let (named, place) = (named.collect(), place(global)?);
    let vault = pins.vault;
    Ok(Invitation { name, vault, addresses, server, checkpoint, grants, named, place })
}

/// Returns where this host's state is, as flags, unless it is where a shell that another host's ssh
/// starts looks for it.
fn place(global: &Global) -> Result<Vec<String>> {
    let state = global.flags.state.clone();
    let state = state.or_else(|| global.env("VAULT_STATE_DIR").map(PathBuf::from));
    let named = [("--state", state), ("--config", global.flags.config.clone())];
    let mut flags = Vec::new();
    for (flag, path) in named {
        let Some(path) = path else { continue };
        let shown = path.display();
        let whole = std::path::absolute(&path).with_context(|| format!("finding `{shown}`"))?;
        flags.extend([flag.to_owned(), whole.to_string_lossy().into_owned()]);
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use machine::local::MachineRow;
    use shared::grant::Grants;
    use shared::keys::SignKey;

    use super::*;
    use crate::testing::World;

    fn host() -> World {
        let server = vec![SignKey::from_seed(&[2; 32]).verify_key()];
        let all =
            Machines { machines: Vec::new(), next: 3, own: Some(1), server, checkpoint: None };
        let all = serde_json::to_string(&all).unwrap();
        World::admin(&[("GET /v1/agent/machines", 200, &all)])
    }

    #[test]
    fn people_are_told_what_to_type_where() {
        let mut world = host();
        world.tty = true;
        insta::assert_snapshot!(world.run("machine invite thinkpad --read secret/,sys/audit").out);
        for (line, why) in [
            ("machine invite Think_pad", "E_NAME"),
            ("machine invite thinkpad --read ../x", "E_PATH"),
            ("machine invite thinkpad --read Documents Downloads", "as --read \"'*'\""),
            ("machine invite thinkpad --via=-oProxyCommand=x", "--via"),
            ("machine invite thinkpad --server 10.8.0.3", "is not host:port"),
        ] {
            let run = world.run(line);
            assert!(run.exit != 0 && run.err.contains(why), "{}", run.err);
        }
    }

    #[test]
    fn what_this_command_was_told_is_told_again() {
        let mut world = host();
        world.tty = true;
        let run = world.run("machine invite nas --server nas.lan:1 --server [fd00::1]:2");
        let typed = "ssh HOST vault machine invite nas --server nas.lan:1 --server \"'[fd00::1]:2'\" \
                     --state DIR --via HOST | sh";
        assert!(run.out.contains(typed), "{}", run.out);
        assert!(run.out.contains("join --wait nas.lan:1 '[fd00::1]:2' --vault"), "{}", run.out);
        let approve = "vault machine approve nas --state DIR --read PREFIX";
        assert!(run.out.contains(approve), "{}", run.out);
        // A flag goes over the environment, and is told whole.
        let run = world.run("machine invite nas --state . --config ./agent.toml");
        assert!(run.exit != 0, "another state has no pins: {}", run.out);
        let config = world.file("other.toml", "server = [\"nas.lan:1\"]\n");
        let run = world.run(&format!("machine invite nas --config {config}"));
        let approve = "vault machine approve nas --state DIR --config DIR/other.toml --read PREFIX";
        assert!(run.out.contains(approve), "{}", run.out);
    }

    #[test]
    fn a_name_that_is_in_the_vault_is_told() {
        let key = SignKey::from_seed(&[3; 32]).verify_key();
        let row = MachineRow {
            name: "thinkpad".parse().unwrap(),
            number: 2,
            active: true,
            sleeps: false,
            sign: key.clone(),
            read: Grants::default(),
            write: Grants::default(),
            seen_at: None,
            agent: None,
        };
        let all = Machines {
            machines: vec![row],
            next: 3,
            own: Some(1),
            server: vec![key],
            checkpoint: None,
        };
        let all = serde_json::to_string(&all).unwrap();
        let world = World::admin(&[("GET /v1/agent/machines", 200, &all)]);
        let run = world.run("machine invite thinkpad --format json");
        assert!(run.err.starts_with("machine `thinkpad` is in the vault already"), "{}", run.err);
        assert_eq!(world.run("machine invite nas --format json").err, "");
    }

    #[test]
    fn programs_are_told_the_same() {
        let run = host().run("machine invite thinkpad --read * --format json");
        insta::assert_snapshot!(run.out);
    }
}
