//! `vault recovery test`: proves that the recovery kit still works, by opening what it should.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::{page, proof};
use crate::context::Global;
use host::hint::{Exit, Failure};
use machine::local::{KEPT, Kept, KeptVersion};

/// Versions that do not open and are named.
const NAMED: usize = 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The kit, or both of its secret lines; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    kit: PathBuf,

    /// Open every version that is kept, not the newest of each secret alone
    #[arg(long)]
    all: bool,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let kept: Kept = global.client()?.get(KEPT, &[])?;
    let kit = page::read(&args.kit, global)?;
    page::demand_valid(&kit, &kept)?;
    let term = &global.term;
    term.say("both keys of the kit are those of the vault");
    let wanted: Vec<&KeptVersion> = kept
        .versions
        .iter()
        .filter(|version| !version.deleted && (args.all || version.newest))
        .collect();
    let (opened, unread): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|it| it.granted);
    let closed = proof::open_all(global, &kept.vault, &kit.recovery, &opened)?;
    for (KeptVersion { path, ver, .. }, why) in closed.iter().take(NAMED) {
        term.say(format!("version {ver} of `{path}`: {why}"));
    }
    if !unread.is_empty() {
        term.say_hinted(
            format!("not tried: {}, of secrets that this machine does not read", count(&unread)),
            "run it on a machine that reads everything too",
        );
    }
    if !closed.is_empty() {
        let text = format!("the kit does not open {} of {}", closed.len(), count(&opened));
        bail!(Failure::remote(text).hint(
            "a secret that is written again opens; `vault recovery renew` re-encrypts every \
             version to a new kit"
        ));
    }
    match opened.as_slice() {
        [] => bail!(
            Failure::remote("nothing was opened: that the kit reads a secret is not proven")
                .hint("run it on a machine that reads secrets, once there are some")
        ),
        [KeptVersion { path, ver, .. }] => {
            term.say(format!("it opens version {ver} of `{path}`: the kit works"));
        }
        many if args.all => term.say(format!("it opens all of {}: the kit works", count(many))),
        many => term.say(format!(
            "it opens the newest version of all {} secrets: the kit works",
            many.len()
        )),
    }
    Ok(Exit::OK)
}

fn count(versions: &[&KeptVersion]) -> String {
    let plural = if versions.len() == 1 { "version" } else { "versions" };
    format!("{} {plural}", versions.len())
}
