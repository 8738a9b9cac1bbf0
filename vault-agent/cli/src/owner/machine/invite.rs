//! `vault machine invite`: what makes another host a machine of this vault. Nothing in it is a
//! secret or a right: program, public keys and addresses, and the commands that ask for the rest.

mod stream;

use std::io::Write as _;

use anyhow::{Result, bail};
use serde_json::json;
use shared::keys::VerifyKey;
use shared::name::Name;
use shared::signed::VaultId;
use shared::words::VaultWords;

use super::reachable;
use crate::context::Global;
use crate::owner::owning::Lists;
use crate::print::{self, Format};
use host::hint::{Exit, hinted, parsed};
use host::shown::{Shown, quoted};
use machine::config::Config;
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

/// What another host needs to know.
struct Invitation {
    name: Name,
    vault: VaultId,
    addresses: Vec<String>,
    server: Vec<VerifyKey>,
    /// The lists, as flags.
    grants: Vec<String>,
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
            let mut out = std::io::stdout().lock();
            stream.write(&mut out)?;
            out.flush()?;
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
        let known = Config::load_or_default(&paths.config)?.server;
        reachable(if known.is_empty() { pins.addresses } else { known })
    } else {
        args.server.clone()
    };
    let flag = |flag: &str, list: &[shared::grant::Grant]| {
        let texts: Vec<_> = list.iter().map(shared::grant::Grant::as_str).collect();
        (!texts.is_empty()).then(|| [format!("--{flag}"), texts.join(",")])
    };
    let lists = [flag("read", read.as_slice()), flag("write", write.as_slice())];
    let grants = lists.into_iter().flatten().flatten().collect();
    Ok(Invitation { name, vault: pins.vault, addresses, server, grants })
}

impl Invitation {
    /// Returns what is typed on a host without ssh.
    fn ask(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(|one| quoted(one)).collect();
        format!(
            "vault-agent join --wait {} --vault {} --name {}",
            addresses.join(" "),
            VaultWords::of(&self.vault),
            self.name
        )
    }

    /// Returns the lists as they are typed, with a space before each word.
    fn grants(&self) -> String {
        self.grants.iter().map(|word| format!(" {}", quoted(word))).collect()
    }

    fn for_people(&self) -> Shown {
        let (name, grants) = (&self.name, self.grants());
        Shown::lines([
            format!("on `{name}`, if it reaches this host by ssh under some name HOST:"),
            format!("  ssh HOST {} --via HOST | sh", quoted_twice(&self.again())),
            format!("or, with vault-agent installed there, on `{name}`:"),
            format!("  {}", self.ask()),
            "and then here, after comparing the six words that it shows:".to_owned(),
            format!("  vault machine approve {name}{grants}"),
        ])
    }

    /// Returns this very command, for a shell.
    fn again(&self) -> Vec<String> {
        let words = ["vault", "machine", "invite", self.name.as_str()].map(str::to_owned);
        words.into_iter().chain(self.grants.iter().cloned()).collect()
    }

    fn for_programs(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "vault": self.vault,
            "words": VaultWords::of(&self.vault),
            "addresses": self.addresses,
            "server": self.server,
            "command": self.ask(),
            "approve": format!("vault machine approve {}{}", self.name, self.grants()),
        })
    }
}

/// Quotes words for a shell whose words another shell reads, as behind `ssh HOST`.
fn quoted_twice(words: &[String]) -> String {
    let twice = |word: &String| {
        let once = quoted(word);
        // Double quotes are easier on the eye where nothing in them is special.
        if once != *word && !once.contains(['"', '$', '`', '\\', '!']) {
            format!("\"{once}\"")
        } else {
            quoted(&once)
        }
    };
    words.iter().map(twice).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

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

    #[test]
    fn two_shells_leave_every_word_as_it_was() {
        let words = ["plain", "*", "secret/a b/", "it's", "a$HOME", "back\\slash", "`id`", "!x"];
        let words = words.map(str::to_owned);
        let inner = quoted_twice(&words);
        // What ssh does: joins its arguments with spaces for a shell there.
        let script = format!("over() {{ sh -c \"printf '%s|' $*\"; }}; over {inner}");
        let out = Command::new("sh").arg("-c").arg(&script).output().unwrap();
        let expected: String = words.iter().map(|word| format!("{word}|")).collect();
        assert_eq!(String::from_utf8_lossy(&out.stdout), expected, "{script}");
    }
}
