//! `vault kv`: HashiCorp's commands on any KV v2 API. Dispatch only.

mod after;
pub(super) mod content;
pub(super) mod data;
mod delete;
mod diff;
mod edit;
pub(super) mod enable_versioning;
mod find;
mod freshness;
mod get;
pub(super) mod history;
pub(super) mod list;
mod metadata;
mod moving;
mod object;
mod patch;
mod put;
pub(super) mod read;
pub(super) mod replicate;
mod rollback;
mod route;
mod secret;
pub mod suggest;
pub(super) mod walk;
pub(super) mod write;

use crate::context::Global;
use host::hint::Exit;

pub use freshness::Freshness;
pub use route::{Route, Typed};
pub use secret::Secret;
pub(super) use secret::{context, print_field, say_age};

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
    Delete(delete::DeleteArgs),
    /// Bring deleted versions back
    Undelete(delete::VersionsArgs),
    /// Remove versions for good
    Destroy(delete::VersionsArgs),
    /// Write an old version again as the newest
    Rollback(rollback::Args),
    /// Read and change what is kept about a secret
    #[command(subcommand, arg_required_else_help = true)]
    Metadata(metadata::Command),
    /// Find secrets, or keys in them, by name
    Find(find::Args),
    /// Print the versions of a secret: who wrote them, what changed, who has and who read them
    History(history::Args),
    /// Show what changed between two versions; values are masked
    Diff(diff::Args),
    /// Change a secret in an editor
    Edit(edit::Args),
    /// Copy a secret, or a folder of them
    Cp(moving::CpArgs),
    /// Move a secret with all its versions, or a folder of them
    Mv(moving::MvArgs),
    /// Keep versions on a mount that keeps none yet
    EnableVersioning(enable_versioning::Args),
}

/// Runs a command; `history` tells what machines and the audit log add to a secret's versions.
pub fn run(
    global: &Global,
    command: &Command,
    history: impl FnOnce(&Global, &history::Args) -> anyhow::Result<Exit>,
) -> anyhow::Result<Exit> {
    match command {
        Command::Get(args) => get::run(global, args),
        Command::Put(args) => put::run(global, args),
        Command::Patch(args) => patch::run(global, args),
        Command::List(args) => list::run(global, args),
        Command::Delete(args) => delete::delete(global, args),
        Command::Undelete(args) => delete::each(global, args, "Undelete"),
        Command::Destroy(args) => delete::each(global, args, "Destroy"),
        Command::Rollback(args) => rollback::run(global, args),
        Command::Metadata(command) => metadata::run(global, command),
        Command::Find(args) => find::run(global, args),
        Command::History(args) => history(global, args),
        Command::Diff(args) => diff::run(global, args),
        Command::Edit(args) => edit::run(global, args),
        Command::Cp(args) => moving::cp(global, args),
        Command::Mv(args) => moving::mv(global, args),
        Command::EnableVersioning(args) => enable_versioning::run(global, args),
    }
}
