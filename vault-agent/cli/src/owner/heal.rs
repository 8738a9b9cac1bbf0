//! `vault heal`: gives a server back what it has lost; ends a stop that waits for a person.

use anyhow::Result;

use crate::context::Global;
use host::hint::Exit;
use machine::local::{HEAL, HealRequest, Healed};

/// Give the server back what it has lost and this machine has
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End this alarm instead, once you know why the audit log has changed: `E_AUDIT_REWRITTEN`
    #[arg(long, value_name = "CODE", value_parser = ["E_AUDIT_REWRITTEN"])]
    clear: Option<String>,
}

pub(crate) fn run(global: &Global, args: Args) -> Result<Exit> {
    let request = HealRequest { clear: args.clear, code: None };
    let healed: Healed = global.client()?.post(HEAL, &request)?;
    if let Some(code) = request.clear {
        global.term.say(format!("{code} is cleared; it comes back if it is still true"));
        return Ok(Exit::OK);
    }
    let Healed { entries, blobs, absent, restored, rewritten } = healed;
    if (entries, blobs) == (0, 0) {
        global.term.say("the server lacks nothing that this machine has");
    } else {
        let entry = if entries == 1 { "entry" } else { "entries" };
        let secret = if blobs == 1 { "secret" } else { "secrets" };
        global.term.say(format!("given back: {entries} {entry}, {blobs} {secret}"));
    }
    if let Some(first) = absent.first() {
        for place in &absent {
            global.term.line(format!("{} v{}", place.path, place.ver))?;
        }
        global.term.say_hinted(
            "the server still lacks the versions above",
            format!(
                "run `vault heal` on a machine that reads them; each keeps the newest version of \
                 what it reads. What no machine has is lost for good: `vault kv destroy \
                 -versions={} {}` takes it off the list",
                first.ver, first.path
            ),
        );
    }
    if rewritten {
        global.term.say_hinted(
            "the audit log has lost records that this machine was shown: E_AUDIT_REWRITTEN",
            "nobody can give them back. Once you know why, as after a restore, run \
             `vault heal --clear E_AUDIT_REWRITTEN` on each machine that shows this alarm",
        );
    }
    if restored {
        global.term.say_hinted(
            "the server was restored from an older copy and takes no change yet",
            "run `vault heal` on the other machines too, then `vault resume` on an admin's machine; \
             if no admin's key is left, `vault resume --kit -` here",
        );
    }
    let whole = absent.is_empty() && !restored && !rewritten;
    Ok(if whole { Exit::OK } else { Exit::REMOTE })
}
