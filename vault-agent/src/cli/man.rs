//! `vault man`: manual pages, made from the same descriptions as the help.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Command;
use clap_mangen::Man;

use super::Global;
use crate::exit::{Exit, Failure};
use crate::files::{self, Access};

/// Print the manual page, or write all of them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  vault man kv get | man -l -\n  vault man --out ~/.local/share/man/man1       all pages, those of vault-agent too"
)]
pub struct Args {
    /// Write every page into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Command whose page is printed, e.g. kv get
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    command: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args, vault: Command) -> anyhow::Result<Exit> {
    let vault = built(vault);
    let Some(folder) = &args.out else {
        let mut command = &vault;
        for name in &args.command {
            command = command.find_subcommand(name).ok_or_else(|| {
                Failure::local(format!(
                    "`{}` has no command `{name}`",
                    command.get_bin_name().unwrap_or("vault")
                ))
            })?;
        }
        global.term.print(page(command)?)?;
        return Ok(Exit::OK);
    };
    let folder = std::path::absolute(folder)?;
    std::fs::create_dir_all(&folder).with_context(|| format!("`{}`", folder.display()))?;
    let mut count = 0;
    for program in [vault, built(crate::agent::command())] {
        write(&program, &folder, &mut count)?;
    }
    global.term.say(format!("wrote {count} pages to `{}`", folder.display()));
    Ok(Exit::OK)
}

/// Fills in the full names of all commands.
fn built(program: Command) -> Command {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    program
}

fn page(command: &Command) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}

fn write(command: &Command, folder: &std::path::Path, count: &mut usize) -> anyhow::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let access = Access { mode: 0o644, ..Access::PRIVATE };
    files::replace(&folder.join(format!("{name}.1")), &page(command)?, access)
        .map_err(|why| Failure::local(why.to_string()).hint(why.hint()))?;
    *count += 1;
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        write(inner, folder, count)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::cli::testing::World;

    #[test]
    fn every_command_has_a_page() {
        let world = World::new("");
        let folder = world.path().join("share/man1");
        let run = world.run_args(&["man", "--out", &folder.display().to_string()]);
        assert_eq!(run.exit, 0, "{}", run.err);
        for name in [
            "vault",
            "vault-kv",
            "vault-kv-get",
            "vault-kv-metadata-patch",
            "vault-run",
            "vault-agent",
            "vault-agent-target-add",
        ] {
            let page = std::fs::read_to_string(folder.join(format!("{name}.1"))).unwrap();
            assert!(page.contains(".TH ") && page.contains(".SH NAME"), "{name}");
        }
        let run = world.run_args(&["man", "kv", "get"]);
        assert!(run.out.contains("Print a secret, or one field of it"));
        let run = world.run_args(&["man", "kv", "gett"]);
        assert_eq!((run.exit, run.err.as_str()), (1, "`vault kv` has no command `gett`\n"));
    }
}
