//! `vault recovery renew`: a new kit takes the place of the old one. Both of its keys are replaced
//! by one entry, which the old root signs; what was encrypted to the old kit is re-encrypted by the
//! entries after it, which the new root signs.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use shared::log::Op;

use super::renewal::Renewal;
use super::{giving, page, proof, signed};
use crate::context::Global;
use crate::owner::init::{Keeping, ShownKit, check_kit_place, keep_kit};
use crate::owner::resumable::Resumable as _;
use crate::owner::signing::act::{Owner, Signed};
use crate::owner::signing::admin::Work;
use crate::owner::signing::kit::Kit;
use crate::owner::signing::passphrase::Source;
use host::hint::{Exit, Failure, hinted};
use host::shown::quoted;
use machine::local::{KEPT, Kept, KeptVersion, Submitted};
use machine::paths::Paths;

/// Versions that are named one by one.
const NAMED: usize = 10;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Run it on a machine that reads everything. Interrupted, the same command goes on; it then needs the
new kit: from the file of --new-kit, or typed.")]
pub struct Args {
    /// The kit that holds today, or both of its secret lines; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    kit: PathBuf,

    /// Write the new kit to a new file instead of the terminal
    #[arg(long, value_name = "FILE")]
    new_kit: Option<PathBuf>,

    /// Make that file a page to print, with a QR code
    #[arg(long, requires = "new_kit")]
    html: bool,

    /// Give up a renewal whose new kit is lost, while the old one holds
    #[arg(long)]
    start_over: bool,

    /// Do not ask to type back part of the new kit
    #[arg(long)]
    kit_confirmed: bool,

    /// Sign without asking
    #[arg(long, short)]
    yes: bool,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let paths = global.paths()?;
    let kept: Kept = global.client()?.get(KEPT, &[])?;
    page::demand_taken(global)?;
    demand_all_readable(&kept)?;
    let mut renewal = begun(&kept, &paths, global)?;
    if renewal.is_none() || args.start_over {
        ShownKit::void(&paths, &global.term)?;
        check_kit_place(&keeping(args), &global.term)?;
    }
    let given = page::read(&args.kit, global)?;
    if renewal.as_ref().is_none_or(|renewal| kept.root != renewal.root) {
        page::demand_root(&given, &kept)?;
    }
    if let Some(begun) = renewal.take_if(|_| args.start_over) {
        give_up(&begun, &kept, &paths, global)?;
    }
    if let Some(over) = renewal.take_if(|begun| kept.root == begun.root && begun.is(&given)) {
        check_kit_place(&keeping(args), &global.term)?;
        end(&over, &kept, &given, args.yes, &paths, global)?;
    }
    let (renewal, new) = match renewal {
        Some(renewal) => {
            // The confirmation was the last step before it was written.
            ShownKit::remove(&paths)?;
            global.term.say(format!(
                "going on with the renewal begun on {}: the new kit of that time holds",
                renewal.begun
            ));
            if kept.root != renewal.root {
                global.term.say_hinted(
                    "the old kit still holds",
                    "if the new one is lost: the same command with `--start-over` makes another",
                );
            }
            let new = new_kit(&renewal, &given, args, global)?;
            if kept.root != renewal.root {
                giving::demand_all(&kept, &given, global)?;
            }
            (renewal, new)
        }
        None => {
            giving::demand_all(&kept, &given, global)?;
            begin(&kept, args, &paths, global)?
        }
    };
    if kept.root == renewal.root {
        // What neither opens is told at the end.
        giving::give(&kept, &given, global)?;
        re_encrypt(&kept, new.copy(), args.yes, global)?;
    } else if !replace(&given, &new, args.yes, global)? {
        Renewal::remove(&paths)?;
        global.term.say("destroy the new kit: it opens nothing");
        return Ok(Exit::LOCAL);
    }
    finish(&renewal, &new, args, &paths, global)
}

/// Returns the renewal that was begun; forgets one whose kits are both without power by now.
fn begun(kept: &Kept, paths: &Paths, global: &Global) -> Result<Option<Renewal>> {
    let mut renewal = Renewal::load(paths)?.filter(|renewal| renewal.vault == kept.vault);
    let is_over = |begun: &mut Renewal| ![&begun.old_root, &begun.root].contains(&&kept.root);
    if let Some(over) = renewal.take_if(is_over) {
        Renewal::remove(paths)?;
        global.term.say(format!("the renewal begun on {} is over: a third kit holds", over.begun));
    }
    Ok(renewal)
}

/// Ends a renewal whose new kit holds, and is given to be renewed itself: re-encrypts what it has
/// left.
fn end(
    over: &Renewal,
    kept: &Kept,
    new: &Kit,
    yes: bool,
    paths: &Paths,
    global: &Global,
) -> Result<()> {
    re_encrypt(kept, new.copy(), yes, global)?;
    // What the kit before it alone opens must not be forgotten with the renewal.
    giving::demand_all(&global.client()?.get(KEPT, &[])?, new, global)?;
    ShownKit::remove(paths)?;
    Renewal::remove(paths)?;
    let begun = over.begun;
    global.term.say(format!("the kit of the renewal begun on {begun} holds; it is renewed now"));
    signed::show(global, "root", &over.old_root)
}

/// Re-encrypts, by the new kit that holds already, what a renewal has left.
fn re_encrypt(kept: &Kept, new: Kit, yes: bool, global: &Global) -> Result<()> {
    let done = Submitted { seq: kept.seq, head: kept.head };
    Owner::root(global, new.root, None, yes)?.with_history().re_encrypt(done)
}

