//! Manual pages, made from the same descriptions as the help of a program.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Command;
use clap_mangen::Man;

use crate::files::{self, Access};
use crate::hint::Failure;

/// Makes the manual page of one command of a program, e.g. `["kv", "get"]`; without words its own.
pub fn page(program: Command, words: &[String]) -> Result<Vec<u8>> {
    let program = built(program);
    let mut command = &program;
    for word in words {
        let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
        let unknown = || Failure::local(format!("`{name}` has no command `{word}`"));
        command = command.find_subcommand(word).ok_or_else(unknown)?;
    }
    Ok(rendered(command)?)
}

/// Writes the pages of a program and of all its commands into a folder, which is made if need be;
/// returns how many.
pub fn write(program: Command, folder: &Path) -> Result<usize> {
    let folder = std::path::absolute(folder)?;
    std::fs::create_dir_all(&folder).with_context(|| format!("`{}`", folder.display()))?;
    write_below(&built(program), &folder)
}

fn write_below(command: &Command, folder: &Path) -> Result<usize> {
    let name = title(command);
    let access = Access { mode: 0o644, ..Access::PRIVATE };
    files::replace(&folder.join(format!("{name}.1")), &rendered(command)?, access)?;
    let mut count = 1;
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        count += write_below(inner, folder)?;
    }
    Ok(count)
}

/// Fills in the full names of all commands.
fn built(program: Command) -> Command {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    program
}

fn rendered(command: &Command) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    let Ok(mut page) = String::from_utf8(page) else {
        return Err(std::io::ErrorKind::InvalidData.into());
    };
    // A page refers to others by the names of the commands, not by those of their pages.
    for inner in command.get_subcommands() {
        let named = format!("{}-{}", title(command), inner.get_name());
        if named != title(inner) {
            page = page.replace(&reference(&named), &reference(title(inner)));
        }
    }
    Ok(page.into_bytes())
}

/// Returns what the page of a command is called.
fn title(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn reference(title: &str) -> String {
    format!("{}(1)", title.replace('-', "\\-"))
}
