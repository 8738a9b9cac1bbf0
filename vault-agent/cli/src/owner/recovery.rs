//! `vault recovery`: what only the recovery kit can do. The kit stays in this process.

mod admin;
mod appointing;
mod giving;
pub(in crate::owner) mod page;
mod proof;
mod renew;
mod renewal;
mod signed;
mod trial;

use anyhow::Result;

use crate::context::Global;
use host::hint::Exit;

/// Prove, use and renew the recovery kit
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Prove that the kit opens what the vault has now
    Test(trial::Args),
    /// Appoint an admin with the kit, also instead of one whose passphrase is lost or stolen
    Admin(admin::Args),
    /// Make a new kit, re-encrypt every version to it, and leave the old one without power
    Renew(renew::Args),
}

pub(crate) fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::Test(args) => trial::run(args, global),
        Command::Admin(args) => admin::run(args, global),
        Command::Renew(args) => renew::run(args, global),
    }
}
