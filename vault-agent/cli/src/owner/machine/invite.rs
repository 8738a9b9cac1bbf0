//! `vault machine invite`: what makes another host a machine of this vault. Nothing in it is a
//! secret or a right: program, public keys and addresses, and the commands that ask for the rest.

mod invitation;
mod stream;

use anyhow::{Result, bail};
use shared::grant::Grant;
use shared::name::Name;

use super::enrolment::reachable;
use crate::context::Global;
use crate::owner::owning::{Lists, server_addresses};
use crate::print::{self, Format};
use host::hint::{Exit, hinted, parsed};
use invitation::Invitation;
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
            let stream = Stream::of(&invitation, args.via.as_deref(), global)?;
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
    let (read, write) = args.lists.parsed()?;
    let paths = global.paths()?;
    let Some(pins) = Pins::load(&paths)? else {
        bail!(hinted(
            format!("this host belongs to no vault (`{}`)", paths.state.display()),
            "make one with `vault init`, or name the state with `--state DIR`"
        ));
    };
    let Machines { server, .. } = global.client()?.get(MACHINES, &[])?;
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
    Ok(Invitation { name, vault: pins.vault, addresses, server, grants })
}

#[cfg(test)]
mod tests {
    use shared::keys::SignKey;

    use super::*;
    use crate::testing::World;

    fn host() -> World {
        let server = vec![SignKey::from_seed(&[2; 32]).verify_key()];
        let all = Machines { machines: Vec::new(), next: 3, own: Some(1), server };
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
        ] {
            let run = world.run(line);
            assert!(run.exit != 0 && run.err.contains(why), "{}", run.err);
        }
    }

    #[test]
    fn programs_are_told_the_same() {
        let run = host().run("machine invite thinkpad --read * --format json");
        insta::assert_snapshot!(run.out);
    }
}
