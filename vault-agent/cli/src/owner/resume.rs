//! `vault resume`: an owner lets a restored server go on from where it stands, with the one-time
//! code that its host shows; who may act from there on is confirmed, or removed, in the same entry.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use shared::hash::Hash;
use shared::head::Head;
use shared::log::{Entry, Number, Op, Resume};
use shared::name::{Actor, Name};
use shared::text::Text;

use crate::context::Global;
use crate::owner::owning::{Signing, active};
use crate::owner::recovery::page;
use crate::owner::signing::act::{Owner, Signed};
use crate::owner::signing::admin::AdminFile;
use crate::owner::signing::words;
use host::hint::{Exit, Failure, hinted, parsed};
use machine::local::{LostEntry, MachineRow, Machines, RESUME, Restored, ResumeRequest, Submitted};

/// Why a machine is removed, for the log.
const REASON: &str = "not confirmed when the vault was resumed";

/// Let a restored server go on from where its log ends, without what is lost
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "`vault heal` on every machine comes first: what it gives back is not lost.
The code stands in the file `resume-code` in the server's data directory;
without --code and --code-file it is asked for.")]
pub struct Args {
    /// `-` reads the one-time code from the server's host from standard input
    #[arg(long, value_name = "-", conflicts_with = "code_file")]
    pub(super) code: Option<String>,

    /// Read the code from this file
    #[arg(long, value_name = "FILE")]
    code_file: Option<PathBuf>,

    /// Go on without so many entries that the server lacks, as the refusal without this flag lists
    /// them
    #[arg(long, value_name = "ENTRIES", default_value_t = 0, hide_default_value = true)]
    lose: u64,

    /// Remove this machine in the same entry; repeatable
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    remove: Vec<String>,

    /// Sign as root instead, by the recovery kit, or both of its secret lines; `-` reads standard
    /// input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["admin", "passphrase_file"])]
    kit: Option<PathBuf>,

    #[command(flatten)]
    signing: Signing,
}

impl Args {
    /// Returns those of a caller that needs the code alone.
    pub(super) fn of_code(code: Option<String>, code_file: Option<PathBuf>) -> Self {
        Self { code, code_file, ..Self::default() }
    }
}

pub(crate) fn run(global: &Global, args: &Args) -> Result<Exit> {
    let resumed = go_on(global, args, None, |_| Vec::new())?;
    Ok(if resumed.is_some() { Exit::OK } else { Exit::LOCAL })
}

/// Resumes, with further acts in the same entry, by a code that is asked for unless it is known;
/// `None` if the person says no.
pub(super) fn go_on(
    global: &Global,
    args: &Args,
    known: Option<Hash>,
    more: impl FnOnce(&Restored) -> Vec<Op>,
) -> Result<Option<(Submitted, Restored)>> {
    let removed = args.remove.iter().map(|name| parsed(name.parse::<Name>()));
    let removed = removed.collect::<Result<Vec<_>, _>>()?;
    demand_signer(global, args)?;
    let client = global.client()?;
    let found: Restored = client.get(RESUME, &[])?;
    if !found.restored {
        bail!(
            Failure::remote("the server was not restored: there is nothing to resume")
                .hint("`vault status` shows what is the matter")
        );
    }
    check_loss(global, &found, args.lose)?;
    let machines = machines(&found);
    let removed = chosen(global, &found, &machines, &removed, args.signing.yes)?;
    let code = known.map_or_else(|| code(global, args), Ok)?;
    let owner = owner(global, args, &found)?;
    let more = more(&found);
    let entry = entry(global, &found, owner.by(), removed, more);
    let signed = owner.sign_entry(entry, &machines, |envelope| {
        Ok(client.post::<Submitted>(RESUME, &ResumeRequest { envelope, code })?)
    })?;
    let Signed::Done(done) = signed else { return Ok(None) };
    global.term.say(format!("the vault goes on: entry {}", done.seq));
    if found.lost > 0 {
        let head = Head { epoch: done.head, seq: done.seq, head: done.head };
        global.term.say(format!(
            "a machine that has seen an owner's act among what is lost stops with E_FORK; there, \
             run: vault-agent accept {head}"
        ));
    }
    Ok(Some((done, found)))
}

