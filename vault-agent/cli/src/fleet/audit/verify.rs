//! `vault audit verify`: every record against the chain, and the chain against the heads that
//! machines have signed.

use anyhow::bail;

use crate::context::Global;
use crate::print::Format;
use host::hint::{Exit, Failure};
use host::progress::Progress;
use host::shown::Shown;
use machine::local::{self, ResumedAt, Unkept, VerifyFrom, VerifyResult, VerifyStep};

/// Check every record against the chain and the machines' signed heads
///
/// Every record since the first is hashed again. A verify that was stopped, within a day, is gone
/// on with.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Begin with the first record, whatever a stopped verify has checked
    #[arg(long)]
    anew: bool,
}

pub(super) fn run(global: &Global, args: &VerifyArgs) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let result = whole(global, args)?;
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

/// Asks for one piece after the other; says on a terminal how far it is.
fn whole(global: &Global, args: &VerifyArgs) -> anyhow::Result<VerifyResult> {
    let client = global.client()?;
    let mut from = if args.anew { VerifyFrom::Anew } else { VerifyFrom::Stopped };
    let (started, mut progress) = (global.now(), None);
    loop {
        let VerifyStep { begun, checked, goal, result } =
            client.get(local::AUDIT_VERIFY, &from.parameters())?;
        if let Some(result) = result {
            if let Some(progress) = progress {
                Progress::end(progress);
            }
            return Ok(result);
        }
        if from == VerifyFrom::Stopped && begun < started {
            global.term.say(format!("going on at record {checked} with the verify of {begun}"));
        }
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let bar = progress.get_or_insert_with(|| Progress::start(&global.term, count(goal)));
        bar.at(count(checked), count(goal), "records");
        from = VerifyFrom::Here;
    }
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
