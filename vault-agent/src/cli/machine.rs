//! `vault machine`. Placeholder until its owner's file arrives.

use super::Global;
use crate::exit::{Exit, Failure};

/// Arguments
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// Always.
#[expect(clippy::needless_pass_by_value, reason = "the owner's version takes them")]
pub fn run(_: Args, _: &Global) -> anyhow::Result<Exit> {
    Err(Failure::local("`vault machine` is not there yet").into())
}
