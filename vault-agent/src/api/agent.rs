//! `agent/`: what `vault status`, `machine`, `access` and `audit` ask this agent: the fleet as this
//! machine has verified it, audit records, and owners' acts to be signed elsewhere.

use std::time::Duration;

use shared::error::{Code, Error};
use shared::log::{Machine, Number, State};

use crate::daemon::NoRun;
use crate::engine::WriteError;

use super::context::Api;
use super::envelope::{self, ApiAnswer};
use super::error::ApiFault;
use super::request::{Call, Verb};
use host::hint;
use machine::local::{
    AdoptRequest, AuditQuery, GiveRequest, Head, HealRequest, Healed, HookRequest, HookRun,
    MachineRow, Machines, PrepareRequest, SubmitRequest, Trust, VerifyQuery,
};

/// What a machine must be able to read to see audit records.
pub(super) const AUDIT_PATH: &str = shared::scan::REVIEWERS;

/// How long a request for news is held: shorter than the agent may take to end.
const HELD: Duration = Duration::from_secs(4);

/// Answers how far the log is verified, once it is further than the caller knows.
pub(super) async fn wait(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let after = call.query.number("after")?.unwrap_or(0);
    let mut changes = call.api.engine.changes();
    let seq = || call.api.engine.state(State::seq);
    let news = async {
        while seq() <= after {
            changes.changed().await.ok()?;
        }
        Some(())
    };
    // Without news the caller is told so, and asks again.
    let _ = tokio::time::timeout(HELD, news).await;
    Ok(envelope::plain(&Head { seq: seq() }))
}

/// Answers the fleet, as the server knows it now if it is there.
pub(super) async fn status(api: &Api) -> Result<ApiAnswer, ApiFault> {
    let status = api.engine.fleet().await.map_err(|why| ApiFault::Refused(format!("{why:#}")))?;
    Ok(envelope::plain(&status))
}

/// Answers which hosts ask to join, as the server says.
pub(super) async fn waiting(api: &Api) -> Result<ApiAnswer, ApiFault> {
    Ok(envelope::plain(&api.engine.waiting().await.map_err(remote)?))
}

/// Answers every machine that ever was in the vault, and the server's keys.
pub(super) async fn machines(api: &Api) -> Result<ApiAnswer, ApiFault> {
    let seen = api.engine.seen();
    let agents = api.engine.agents().await;
    let mut agents = agents.map_err(|why| ApiFault::Refused(format!("{why:#}")))?;
    let own = api.engine.number();
    let machines = api.engine.state(|state| {
        let row = |(number, machine): (&Number, &Machine)| MachineRow {
            name: machine.name.clone(),
            number: *number,
            active: machine.active,
            sleeps: machine.sleeps,
            sign: machine.sign.clone(),
            read: machine.read.clone(),
            write: machine.write.clone(),
            seen_at: match own == Some(*number) {
                true => Some(host::clock::now()),
                false => seen.get(number).copied(),
            },
            agent: agents.remove(number).filter(|_| machine.active),
        };
        let mut machines: Vec<_> = state.machines().iter().map(row).collect();
        // Those of one name stay by number.
        machines.sort_by(|a, b| a.name.cmp(&b.name));
        let (next, server) = (state.due_machine(), state.server().to_vec());
        Machines { machines, next, own, server, checkpoint: state.checkpoint() }
    });
    Ok(envelope::plain(&machines))
}

/// Refuses a machine that may not review.
pub(super) fn refuse_who_does_not_review(api: &Api) -> Result<(), ApiFault> {
    if api.engine.may_read(&AUDIT_PATH.parse()?) {
        return Ok(());
    }
    Err(ApiFault::Forbidden(format!(
        "this machine has no read grant on `{AUDIT_PATH}`\nhint: an admin gives it with `vault access set {} --read …,{AUDIT_PATH}`",
        api.engine.name()
    )))
}

/// Answers audit records from the server; the query is that of the wire.
pub(super) async fn audit(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    refuse_who_does_not_review(call.api)?;
    let query: AuditQuery = serde_urlencoded::from_str(call.query.0.unwrap_or_default())
        .map_err(|why| ApiFault::Refused(format!("the audit query is malformed: {why}")))?;
    let page = call.api.engine.audit(query).await.map_err(remote)?;
    Ok(envelope::plain(&page))
}

/// Answers what a check of the whole audit chain finds.
pub(super) async fn audit_verify(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let VerifyQuery { from } = serde_urlencoded::from_str(call.query.0.unwrap_or_default())
        .map_err(|why| ApiFault::Refused(format!("the query for a verify is malformed: {why}")))?;
    Ok(envelope::plain(&call.api.engine.audit_verify(from).await.map_err(remote)?))
}

