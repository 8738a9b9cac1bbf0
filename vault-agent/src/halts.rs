//! `vault-agent accept` and `set-aside`: what a person on this host decides when histories differ.

use anyhow::{Result, bail};
use host::hint::{Exit, hinted, parsed};
use host::table;
use host::term::Term;
use machine::local::{
    ACCEPT, AcceptRequest, Accepted, LostEntry, SERVER, SET_ASIDE, ServerView, SetAside, Trust,
};
use machine::paths::Paths;
use shared::hash::Hash;
use shared::path::SecretPath;
use shared::token::PinLine;

use crate::ask;

/// End `E_FORK`: the history that holds this head is the true one
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The alarm `E_FORK` shows the head. Have an admin confirm it over another channel
first, word for word: what this machine has seen and that history lacks is set
aside."
)]
pub struct AcceptArgs {
    /// The head as the alarm shows it
    #[arg(value_name = "SEQ:HEAD:EPOCH")]
    head: String,
}

/// List what the vault went on without, after it was restored from an older copy
#[derive(Debug, clap::Args)]
pub struct SetAsideArgs {
    /// Print the content of the newest version of this secret among it instead
    #[arg(long, value_name = "PATH", conflicts_with = "clear")]
    show: Option<String>,

    /// Drop all of it, and the alarm: files that still hold some of it then follow the vault
    #[arg(long)]
    clear: bool,
}

pub(crate) fn accept(args: &AcceptArgs, paths: &Paths, term: &Term) -> Result<Exit> {
    let head = parsed(args.head.parse())?;
    let Accepted { set_aside, seq } = ask::post(paths, ACCEPT, &AcceptRequest { head })?;
    let entries = if set_aside == 1 { "entry" } else { "entries" };
    term.say(format!("accepted; {set_aside} {entries} set aside; this machine is at entry {seq}"));
    Ok(Exit::OK)
}

/// Has the agent accept the key of the server that a line of an admin tells of.
pub(crate) fn vouch(pin: PinLine, at: (u64, Hash), paths: &Paths, term: &Term) -> Result<Exit> {
    let [server] = &pin.server[..] else {
        bail!(hinted("the line names several keys of the server", "have an admin print it anew"));
    };
    let trust = Trust { server: server.clone(), addresses: pin.addresses, at: Some(at) };
    let _: ServerView = ask::post(paths, SERVER, &trust)?;
    term.say(format!(
        "the server's key {server} is accepted, as the log lists it after entry {}",
        at.0
    ));
    Ok(Exit::OK)
}

pub(crate) fn set_aside(args: &SetAsideArgs, paths: &Paths, term: &Term) -> Result<Exit> {
    if args.clear {
        ask::delete(paths, SET_ASIDE)?;
        term.say("nothing is set aside any more");
        return Ok(Exit::OK);
    }
    if let Some(path) = &args.show {
        let path: SecretPath = parsed(path.parse())?;
        let query = serde_urlencoded::to_string([("path", path.as_str())])?;
        let content = ask::bytes(paths, &format!("{SET_ASIDE}?{query}"))?;
        term.value(&content)?;
        return Ok(Exit::OK);
    }
    let SetAside { count, entries } = ask::ask(paths, SET_ASIDE)?;
    if count == 0 {
        term.say("nothing is set aside");
        return Ok(Exit::OK);
    }
    let cells = entries.iter().map(|LostEntry { seq, time, by, own, what }| {
        let by = if *own { format!("{by} (this machine)") } else { by.to_string() };
        vec![seq.to_string(), time.to_string(), by, what.join(", ")]
    });
    let header = ["ENTRY", "TIME", "BY", "WHAT"];
    term.line(table::plain(&header, &cells.collect::<Vec<_>>()))?;
    let more = count.saturating_sub(entries.len() as u64);
    if more > 0 {
        term.say(format!("{more} older ones are not shown"));
    }
    Ok(Exit::OK)
}
