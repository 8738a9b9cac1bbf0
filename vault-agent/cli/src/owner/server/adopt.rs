//! `vault server adopt`: gives the vault to a server that was made anew, or that was restored with
//! a new key, from this machine's own log. Done again, it goes on where it stopped.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use shared::log::{Op, was};
use shared::name::Name;
use shared::token::{Line as _, SetupLine};

use super::moving::address;
use super::others;
use crate::context::Global;
use crate::owner::resume;
use host::hint::{Exit, Failure, hinted, parsed};
use machine::identity::Pins;
use machine::local::{
    ADOPT, AdoptRequest, HEAL, HealRequest, Healed, MACHINES, Machines, RESUME, Restored, SERVER,
    ServerView, Trust,
};

#[derive(Debug, clap::Args)]
#[group(id = "adopting")]
#[command(
    after_help = "The line is that of `vault-server init` or `vault-server restore`; it is asked for, \
                  or read from standard input, without --setup-file.
The code of the server's host is asked for after it, as by `vault resume`."
)]
pub struct Args {
    /// Read the setup line from this file
    #[arg(long, value_name = "FILE")]
    setup_file: Option<PathBuf>,

    #[command(flatten)]
    resume: resume::Args,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let (term, client) = (&global.term, global.client()?);
    let line = line(args.setup_file.as_deref(), global)?;
    let SetupLine { addresses, server, claim } = parsed(SetupLine::from_line(&line))?;
    let wanted = addresses.iter().map(|text| address(text)).collect::<Result<Vec<_>>>()?;
    let trust = Trust { server: server.clone(), addresses: addresses.clone(), at: None };
    let _: ServerView = client.post(SERVER, &trust)?;
    let _: ServerView = client.post(ADOPT, &AdoptRequest { claim })?;
    term.say("the server has the beginning of the log");
    let found: Restored = client.get(RESUME, &[])?;
    if found.restored {
        resume::demand_signer(global, &args.resume)?;
    }
    let code = found.restored.then(|| resume::code(global, &args.resume)).transpose()?;
    let request = HealRequest { code, ..HealRequest::default() };
    let Healed { entries, blobs, .. } = client.post(HEAL, &request)?;
    let entry = if entries == 1 { "entry" } else { "entries" };
    let secret = if blobs == 1 { "secret" } else { "secrets" };
    term.say(format!("given to it: {entries} {entry}, {blobs} {secret}"));
    let done = if found.restored {
        let resumed = resume::go_on(global, &args.resume, code, |found| {
            if found.addresses == wanted {
                return Vec::new();
            }
            let was = was::addresses(&found.addresses);
            vec![Op::AddressesSet { addresses: wanted.clone(), was }]
        })?;
        let Some((done, _)) = resumed else { return Ok(Exit::LOCAL) };
        (done.seq, done.head)
    } else {
        let ServerView { seq, head, .. } = client.get(SERVER, &[])?;
        (seq, head)
    };
    let ServerView { keys, .. } = client.get(SERVER, &[])?;
    if !keys.contains(&server) {
        let text = "the vault goes on with another server, which still answers: the new one has no \
                    more than the beginning of the log";
        let way = "stop the other server, and run the same command again";
        bail!(Failure::remote(text).hint(way));
    }
    let Some(pins) = Pins::load(&global.paths()?)? else { return Ok(Exit::OK) };
    let Machines { machines, own, .. } = client.get(MACHINES, &[])?;
    let others = machines.into_iter().filter(|row| row.active && own != Some(row.number));
    let others: Vec<Name> = others.map(|row| row.name).collect();
    if !others.is_empty() {
        term.say("the other machines accept the new key with a line of their own:");
    }
    for name in others {
        let line = others::line(&pins, name.clone(), addresses.clone(), &server, done)?;
        term.line(format!("{name}: vault-agent join {line}"))?;
    }
    term.say("then, on each: `vault heal` gives the server what that machine has");
    Ok(Exit::OK)
}

fn line(file: Option<&Path>, global: &Global) -> Result<String> {
    if let Some(file) = file {
        let text = std::fs::read_to_string(file);
        return text.with_context(|| format!("cannot read `{}`", file.display()));
    }
    if global.can_ask() {
        global.term.show("Setup line of the new server (VLTS1-…): ");
    }
    let line = global.term.read_line()?.unwrap_or_default();
    if line.trim().is_empty() {
        bail!(hinted(
            "there is no setup line",
            "`vault-server init --adopt` prints it: paste it when asked, pipe it in, or name its \
             file with `--setup-file`"
        ));
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[test]
    fn where_no_line_comes_the_way_to_give_one_is_told() {
        let read = |input: &str| line(None, &World::new(input).global());
        assert_eq!(read("VLTS1-a\n").unwrap(), "VLTS1-a");
        for input in ["", "\n"] {
            let why = read(input).unwrap_err();
            assert_eq!(why.to_string(), "there is no setup line");
            assert!(host::hint::hint(&why).unwrap().contains("`--setup-file`"));
        }
    }
}