/// Demands that there is what signs, before anything else is asked for.
pub(super) fn demand_signer(global: &Global, args: &Args) -> Result<()> {
    let paths = global.paths()?;
    if args.kit.is_some() || args.signing.admin.is_some() || AdminFile::any(&paths)? {
        return Ok(());
    }
    bail!(hinted(
        format!("no admin key in `{}`", paths.admin().display()),
        "run this where an admin's key is; if none is left, sign with the recovery kit: the same \
         command with `--kit -`"
    ))
}

/// Returns who signs: an admin, or root by the kit, whose key has to hold where the server stands.
fn owner<'a>(global: &'a Global, args: &Args, found: &Restored) -> Result<Owner<'a>> {
    let Some(file) = &args.kit else { return Owner::at(global, &args.signing) };
    let root = page::read(file, global)?.root;
    let is_there = found.root.as_ref().is_none_or(|key| *key == root.verify_key());
    let owner = Owner::root(global, root, None, args.signing.yes)?;
    page::demand("root", is_there, owner.pins.vault)?;
    Ok(owner)
}

/// Refuses to lose entries that nobody has named.
fn check_loss(global: &Global, found: &Restored, named: u64) -> Result<()> {
    let Restored { lost, entries, ahead, head, .. } = found;
    if *lost == named {
        return Ok(());
    }
    if *lost == 0 {
        bail!(hinted(
            format!("`--lose {named}`, but nothing is lost"),
            "run it again without `--lose`"
        ));
    }
    let term = &global.term;
    term.say(format!("the server's log ends at entry {}; these would be lost:", head.seq));
    if let Some(first) = entries.first() {
        let shown = entries.len() as u64;
        if shown < *lost && ahead.is_empty() {
            term.say(format!("  {} before entry {}", lost - shown, first.seq));
        }
    }
    for entry in entries {
        term.say(format!("  {}", line(entry)));
    }
    for (machine, seq) in ahead {
        term.say(format!("  what `{machine}` has seen up to entry {seq}"));
    }
    let plural = if *lost == 1 { "entry" } else { "entries" };
    bail!(
        Failure::remote(format!("the server lacks {lost} {plural} that machines have seen")).hint(
            format!(
                "run `vault heal` on the machines that have them; to go on without: `--lose {lost}`"
            )
        )
    )
}

fn line(LostEntry { seq, time, by, what, .. }: &LostEntry) -> String {
    format!("entry {seq}, {time}, {by}: {}", what.join(", "))
}

/// Returns the server's machines as those commands know them that look at the present state.
fn machines(found: &Restored) -> Machines {
    let machines = found.machines.clone();
    Machines { machines, next: 0, own: found.own, server: Vec::new(), checkpoint: None }
}

/// Shows who may act from there on, and returns which machines are removed: those named, and where
/// a person is asked, those that they do not confirm.
fn chosen(
    global: &Global,
    found: &Restored,
    machines: &Machines,
    named: &[Name],
    yes: bool,
) -> Result<Vec<Number>> {
    let mut removed = Vec::new();
    for name in named {
        let number = active(machines, name)?.number;
        if Some(number) == found.own {
            bail!(hinted(format!("`{name}` is this machine"), "resume from another machine"));
        }
        removed.push(number);
    }
    let term = &global.term;
    let admins = found.admins.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
    term.say(format!("admins as of entry {}: {admins} (root alone removes one)", found.head.seq));
    term.say("machines as of then:");
    for row in &found.machines {
        let MachineRow { name, number, read, write, .. } = row;
        let (reads, writes) = (words::grants(read), words::grants(write));
        let fate = match (removed.contains(number), found.own == Some(*number)) {
            (true, _) => ", is removed",
            (_, true) => ", this machine",
            (false, false) => "",
        };
        term.say(format!("  {name}: reads {reads}; writes {writes}{fate}"));
        if yes || !fate.is_empty() || !global.can_ask() {
            continue;
        }
        term.show("    keep it? [Y/n] ");
        let answer = term.read_line()?.unwrap_or_default();
        if matches!(answer.trim().to_ascii_lowercase().as_str(), "n" | "no" | "nein") {
            removed.push(*number);
        }
    }
    Ok(removed)
}

