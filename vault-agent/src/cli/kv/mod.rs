//! `vault kv`: HashiCorp's commands on any KV v2 API. Dispatch only.

mod data;
mod delete;
mod destroy;
mod get;
mod list;
mod metadata;
mod patch;
mod put;
mod rollback;
mod route;
mod secret;
mod undelete;

use super::Global;
use crate::exit::Exit;

pub(super) use get::{current, fetch};
pub use route::Typed;
pub use secret::Secret;
pub(super) use secret::{context, no_value, say_age};

/// Read and write secrets
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print a secret, or one field of it
    Get(get::Args),
    /// Write a secret whole, replacing what is there
    Put(put::Args),
    /// Change some keys of a secret and keep the others
    Patch(patch::Args),
    /// List names below a path
    List(list::Args),
    /// Delete the newest version, or some versions; they can be undeleted
    Delete(delete::Args),
    /// Bring deleted versions back
    Undelete(undelete::Args),
    /// Remove versions for good
    Destroy(destroy::Args),
    /// Write an old version again as the newest
    Rollback(rollback::Args),
    /// Read and change what is kept about a secret
    #[command(subcommand, arg_required_else_help = true)]
    Metadata(metadata::Command),
}

/// Runs one command.
///
/// # Errors
/// Whatever the command meets.
pub fn run(global: &Global, command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Get(args) => get::run(global, args),
        Command::Put(args) => put::run(global, args),
        Command::Patch(args) => patch::run(global, args),
        Command::List(args) => list::run(global, args),
        Command::Delete(args) => delete::run(global, args),
        Command::Undelete(args) => undelete::run(global, args),
        Command::Destroy(args) => destroy::run(global, args),
        Command::Rollback(args) => rollback::run(global, args),
        Command::Metadata(command) => metadata::run(global, command),
    }
}
