//! `vault audit`: who read and wrote what, and the proof that the records are whole.

mod export;
mod log;
mod query;
mod summary;

use anyhow::bail;

use crate::context::Global;
use crate::print::Format;
use host::hint::{Exit, Failure};
use machine::local::{self, ResumedAt, VerifyResult};

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

/// Writes control characters as escapes: what others wrote must not steer the terminal.
fn visible(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

fn verify(global: &Global) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let result: VerifyResult = global.client()?.get(local::AUDIT_VERIFY, &[])?;
    let VerifyResult { checked, head, anchors, restored, bad } = &result;
    let whole = || {
        let hash = head.hash;
        let restored: String = restored
            .iter()
            .map(|ResumedAt { n, time, by }| format!("; restored at {n} on {time} by {by}"))
            .collect();
        format!(
            "{checked} audit records are whole{restored}; {anchors} signed heads agree; head {hash}"
        )
    };
    if format != Format::Table || bad.is_none() {
        global.show(format, whole, &document(&result))?;
    }
    let Some(bad) = bad else { return Ok(Exit::OK) };
    bail!(
        Failure::remote(format!("audit record {}: {}", bad.n, visible(&bad.reason)))
            .hint(format!("the first {checked} records are whole; treat the server as taken over"))
    )
}

/// The answer with times as people and scripts read them.
fn document(result: &VerifyResult) -> serde_json::Value {
    let VerifyResult { checked, head, anchors, restored, bad } = result;
    let restored = restored.iter().map(
        |ResumedAt { n, time, by }| serde_json::json!({ "n": n, "time": time.to_string(), "by": by }),
    );
    serde_json::json!({
        "checked": checked, "head": head, "anchors": anchors,
        "restored": restored.collect::<Vec<_>>(), "bad": bad,
    })
}
