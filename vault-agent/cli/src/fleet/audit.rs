//! `vault audit`: who read and wrote what, and the proof that the records are whole.

mod export;
mod filter;
mod log;
mod narrow;
mod nothing;
pub(super) mod pages;
mod shape;
mod summary;
mod when;
pub(super) mod words;

use anyhow::bail;

use crate::client::Error;
use crate::context::Global;
use crate::print::Format;
use host::hint::{Exit, Failure};
use host::shown::Shown;
use machine::local::{self, ResumedAt, Unkept, VerifyResult};

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
    let ran = match command {
        Command::Log(args) => log::log(global, args),
        Command::Tail(args) => log::tail(global, args),
        Command::Summary(args) => summary::run(global, args),
        Command::Export(args) => export::run(global, args),
        Command::Verify => verify(global),
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

fn verify(global: &Global) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let result: VerifyResult = global.client()?.get(local::AUDIT_VERIFY, &[])?;
    let VerifyResult { checked, head, anchors, restored, bad, unkept } = &result;
    let first = unkept.as_ref().map_or(1, |unkept| unkept.last + 1);
    let count = (*checked + 1).saturating_sub(first);
    let whole = || {
        let hash = head.hash;
        let from = if first > 1 { format!(" from {first} on") } else { String::new() };
        let restored: String = restored
            .iter()
            .map(|ResumedAt { n, time, by }| format!("; restored at {n} on {time} by {by}"))
            .collect();
        let whole = format!(
            "{count} audit records{from} are whole{restored}; {anchors} signed heads agree; head {hash}"
        );
        match unkept {
            Some(unkept) => Shown::text(format!("{whole}\n{}", no_longer_kept(unkept))),
            None => whole.into(),
        }
    };
    if format != Format::Table || bad.is_none() {
        global.show(format, whole, &document(&result))?;
    }
    let Some(bad) = bad else { return Ok(Exit::OK) };
    bail!(Failure::remote(format!("audit record {}: {}", bad.n, bad.reason)).hint(match unkept {
        None => format!("the first {checked} records are whole; treat the server as taken over"),
        Some(unkept) => format!(
            "{count} records before it are whole, and {}; treat the server as taken over",
            no_longer_kept(unkept)
        ),
    }))
}

/// Tells which records could not be checked.
fn no_longer_kept(Unkept { last, until, hash }: &Unkept) -> String {
    format!("records 1 to {last}, until {until}, are kept no longer; their end hash is {hash}")
}

/// The answer with times as people and scripts read them.
fn document(result: &VerifyResult) -> serde_json::Value {
    let VerifyResult { checked, head, anchors, restored, bad, unkept } = result;
    let restored = restored.iter().map(
        |ResumedAt { n, time, by }| serde_json::json!({ "n": n, "time": time.to_string(), "by": by }),
    );
    serde_json::json!({
        "checked": checked, "head": head, "anchors": anchors,
        "restored": restored.collect::<Vec<_>>(), "bad": bad,
        "unkept": unkept.as_ref().map(|Unkept { last, until, hash }| {
            serde_json::json!({ "last": last, "until": until.to_string(), "hash": hash })
        }),
    })
}
