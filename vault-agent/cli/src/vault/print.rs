//! `vault print token`: the token that requests carry, for the lines of `-output-curl-string`.

use crate::context::Global;
use host::hint::{Exit, Failure};

/// Print what requests carry
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print the token of VAULT_TOKEN or ~/.vault-token
    Token,
}

pub(crate) fn run(global: &Global, command: &Command) -> anyhow::Result<Exit> {
    let Command::Token = command;
    let Some(token) = global.saved_token() else {
        return Err(Failure::local("there is no token").hint("set VAULT_TOKEN").into());
    };
    global.term.data(format!("{token}\n"))?;
    Ok(Exit::OK)
}