fn entry(
    global: &Global,
    found: &Restored,
    by: Actor,
    removed: Vec<Number>,
    more: Vec<Op>,
) -> Entry {
    let Restored { head, audit, .. } = found;
    let resume =
        Resume { seq: head.seq, head: head.head, audit_n: audit.n, audit_head: audit.hash };
    let reason = Text::lossy(REASON);
    let remove = |number| Op::MachineRemove { number, reason: reason.clone() };
    // A server that was restored with a new key is accepted by it from here on.
    let rekey = found
        .unlisted
        .iter()
        .map(|key| Op::ServerSet { keys: vec![key.clone()], was: found.was_server });
    let acts = rekey.chain(more).chain(removed.into_iter().map(remove));
    let ops = std::iter::once(Op::Resume(resume)).chain(acts).collect();
    Entry { seq: head.seq + 1, prev: head.head, time: global.now(), by, ops }
}

/// Returns the one-time code.
pub(super) fn code(global: &Global, Args { code, code_file, .. }: &Args) -> Result<Hash> {
    let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
    let text = match (code.as_deref(), code_file) {
        (Some("-"), _) => global.term.read_line()?.unwrap_or_default(),
        (Some(_), _) => bail!(hinted(
            "`--code` takes `-` alone: whoever uses this host sees its commands",
            "pass `--code-file FILE`, or `--code -` and the code on standard input"
        )),
        (None, Some(file)) => first(read(file)?),
        (None, None) if global.can_ask() => {
            global.term.show("One-time code (file `resume-code` on the server's host): ");
            global.term.read_line()?.unwrap_or_default()
        }
        (None, None) => bail!(hinted(
            "the one-time code of the server's host is missing",
            "pass `--code-file FILE`, or `--code -` and the code on standard input"
        )),
    };
    text.trim().parse().map_err(|_| {
        hinted(
            "that is no one-time code: 64 digits of 0 to 9 and a to f",
            "copy the whole line of the file `resume-code` in the server's data directory",
        )
    })
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))
}

#[cfg(test)]
mod tests {
    use shared::grant::Grants;
    use shared::keys::SignKey;

    use super::*;
    use crate::testing::{World, now};

    /// A host of a vault with an admin key, and an agent that shows where the server stands.
    fn host(found: &Restored) -> World {
        let shown = serde_json::to_string(found).unwrap();
        World::admin(&[("GET /v1/agent/resume", 200, &shown)])
    }

    fn row(name: &str, number: Number, read: &str) -> MachineRow {
        MachineRow {
            name: name.parse().unwrap(),
            number,
            active: true,
            sleeps: false,
            sign: SignKey::from_seed(&[3; 32]).verify_key(),
            read: Grants::parse(&[read]).unwrap(),
            write: Grants::default(),
            seen_at: None,
            agent: None,
        }
    }

    fn whole() -> Restored {
        let head = Head { epoch: Hash::ZERO, seq: 7, head: Hash::of(&[b"7"]) };
        Restored {
            restored: true,
            head,
            unlisted: None,
            was_server: Hash::ZERO,
            addresses: Vec::new(),
            was_addresses: Hash::ZERO,
            audit: shared::audit::AuditHead::EMPTY,
            root: None,
            admins: vec!["jonas".parse().unwrap()],
            machines: vec![row("rtx1080", 1, "*"), row("vps", 2, "secret/jjeco/")],
            own: Some(1),
            lost: 0,
            entries: Vec::new(),
            ahead: Vec::new(),
        }
    }

