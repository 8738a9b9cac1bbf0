//! `vault heal`: gives a server back what it has lost; ends a stop that waits for a person.

use std::collections::BTreeMap;

use anyhow::Result;
use shared::path::SecretPath;

use crate::context::Global;
use host::hint::Exit;
use host::shown::quoted;
use machine::local::{HEAL, HealRequest, Healed, Unreadable};

/// Secrets whose lost versions are named in a command each.
const NAMED: usize = 5;

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
    if !absent.is_empty() {
        for place in &absent {
            global.term.line(format!("{} v{}", place.path, place.ver))?;
        }
        global.term.say_hinted("the server still lacks the versions above", way(&absent));
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

/// Says what to do about versions that this machine could not give back: destroying them comes
/// last, as another machine may have them.
fn way(absent: &[Unreadable]) -> String {
    let mut secrets: BTreeMap<&SecretPath, Vec<String>> = BTreeMap::new();
    for Unreadable { path, ver } in absent {
        secrets.entry(path).or_default().push(ver.to_string());
    }
    let destroy = secrets.iter().take(NAMED).map(|(path, versions)| {
        format!("`vault kv destroy -versions={} {}`", versions.join(","), quoted(path.as_str()))
    });
    let destroy: Vec<String> = destroy.collect();
    let more = secrets.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(", and {more} more secrets") } else { String::new() };
    format!(
        "run `vault heal` on every machine that reads them: each has the newest version of what it \
         reads, and those that its files may go back to. What is still named once all were asked \
         is lost for good: {}{more} takes it off the list",
        destroy.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destroying_names_every_version_and_comes_after_all_machines() {
        let absent = [("secret/a", 1), ("secret/a", 2), ("secret/b", 7)]
            .map(|(path, ver)| Unreadable { path: path.parse().unwrap(), ver });
        let told = way(&absent);
        let (machines, destroy) = told.split_once("lost for good: ").unwrap();
        assert!(machines.starts_with("run `vault heal` on every machine"), "{machines}");
        let expected = "`vault kv destroy -versions=1,2 secret/a`, \
                        `vault kv destroy -versions=7 secret/b` takes it off the list";
        assert_eq!(destroy, expected);
    }
}
