//! `vault audit`: who read and wrote what, and the proof that the records are whole.

mod export;
mod filter;
mod log;
mod narrow;
mod nothing;
pub(super) mod pages;
mod shape;
mod summary;
mod verify;
pub(super) mod when;
pub(super) mod words;

use crate::client::Error;
use crate::context::Global;
use host::hint::{Exit, Failure};
use host::shown::Shown;

/// Review and verify the audit log
// What each is for stands at its arguments.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Log(log::LogArgs),
    Tail(log::TailArgs),
    Summary(summary::SummaryArgs),
    Export(export::ExportArgs),
    Verify(verify::VerifyArgs),
}

pub(crate) fn run(global: &Global, command: &Command) -> anyhow::Result<Exit> {
    let ran = match command {
        Command::Log(args) => log::log(global, args),
        Command::Tail(args) => log::tail(global, args),
        Command::Summary(args) => summary::run(global, args),
        Command::Export(args) => export::run(global, args),
        Command::Verify(args) => verify::run(global, args),
    };
    ran.map_err(|why| away(&why).map_or(why, Into::into))
}

/// Tells what the agent says of a server that it cannot ask, which is the server's trouble and no
/// request's.
fn away(why: &anyhow::Error) -> Option<Failure> {
    let Some(Error::Refused(refusal)) = why.downcast_ref() else { return None };
    let text = refusal.errors.as_ref().ok()?.first()?;
    let (text, hint) = text.split_once("\nhint: ")?;
    (refusal.status == 502).then(|| Failure::remote(Shown::text(text)).hint(hint))
}
