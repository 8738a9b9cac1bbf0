//! `vault server`: where the server is, by which key machines know it, and one that was made anew.

mod adopt;
mod moving;
mod others;
mod rekey;

use anyhow::Result;
use host::hint::Exit;

use crate::context::Global;

/// Move the server, change its key, or give the vault to a new one
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Say at which addresses machines look for the server from now on
    Move(moving::Args),
    /// Have machines accept another key of the server, in two steps
    Rekey(rekey::Args),
    /// Give the vault to a server that was made anew, or restored with a new key
    Adopt(adopt::Args),
}

pub(crate) fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::Move(args) => moving::run(args, global),
        Command::Rekey(args) => rekey::run(args, global),
        Command::Adopt(args) => adopt::run(args, global),
    }
}