    #[test]
    fn what_would_be_lost_is_listed_and_has_to_be_named() {
        let lost = |seq, what: &str| LostEntry {
            seq,
            time: now(),
            by: "machine:vps".parse().unwrap(),
            own: false,
            what: vec![what.to_owned()],
        };
        let entries = vec![lost(8, "put secret/a version 2"), lost(9, "put secret/b version 1")];
        let ahead = vec![("nas".parse().unwrap(), 12)];
        let world = host(&Restored { lost: 5, entries, ahead, ..whole() });
        insta::assert_snapshot!(world.run("resume --yes --lose 2").shown(), @r"
        exit 2
        --- stdout
        --- stderr
        the server's log ends at entry 7; these would be lost:
          entry 8, 2026-11-23T20:00:00Z, machine:vps: put secret/a version 2
          entry 9, 2026-11-23T20:00:00Z, machine:vps: put secret/b version 1
          what `nas` has seen up to entry 12
        the server lacks 5 entries that machines have seen
        hint: run `vault heal` on the machines that have them; to go on without: `--lose 5`
        ");
    }

    #[test]
    fn what_is_wrong_with_a_call_is_named_with_the_way_out() {
        let restored = host(&whole());
        let file = restored.file("code", "12");
        let shown = [
            restored.run("resume --yes --lose 3").shown(),
            restored.run("resume --yes --remove rtx1080").shown(),
            restored.run("resume --yes --remove nas").shown(),
            restored.run("resume --yes --remove vps").shown(),
            restored.run("resume --yes --code 12").shown(),
            restored.run(&format!("resume --yes --code-file {file}")).shown(),
            host(&Restored { restored: false, ..whole() }).run("resume --yes").shown(),
        ];
        insta::assert_snapshot!(shown.join("\n"), @r"
        exit 1
        --- stdout
        --- stderr
        `--lose 3`, but nothing is lost
        hint: run it again without `--lose`

        exit 1
        --- stdout
        --- stderr
        `rtx1080` is this machine
        hint: resume from another machine

        exit 2
        --- stdout
        --- stderr
        there is no machine `nas`
        hint: there are: rtx1080, vps

        exit 1
        --- stdout
        --- stderr
        admins as of entry 7: jonas (root alone removes one)
        machines as of then:
          rtx1080: reads everything (*); writes nothing, this machine
          vps: reads secret/jjeco/; writes nothing, is removed
        the one-time code of the server's host is missing
        hint: pass `--code-file FILE`, or `--code -` and the code on standard input

        exit 1
        --- stdout
        --- stderr
        admins as of entry 7: jonas (root alone removes one)
        machines as of then:
          rtx1080: reads everything (*); writes nothing, this machine
          vps: reads secret/jjeco/; writes nothing
        `--code` takes `-` alone: whoever uses this host sees its commands
        hint: pass `--code-file FILE`, or `--code -` and the code on standard input

        exit 1
        --- stdout
        --- stderr
        admins as of entry 7: jonas (root alone removes one)
        machines as of then:
          rtx1080: reads everything (*); writes nothing, this machine
          vps: reads secret/jjeco/; writes nothing
        that is no one-time code: 64 digits of 0 to 9 and a to f
        hint: copy the whole line of the file `resume-code` in the server's data directory

        exit 2
        --- stdout
        --- stderr
        the server was not restored: there is nothing to resume
        hint: `vault status` shows what is the matter
        ");
    }

    #[test]
    fn one_entry_resumes_and_removes() {
        let world = host(&whole());
        let found = whole();
        let entry = entry(&world.global(), &found, "admin:jonas".parse().unwrap(), vec![2], vec![]);
        assert_eq!((entry.seq, entry.prev, entry.time), (8, found.head.head, now()));
        let names: Vec<&str> = entry.ops.iter().map(Op::name).collect();
        assert_eq!(names, ["resume", "machine_remove"]);
    }
}