/// Forgets a renewal of which no entry tells yet.
fn give_up(renewal: &Renewal, kept: &Kept, paths: &Paths, global: &Global) -> Result<()> {
    let begun = renewal.begun;
    if kept.root == renewal.root {
        bail!(hinted(
            format!("the new kit of {begun} holds already: the old one makes no other"),
            "go without `--start-over`, with the page of that time"
        ));
    }
    Renewal::remove(paths)?;
    global.term.say(format!("the new kit of {begun} opens nothing: destroy it if you find it"));
    Ok(())
}

/// Refuses to leave versions behind that only the old kit could open.
fn demand_all_readable(kept: &Kept) -> Result<()> {
    let Some(first) = kept.versions.iter().find(|version| !version.granted) else {
        return Ok(());
    };
    bail!(
        Failure::remote(format!(
            "this machine does not read `{}`, and could not re-encrypt it",
            first.path
        ))
        .hint("run this on a machine that reads everything: `vault access show` lists them")
    )
}

/// Makes the new kit, has it kept, and writes down what a second attempt needs.
fn begin(kept: &Kept, args: &Args, paths: &Paths, global: &Global) -> Result<(Renewal, Kit)> {
    let keeping = keeping(args);
    let (new, now) = (Kit::generate(), global.now());
    keep_kit(&new, &kept.name, (kept.vault, now), &keeping, paths, &global.term)?;
    let renewal = Renewal {
        begun: now,
        vault: kept.vault,
        old_root: kept.root.clone(),
        root: new.root.verify_key(),
        recovery: new.recovery.recipient(),
    };
    renewal.store(paths)?;
    ShownKit::remove(paths)?;
    Ok((renewal, new))
}

fn keeping(args: &Args) -> Keeping {
    Keeping {
        passphrase: Source::Terminal,
        work: Work::Second,
        kit: args.new_kit.clone(),
        html: args.html,
        kit_confirmed: args.kit_confirmed,
        chosen: None,
    }
}

/// Returns the new kit of an earlier attempt.
fn new_kit(renewal: &Renewal, given: &Kit, args: &Args, global: &Global) -> Result<Kit> {
    if renewal.is(given) {
        return Ok(given.copy());
    }
    let kit = match args.new_kit.as_deref().filter(|file| file.exists()) {
        Some(file) => page::read(file, global)?,
        None if global.can_ask() => page::typed(global, "type both secrets of the new kit")?.0,
        None => bail!(hinted(
            "the new kit is needed to go on",
            "name its file: `--new-kit FILE`, or run this at a terminal and type it"
        )),
    };
    if renewal.is(&kit) {
        return Ok(kit);
    }
    let file = args.new_kit.as_deref().unwrap_or_else(|| Path::new("-"));
    bail!(hinted(
        format!("`{}` is not the kit of the renewal begun on {}", file.display(), renewal.begun),
        "look for the page of that time"
    ))
}

/// Signs as the old root, and the re-encryptions as the new one; tells whether the person agreed.
fn replace(old: &Kit, new: &Kit, yes: bool, global: &Global) -> Result<bool> {
    let ops = [
        Op::RecoverySet { recipient: new.recovery.recipient() },
        Op::RootSet { key: new.root.verify_key() },
    ];
    let (key, next) = (old.copy().root, Some(new.copy().root));
    let owner = Owner::root(global, key, next, yes)?.with_history();
    Ok(owner.sign(|_| Ok(ops.to_vec()))? != Signed::Declined)
}

/// Proves the new kit, and says what is left to do.
fn finish(
    renewal: &Renewal,
    new: &Kit,
    args: &Args,
    paths: &Paths,
    global: &Global,
) -> Result<Exit> {
    let (term, kept) = (&global.term, global.client()?.get::<Kept>(KEPT, &[])?);
    page::demand_valid(new, &kept)?;
    let (deleted, live): (Vec<&KeptVersion>, _) = kept.versions.iter().partition(|it| it.deleted);
    let closed = proof::open_all(global, &kept.vault, &new.recovery, &live)?;
    for (KeptVersion { path, ver, .. }, why) in &closed {
        term.say(format!("version {ver} of `{path}`: {why}"));
    }
    if !closed.is_empty() {
        let text = giving::count(closed.len());
        bail!(Failure::remote(format!("the new kit does not open {text} yet")).hint(
            "run the same command again, with the old kit: it opens what this machine does not; or \
             run it on a machine that reads more"
        ));
    }
    let versions = live.len();
    term.say(format!("the new kit holds, and opens all that is kept: {versions} versions"));
    term.say_hinted(
        "the old kit is without power; backups from before open with it alone: keep it as long as \
         you keep them",
        "make a backup now: `vault-server backup FILE` on the server's host; once there is no \
         older one, destroy every copy of the old kit",
    );
    if let Some(file) = args.new_kit.as_deref().filter(|file| file.exists()) {
        let file = quoted(&file.to_string_lossy());
        term.say_hinted(
            format!("the new kit is in `{file}`, which opens everything"),
            format!("print it, then `shred -u {file}`"),
        );
    }
    for KeptVersion { path, ver, .. } in deleted.iter().take(NAMED) {
        term.say_hinted(
            format!("version {ver} of `{path}` is deleted, and still encrypted to the old kit"),
            format!("vault kv destroy -versions={ver} {}", quoted(path.as_str())),
        );
    }
    // What follows may fail: a note left behind would have the next renewal take this for its own.
    Renewal::remove(paths)?;
    signed::show(global, "root", &renewal.old_root)?;
    Ok(Exit::OK)
}
