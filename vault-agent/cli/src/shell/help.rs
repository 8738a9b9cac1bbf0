//! `vault help`: how to call a command, and the flags that all commands take.

use clap::{Args as _, Command};
use host::hint::{Exit, Failure};
use host::shown::Shown;

use crate::context::{Flags, Global};

/// Ends the help of every command.
pub(crate) const FLAGS: &str =
    "Flags of every command, such as -format, and those for other Vaults: `vault help flags`";

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  vault help kv get\n  vault help flags")]
pub struct Args {
    /// Command, e.g. kv get; or flags
    #[arg(value_name = "COMMAND")]
    words: Vec<String>,
}

pub(crate) fn run(global: &Global, args: &Args, mut vault: Command) -> anyhow::Result<Exit> {
    if args.words == ["flags"] {
        global.term.print(Shown::text(flags().render_help().to_string()))?;
        return Ok(Exit::OK);
    }
    vault.build();
    let mut command = &mut vault;
    for word in &args.words {
        let name = command.get_bin_name().unwrap_or("vault").to_owned();
        let unknown = || Failure::local(format!("`{name}` has no command `{word}`"));
        command = command.find_subcommand_mut(word).ok_or_else(unknown)?;
    }
    global.term.print(Shown::text(command.render_help().to_string()))?;
    Ok(Exit::OK)
}

/// Describes the flags as those of a program without commands.
fn flags() -> Command {
    const TEMPLATE: &str =
        "Flags of every command, before or behind its own; with one dash or two\n\n{options}\n";
    let command = Flags::augment_args(Command::new("vault").disable_help_flag(true));
    let command = command.mut_args(|arg| arg.hide(false)).help_template(TEMPLATE);
    if cfg!(test) { command.term_width(100) } else { command }
}
