//! `vault audit`: who read and wrote what, and the proof that the records are whole.

mod export;
mod log;
mod query;
mod summary;

use anyhow::bail;

use crate::context::Global;
use crate::print::Format;
use host::hint::{Exit, Failure};
use machine::local::{self, VerifyResult};

/// Review and verify the audit log
// What each is for stands at its arguments.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Log(log::LogArgs),
    Tail(log::TailArgs),
    Summary(summary::SummaryArgs),
    Export(export::ExportArgs),
    /// Check every record against the chain and the machines' signed heads
    Verify,
}

pub(crate) fn run(global: &Global, command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Log(args) => log::log(global, args),
        Command::Tail(args) => log::tail(global, args),
        Command::Summary(args) => summary::run(global, args),
        Command::Export(args) => export::run(global, args),
        Command::Verify => verify(global),
    }
}

fn verify(global: &Global) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let result: VerifyResult = global.client()?.get(local::AUDIT_VERIFY, &[])?;
    let VerifyResult { checked, head, anchors, bad } = &result;
    let whole = || {
        let hash = head.hash;
        let heads = format!("{anchors} signed heads agree; head {hash}");
        format!("{checked} audit records are whole; {heads}").into()
    };
    if format != Format::Table || bad.is_none() {
        global.show(format, whole, &result)?;
    }
    let Some(bad) = bad else { return Ok(Exit::OK) };
    bail!(
        Failure::remote(format!("audit record {}: {}", bad.n, bad.reason))
            .hint(format!("the first {checked} records are whole; treat the server as taken over"))
    )
}
