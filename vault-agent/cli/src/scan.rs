//! `vault scan`: finds values of the vault where they do not belong, in files, in git, and on all
//! hosts. Ends with 0 if there is none, 1 if there is one, 2 if it could not look everywhere.

mod finds;
mod git;
mod hook;
mod hosts;
mod values;

use std::path::{Path, PathBuf};

use crate::context::Global;
use crate::print::Format;
use host::hint::{Exit, Failure};
use machine::scan::tree::{self, Step};
use shared::name::Name;

use finds::{FOUND, Finds};
use git::Repository;
use values::Choice;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Looks for every value that this machine may read: plain, escaped, percent-encoded, base64, hex.
Values are never shown. Exits with 0: none found, 1: found, 2: not all could be searched.

Examples:
  vault scan                     this folder and all in it, ignored files too
  vault scan --hosts             what the scans of all hosts have found; --now: asks for new ones
  vault scan --git               all that a branch or tag of this repository ever held
  vault scan --install-hook      refuse commits with values in them, from now on
  vault scan --min-length 5 a b  short and guessable values too, in a and b"
)]
pub struct Args {
    /// Files and folders, or with --git the folder of a repository [default: this folder]; with
    /// --hosts names of machines [default: all]
    #[arg(value_name = "FILE|MACHINE")]
    paths: Vec<PathBuf>,
    /// Show what the hosts have found, which scan themselves
    #[arg(long, conflicts_with_all = ["git", "staged", "install_hook", "verbose", "Choice"])]
    hosts: bool,
    /// With --hosts: ask them to scan at once, and wait for them
    #[arg(long, requires = "hosts")]
    now: bool,
    /// Search all that the branches, tags and other refs of a repository reach
    #[arg(long, conflicts_with = "staged")]
    git: bool,
    /// Search what the next commit of a repository would change
    #[arg(long)]
    staged: bool,
    #[command(flatten)]
    choice: Choice,
    /// Name all that is not looked for and all that is passed by
    #[arg(short, long)]
    verbose: bool,
    /// Install a pre-commit hook that runs with the other flags given here
    #[arg(long, conflicts_with_all = ["git", "staged"])]
    install_hook: bool,
    /// Put the hook in the place of another one, which is kept and runs first
    #[arg(long, requires = "install_hook")]
    force: bool,
}

/// Returns what a failure ends with: 1 would say that something was found.
pub(super) fn no_find(exit: Exit) -> Exit {
    if exit == Exit::LOCAL { Exit::REMOTE } else { exit }
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let here = [PathBuf::from(".")];
    let paths = if args.paths.is_empty() { &here[..] } else { &args.paths };
    if args.install_hook {
        for folder in paths {
            hook::install(global, folder, &hook_flags(args), args.force)?;
        }
        return Ok(Exit::OK);
    }
    let format = global.format()?;
    if matches!(format, Format::Raw | Format::Pretty | Format::Env) {
        return Err(Failure::local("a scan is printed as table, json or yaml").into());
    }
    if args.hosts {
        let name = |path: &PathBuf| {
            let text = path.to_string_lossy();
            text.parse::<Name>().map_err(|why| Failure::remote(why.to_string()))
        };
        let names = args.paths.iter().map(name).collect::<Result<Vec<_>, _>>()?;
        return hosts::run(global, format, &names, args.now);
    }
    if args.git || args.staged {
        // Before secrets are read for nothing.
        paths.iter().try_for_each(|folder| Repository::around(folder).map(drop))?;
    }
    let client = global.client()?;
    let values = values::read(global, &client, &args.choice)?;
    let targets = finds::targets(&client);
    drop(client);
    let what = if args.git { "object" } else { "file" };
    let mut finds = Finds::new(global, format, what, args.verbose, values, targets);
    let searched = paths.iter().try_for_each(|path| search(global, args, path, &mut finds));
    match searched.and_then(|()| finds.end()) {
        Err(why) if finds.number == 0 => Err(why),
        // Nothing is said of a reader that has read enough; there is a find all the same.
        Err(why) => {
            global.term.fail(&why);
            Ok(FOUND)
        }
        Ok(()) if finds.number > 0 => Ok(FOUND),
        Ok(()) if finds.unreadable > 0 => Ok(Exit::REMOTE),
        Ok(()) => Ok(Exit::OK),
    }
}

fn search(global: &Global, args: &Args, path: &Path, finds: &mut Finds<'_>) -> anyhow::Result<()> {
    if args.git {
        let repository = Repository::around(path)?;
        if repository.is_shallow()? {
            global
                .term
                .say("this is a shallow clone: its older history is not here to be searched");
        }
        repository.history(|object, content| finds.object(object, content))
    } else if args.staged {
        Repository::around(path)?.staged(|object, content| finds.object(object, content))
    } else {
        tree::walk(path, |path, step| {
            match step {
                Ok(Step::File(file)) => finds.file(path, file)?,
                Ok(Step::Skipped(why)) => finds.skipped(path, why),
                Err(why) => finds.unreadable(path, &why),
            }
            Ok(())
        })
    }
}

/// Returns the flags that the hook is to scan with.
fn hook_flags(args: &Args) -> Vec<String> {
    let Choice { all_versions, min_length, not_keys } = &args.choice;
    let mut flags = Vec::new();
    flags.extend(all_versions.then(|| "--all-versions".to_owned()));
    flags.extend(min_length.map(|n| format!("--min-length={n}")));
    flags.extend(not_keys.iter().map(|key| format!("--not-key={key}")));
    flags.extend(args.verbose.then(|| "--verbose".to_owned()));
    flags
}
