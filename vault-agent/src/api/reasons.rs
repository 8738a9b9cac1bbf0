//! What stands before every route: callers of whom it is demanded say why they ask, and no reason
//! tells a value, since it stands in the audit log, which the server keeps.

use shared::audit::{Asker, Fact, Op, Outcome};
use shared::path::SecretPath;

use super::error::ApiFault;
use super::request::Call;
use super::routes::Why;
use super::tokens::{Right, Scope};

/// Lets a caller go on who has said why, if they have to, and tells no value by it; else that is on
/// record.
pub(super) async fn check(call: &Call<'_>, why: &Why) -> Result<(), ApiFault> {
    let wanted = match why {
        Why::Free | Why::Signed => None,
        Why::Wanted(op) => Some(op),
        Why::ForPath(op) => call.query.get("path").map(|_| op),
    };
    let by = &call.caller.by;
    let Some(reason) = &by.reason else {
        let Some(op) = wanted else { return Ok(()) };
        let Some(fault) = call.api.gate.askers.lacks_reason(by) else { return Ok(()) };
        record(call, Fact { result: Outcome::NoReason, ..about(call, op, by) }).await?;
        return Err(fault);
    };
    let (named, writer) = (
        named(call),
        match &call.caller.scope {
            Scope::All => "",
            Scope::Limited(token) => &token.accessor,
        },
    );
    // A refusal tells of the value: of none that the caller may not read.
    let may = |path: &SecretPath| call.caller.scope.covers(path, Right::Read);
    let engine = &call.api.engine;
    let told = engine.tells_value(reason.as_str(), named.as_ref(), writer, may).await;
    if told.map_err(|why| ApiFault::Broken(format!("{why:#}")))? {
        return Err(refused(call, wanted.unwrap_or(&Op::LocalMetadata)).await);
    }
    Ok(())
}

/// Has it on record that a reason would tell a value, without the reason, and returns what the
/// caller hears.
pub(super) async fn refused(call: &Call<'_>, op: &Op) -> ApiFault {
    let silent = Asker { reason: None, ..call.caller.by.clone() };
    let recorded = record(call, Fact { result: Outcome::Denied, ..about(call, op, &silent) }).await;
    recorded.err().unwrap_or_else(|| {
        ApiFault::Refused(
            "the reason holds a value of the vault, or a part of one, and would stand in the audit \
             log\nhint: say why without it"
                .to_owned(),
        )
    })
}

/// Returns what a request is about, by whom.
fn about(call: &Call<'_>, op: &Op, by: &Asker) -> Fact {
    let below = call.below.trim_end_matches('/');
    let own = || match call.is_kv() {
        true => format!("{}/*", call.mount),
        false => format!("{}/{below}", call.mount),
    };
    let path = named(call).or_else(|| own().parse().ok());
    Fact { path, ..Fact::new(op.clone()).by(by) }
}

/// Returns the secret that a request names.
fn named(call: &Call<'_>) -> Option<SecretPath> {
    if call.is_kv() {
        return format!("{}/{}", call.mount, call.name()).parse().ok();
    }
    call.query.get("path")?.parse().ok()
}

async fn record(call: &Call<'_>, fact: Fact) -> Result<(), ApiFault> {
    call.api.engine.record(fact).await.map_err(|why| ApiFault::Broken(format!("{why:#}")))
}
