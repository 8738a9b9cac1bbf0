//! `vault kv`: HashiCorp's commands on any KV v2 API. Dispatch only.

pub(super) mod data;
mod delete;
mod destroy;
mod diff;
mod edit;
mod enable_versioning;
mod find;
mod freshness;
mod get;
mod history;
mod list;
mod metadata;
mod moving;
mod patch;
mod put;
pub(super) mod replicate;
mod rollback;
mod route;
mod secret;
mod suggest;
mod undelete;
pub(super) mod walk;

use super::Global;
use crate::exit::Exit;

pub use freshness::Freshness;
pub(super) use get::{current, fetch};
pub use route::{Route, Typed};
pub use secret::Secret;
pub(super) use secret::{context, no_value, print_field, say_age};

/// Read and write secrets
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// HashiCorp's commands.
    #[command(flatten)]
    Basic(Basic),
    /// Commands that HashiCorp does not have.
    #[command(flatten)]
    More(More),
}

/// HashiCorp's commands.
#[derive(Debug, clap::Subcommand)]
pub enum Basic {
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

/// Commands that HashiCorp does not have, and one that is rarely needed.
#[derive(Debug, clap::Subcommand)]
pub enum More {
    /// Find secrets, or keys in them, by name
    Find(find::Args),
    /// Print the versions of a secret
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

/// Reads the words behind `kv get` without clap, if they are a plain look-up.
pub(super) fn plain_get(words: &[std::ffi::OsString]) -> Option<Basic> {
    get::Args::plain(words).map(Basic::Get)
}

/// Tells whether the arguments behind `kv` name one of HashiCorp's commands.
#[must_use]
pub fn is_basic(verb: &str) -> bool {
    matches!(
        verb,
        "get"
            | "put"
            | "patch"
            | "list"
            | "delete"
            | "undelete"
            | "destroy"
            | "rollback"
            | "metadata"
    )
}

/// Runs one command.
///
/// # Errors
/// Whatever the command meets.
pub fn run(global: &Global, command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Basic(command) => basic(global, command),
        Command::More(command) => more(global, command),
    }
}

/// Runs one of HashiCorp's commands.
///
/// # Errors
/// Whatever the command meets.
pub fn basic(global: &Global, command: &Basic) -> anyhow::Result<Exit> {
    match command {
        Basic::Get(args) => get::run(global, args),
        Basic::Put(args) => put::run(global, args),
        Basic::Patch(args) => patch::run(global, args),
        Basic::List(args) => list::run(global, args),
        Basic::Delete(args) => delete::run(global, args),
        Basic::Undelete(args) => undelete::run(global, args),
        Basic::Destroy(args) => destroy::run(global, args),
        Basic::Rollback(args) => rollback::run(global, args),
        Basic::Metadata(command) => metadata::run(global, command),
    }
}

fn more(global: &Global, command: &More) -> anyhow::Result<Exit> {
    match command {
        More::Find(args) => find::run(global, args),
        More::History(args) => history::run(global, args),
        More::Diff(args) => diff::run(global, args),
        More::Edit(args) => edit::run(global, args),
        More::Cp(args) => moving::cp(global, args),
        More::Mv(args) => moving::mv(global, args),
        More::EnableVersioning(args) => enable_versioning::run(global, args),
    }
}
