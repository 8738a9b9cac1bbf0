//! `vault machine add`: by the line that `vault-agent init` printed, or over ssh from beginning to
//! end.

use anyhow::{Result, bail};
use shared::name::Name;
use shared::token::{Line as _, MachineLine, PinLine};

use super::enrolment::{Rekeying, Terms, Way, addresses, ops, ways};
use super::over_ssh;
use super::waiting::is_awake;
use crate::context::Global;
use crate::owner::owning::{Lists, Signing};
use crate::owner::signing::act::{Owner, Signed};
use host::hint::{Exit, hinted, parsed};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Line that `vault-agent init` printed; with --ssh, the new machine's name
    #[arg(value_name = "VLTM1-…|NAME", required_unless_present = "ssh")]
    machine: Option<String>,

    #[command(flatten)]
    lists: Lists,

    /// Say that it sleeps at times, as a laptop does: nobody misses it then
    #[arg(long)]
    sleeps: bool,

    /// Give the machine of that name these keys: its host has lost its own
    #[arg(long)]
    rekey: bool,

    /// Re-encrypt the earlier versions that are kept, too: else it gets the newest alone
    #[arg(long)]
    history: bool,

    /// Have it reach the server at this host:port instead; repeatable
    #[arg(long, value_name = "ADDRESS")]
    server: Vec<String>,

    /// Print no pin line: that host has its pins, as `machine invite` brings them
    #[arg(long, hide = true, requires = "machine", conflicts_with = "ssh")]
    pinned: bool,

    #[command(flatten)]
    ssh: over_ssh::Flags,

    #[command(flatten)]
    signing: Signing,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let (read, write) = args.lists.parsed(global)?;
    if args.lists.read.iter().chain(&args.lists.write).all(String::is_empty) {
        bail!(hinted(
            "nothing says what the machine may read or write",
            "pass `--read PREFIX`, for instance `--read secret/jjeco/` or `--read '*'`"
        ));
    }
    let rekey = match (args.rekey, args.signing.yes) {
        (true, _) => Rekeying::Wanted,
        (false, true) => Rekeying::Refused,
        (false, false) => Rekeying::Asked,
    };
    let terms = Terms { read, write, sleeps: args.sleeps, rekey };
    let owner = Owner::at(global, &args.signing)?;
    let owner = if args.history { owner.with_history() } else { owner };
    let addresses = addresses(&args.server, &owner, global)?;
    let named = args.machine.as_deref();
    match named.filter(|_| args.ssh.is_empty()) {
        Some(line) => {
            let pin = by_line(line, &terms, addresses, &owner, global)?;
            let Some(pin) = pin else { return Ok(Exit::LOCAL) };
            if !args.pinned {
                global.term.say(format!("run this on `{}`:", pin.name));
                global.term.line(format!("vault-agent join {}", parsed(pin.to_line())?))?;
            }
            Ok(Exit::OK)
        }
        None => over_ssh::run(named, &args.ssh, &terms, &addresses, &owner, global),
    }
}

/// Adds the machine of a line; returns what its host pins, unless a person has said no.
fn by_line(
    line: &str,
    terms: &Terms,
    addresses: Vec<String>,
    owner: &Owner<'_>,
    global: &Global,
) -> Result<Option<PinLine>> {
    if line.parse::<Name>().is_ok() {
        bail!(hinted(
            format!("`{line}` is a name, and no machine line"),
            "add `--ssh HOST`, or pass the line that `vault-agent init` prints on that host"
        ));
    }
    let line = parsed(MachineLine::from_line(line))?;
    let (mut way, mut server, mut checkpoint) = (Way::Added, Vec::new(), None);
    let signed = owner.sign(|all| {
        server.clone_from(&all.server);
        checkpoint = all.checkpoint;
        let found = ways(all, &[&line], terms, &|name| is_awake(name, global))?;
        let ops = ops(all, &[&line], &found, terms);
        way = found.into_iter().next().unwrap_or(Way::Added);
        if !matches!(way, Way::In(..)) {
            global.term.say(format!(
                "compare the six words below with those that `vault-agent init` shows on `{}`; if \
                 they differ, somebody has changed the line",
                line.name
            ));
        }
        Ok(ops)
    })?;
    let name = match &way {
        Way::In(name, _) => name.clone(),
        Way::Added | Way::Rekeyed => line.name.clone(),
    };
    match (signed, way) {
        (Signed::Declined, _) => return Ok(None),
        (Signed::Needless, _) => {
            global.term.say(format!("machine `{name}` is in the vault already"));
        }
        (Signed::Done(done), Way::Added) => {
            global.term.say(format!("machine `{name}` is added: entry {}", done.seq));
        }
        (Signed::Done(done), Way::Rekeyed) => {
            global.term.say(format!("machine `{name}` has its new keys: entry {}", done.seq));
        }
        (Signed::Done(done), Way::In(..)) => global.term.say(format!("done: entry {}", done.seq)),
    }
    let (vault, at) = (owner.pins.vault, None);
    Ok(Some(PinLine { addresses, server, vault, name, at, checkpoint }))
}