/// Builds the entries of an owner's act; the blobs stay here until they are submitted.
pub(super) async fn prepare(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let request: PrepareRequest = call.typed().await?;
    let prepared = call.api.engine.prepare(request).await;
    let prepared = prepared.map_err(|why| match why.downcast::<Error>() {
        Ok(error) => error.into(),
        Err(why) => ApiFault::Refused(format!("{why:#}")),
    })?;
    Ok(envelope::plain(&prepared))
}

/// Appends a signed entry with its blobs.
pub(super) async fn submit(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let request: SubmitRequest = call.typed().await?;
    match call.api.engine.submit(request.envelope).await {
        Ok(submitted) => Ok(envelope::plain(&submitted)),
        Err(WriteError::Denied) => Err(ApiFault::Forbidden(format!(
            "{}: {}\nhint: {}",
            Code::Denied,
            Code::Denied.sentence(),
            Code::Denied.hint()
        ))),
        Err(error) => Err(error.into()),
    }
}

/// Posts this machine's report and ships what was recorded, now.
pub(super) async fn sync(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    call.api.engine.settle().await.map_err(remote)?;
    Ok(envelope::no_content())
}

/// Runs the hook of a target once more, and tells what came of it.
pub(super) async fn hook(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let HookRequest { target } = call.typed().await?;
    tracing::info!(who = %call.caller.by.who, target = %target.display(), "a hook is run by hand");
    let ran = match &call.api.targets {
        Some(targets) => targets.run_hook(target).await,
        None => Err(NoRun::Gone),
    };
    let ran = ran.map_err(|why| {
        let hint = match why {
            NoRun::NoTarget(_) => "`vault-agent target list` shows them",
            NoRun::NoHook(_) => "give its target one in `agent.toml`",
            NoRun::NotRight(_) => "`vault-agent status` shows how it stands",
            NoRun::Gone => "try again",
        };
        ApiFault::Refused(format!("{why}\nhint: {hint}"))
    })?;
    Ok(envelope::plain(&HookRun { failure: ran.err() }))
}

/// Gives the server back what it has lost, or ends an alarm that a person has looked into.
pub(super) async fn heal(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let HealRequest { clear, code } = call.typed().await?;
    if let Some(alarm) = clear {
        if alarm == Code::Fork.as_str() {
            let way = "hint: run on its host the `vault-agent accept` line that the alarm shows";
            return Err(ApiFault::Refused(format!("`{alarm}` is not cleared by hand\n{way}")));
        }
        if alarm != Code::AuditRewritten.as_str() {
            return Err(ApiFault::Refused(format!("the alarm `{alarm}` ends by itself")));
        }
        call.api.engine.clear_alarm(&alarm);
        tracing::warn!(alarm, who = %call.caller.by.who, "alarm cleared by hand");
        return Ok(envelope::plain(&Healed::default()));
    }
    Ok(envelope::plain(&call.api.engine.heal(code).await.map_err(remote)?))
}

/// Answers what the log says of the server, or takes one that somebody here vouches for.
pub(super) async fn server(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    if call.verb == Verb::Read {
        return Ok(envelope::plain(&call.api.engine.server()));
    }
    let trust: Trust = call.only(Verb::Write)?.typed().await?;
    tracing::warn!(server = %trust.server, who = %call.caller.by.who, "a server is vouched for");
    call.api.engine.trust(trust).await.map_err(remote)?;
    Ok(envelope::plain(&call.api.engine.server()))
}

/// Gives the vault to the server that is vouched for here.
pub(super) async fn adopt(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let AdoptRequest { claim } = call.typed().await?;
    tracing::warn!(who = %call.caller.by.who, "the vault is given to another server");
    call.api.engine.adopt(claim).await.map_err(remote)?;
    Ok(envelope::plain(&call.api.engine.server()))
}

/// Answers what a recovery kit must match and open.
pub(super) fn kept(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    Ok(envelope::plain(&call.api.engine.kept().map_err(remote)?))
}

/// Answers one version's ciphertext.
pub(super) async fn sealed(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let path = call.query.get("path").unwrap_or_default().parse()?;
    let ver = call.query.number("ver")?.unwrap_or(0);
    Ok(envelope::plain(&call.api.engine.sealed(&path, ver).await.map_err(remote)?))
}

/// Takes a version that the recovery kit has opened for this machine.
pub(super) async fn given(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let given: GiveRequest = call.typed().await?;
    call.api.engine.give(given).map_err(remote)?;
    Ok(envelope::no_content())
}

#[expect(clippy::needless_pass_by_value, reason = "it is a function for `map_err`")]
pub(super) fn remote(why: anyhow::Error) -> ApiFault {
    let hint = hint::hint(&why).map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    ApiFault::Remote(format!("{why:#}{hint}"))
}
