//! `vault log compact`: an owner vouches for what the log leads to, so that nobody needs the
//! entries before. What is dropped then, and when, the server and each machine decide.

use anyhow::Result;
use shared::log::{Checkpoint, Entry, Op};
use shared::name::Name;

use crate::context::Global;
use crate::owner::owning::Signing;
use crate::owner::signing::act::{Owner, Signed};
use host::hint::Exit;
use machine::local::{CHECKPOINT, Compaction, MACHINES, Machines};

/// Vouch for what the log leads to: the entries before are dropped, and new machines join at once
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Secrets, their kept versions, machines, access and the audit log stay as they are. What goes is who
did what before: `vault log` begins later then. Make a backup afterwards: from one of before, the
machines cannot give back what it lacks.

The server and each machine drop the entries once every machine has passed them that does not sleep
at times. Run again without changes in between, it says who is waited for.")]
pub struct Args {
    #[command(flatten)]
    signing: Signing,
}

pub(crate) fn run(global: &Global, args: &Args) -> Result<Exit> {
    let client = global.client()?;
    let found: Compaction = client.get(CHECKPOINT, &[])?;
    if let Some(newest) = found.newest.filter(|newest| is_of(newest, &found)) {
        global.term.say(format!(
            "the checkpoint at entry {} stands for the whole log already",
            newest.seq + 1
        ));
        wait(global, &found);
        return Ok(Exit::OK);
    }
    global.term.say(format!(
        "after this, the log begins after entry {}; `vault log` tells nothing of those before",
        found.now.seq
    ));
    let owner = Owner::at(global, &args.signing)?;
    let machines: Machines = client.get(MACHINES, &[])?;
    let mut known = Some(found);
    let signed = owner.sign_newest(&machines, || {
        let found = match known.take() {
            Some(found) => found,
            None => client.get(CHECKPOINT, &[])?,
        };
        let (seq, time, by) = (found.now.seq + 1, global.now(), owner.by());
        Ok(Entry { seq, prev: found.head, time, by, ops: vec![Op::Checkpoint(found.now)] })
    })?;
    let Signed::Done(done) = signed else { return Ok(Exit::LOCAL) };
    global.term.say(format!("the log begins anew: entry {}", done.seq));
    wait(global, &client.get(CHECKPOINT, &[])?);
    Ok(Exit::OK)
}

/// Tells whether nothing has come since a checkpoint but its own entry.
fn is_of(newest: &Checkpoint, found: &Compaction) -> bool {
    newest.seq + 1 == found.now.seq
}

/// Says who is waited for.
fn wait(global: &Global, found: &Compaction) {
    let term = &global.term;
    if !found.behind.is_empty() {
        let behind = listed(&found.behind);
        term.say_hinted(
            format!("the entries before are dropped once it has reached {behind}"),
            "a host that is away for long holds them up unless `vault machine set NAME --sleeps` \
             says that it may be, or it is removed",
        );
    }
    if !found.asleep.is_empty() {
        let asleep = listed(&found.asleep);
        term.say(format!("nobody waits for {asleep}: what sleeps goes on from the checkpoint"));
    }
}

fn listed(names: &[Name]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use shared::hash::Hash;

    use crate::testing::World;

    use super::*;

    fn found(newest: Option<u64>) -> String {
        let hash = Hash::of(&[b"state"]);
        let named = |seq| Checkpoint { seq, state: hash, size: 4096 };
        let found = Compaction {
            now: named(12),
            head: hash,
            newest: newest.map(named),
            begins: None,
            behind: vec!["nas".parse().unwrap()],
            asleep: vec!["thinkpad".parse().unwrap()],
        };
        serde_json::to_string(&found).unwrap()
    }

    #[test]
    fn what_stands_for_all_already_is_not_signed_again() {
        let found = found(Some(11));
        let world = World::admin(&[("GET /v1/agent/checkpoint", 200, &found)]);
        insta::assert_snapshot!(world.run("log compact --yes").shown(), @r"
        exit 0
        --- stdout
        --- stderr
        the checkpoint at entry 12 stands for the whole log already
        the entries before are dropped once it has reached `nas`
        hint: a host that is away for long holds them up unless `vault machine set NAME --sleeps` says that it may be, or it is removed
        nobody waits for `thinkpad`: what sleeps goes on from the checkpoint
        ");
    }
}
