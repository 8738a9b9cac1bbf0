//! `agent/`: what `vault status`, `machine`, `access` and `audit` ask this agent: the fleet as this
//! machine has verified it, audit records, and owners' acts to be signed elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Error;
use shared::error::Code;
use shared::log::{Secret, State};
use shared::name::Name;
use shared::path::SecretPath;
use shared::report::TargetReport;

use crate::engine::{self, Peer, WriteError};
use host::clock;

use super::context::Api;
use super::envelope::{self, ApiAnswer};
use super::error::ApiFault;
use super::request::Call;
use machine::local::{
    AuditQuery, Exposed, Exposure, Head, HealRequest, Healed, MachineRow, Machines, PrepareRequest,
    Rotation, Status, SubmitRequest, TargetRow,
};

/// A machine whose report is this fresh counts as awake.
const AWAKE_SECONDS: u64 = 60;
/// What a machine must be able to read to see audit records.
const AUDIT_PATH: &str = "sys/audit";

/// How long a request for news is held: shorter than the agent may take to end.
const HELD: Duration = Duration::from_secs(4);

/// Answers how far the log is verified, once it is further than the caller knows.
pub(super) async fn wait(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let after = call.query.number("after")?.unwrap_or(0);
    let mut changes = call.api.engine.changes();
    let seq = || call.api.engine.status().seq;
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

/// Answers the fleet, as the server knows it now if it is there: one row for each secret of each
/// target of each machine that is still active.
pub(super) async fn status(api: &Api) -> ApiAnswer {
    api.engine.refresh().await;
    let engine::Status {
        machine, vault, online, server, synced_at, seq, head, alarms, peers, ..
    } = api.engine.status();
    let now = clock::now();
    let targets = api.engine.state(|state| {
        let active = peers.iter().filter(|peer| state.machine(&peer.report.machine).is_some());
        active
            .flat_map(|peer| {
                let awake = peer.online
                    || peer.report.machine == machine
                    || now.seconds_since(peer.at) < AWAKE_SECONDS;
                peer.report.targets.iter().map(move |target| row(state, peer, target, awake))
            })
            .collect()
    });
    envelope::plain(&Status {
        machine,
        vault,
        seq,
        head,
        online,
        server,
        synced_at,
        alarms,
        targets,
        rotations: rotations(api),
    })
}

/// Returns what the secrets that this machine reads say about their rotation.
fn rotations(api: &Api) -> Vec<Rotation> {
    let mut all: Vec<Rotation> = api.engine.state(|state| {
        let said = |(path, secret): (&SecretPath, &Secret)| {
            let custom = |name: &str| secret.custom.get(name).cloned();
            let newest = secret.current().filter(|(_, version)| version.is_live(clock::now()));
            Some(Rotation {
                path: path.clone(),
                rotate_after: custom("rotate_after")?,
                issuer: custom("issuer"),
                owner: custom("owner"),
                created: newest.map(|(_, version)| version.created),
            })
        };
        state.secrets().iter().filter_map(said).collect()
    });
    all.retain(|rotation| api.engine.may_read(&rotation.path));
    all
}

fn row(state: &State, peer: &Peer, target: &TargetReport, awake: bool) -> TargetRow {
    let newest = state.secret(&target.path).and_then(|secret| secret.current());
    // A deleted version is wanted nowhere: the file keeps what it has.
    let wanted = newest.filter(|(_, version)| version.is_live(clock::now())).map(|(ver, _)| ver);
    TargetRow {
        machine: peer.report.machine.clone(),
        target: target.name.to_string(),
        secret: target.path.clone(),
        wanted: wanted.unwrap_or(target.ver),
        applied: target.ver,
        hook: target.hook,
        seen_at: Some(peer.at),
        awake,
        state: target.state,
        detail: target.detail.to_string(),
    }
}

/// Answers every machine that ever was in the vault, and the server's keys.
pub(super) fn machines(api: &Api) -> ApiAnswer {
    let peers = api.engine.status().peers;
    let reports: BTreeMap<&Name, &Peer> =
        peers.iter().map(|peer| (&peer.report.machine, peer)).collect();
    let machines = api.engine.state(|state| {
        let row = |(name, machine): (&Name, &shared::log::Machine)| {
            let peer = reports.get(name).filter(|_| machine.active);
            MachineRow {
                name: name.clone(),
                active: machine.active,
                incarnation: machine.incarnation,
                sign: machine.sign.clone(),
                read: machine.read.clone(),
                write: machine.write.clone(),
                seen_at: peer.map(|peer| peer.at),
                agent: peer.map(|peer| peer.report.agent.to_string()),
            }
        };
        let machines = state.machines().iter().map(row).collect();
        Machines { machines, server: state.server().to_vec() }
    });
    envelope::plain(&machines)
}

/// Answers what a machine could read.
pub(super) async fn exposure(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let name = call.query.get("machine").unwrap_or_default().parse::<Name>()?;
    let found = call.api.engine.exposure(name).await;
    let found = found.map_err(|why| ApiFault::Refused(format!("{why:#}")))?;
    let newest =
        |path: &SecretPath| call.api.engine.state(|state| Some(state.secret(path)?.current()?.0));
    let secrets = found.into_iter().map(|(path, versions)| Exposed {
        current: newest(&path).is_some_and(|newest| versions.contains(&newest)),
        versions: versions.into_iter().collect(),
        path,
    });
    Ok(envelope::plain(&Exposure { secrets: secrets.collect() }))
}

/// Answers audit records from the server; the query is that of the wire.
pub(super) async fn audit(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    if !call.api.engine.may_read(&AUDIT_PATH.parse()?) {
        return Err(ApiFault::Forbidden(format!(
            "this machine has no read grant on `{AUDIT_PATH}`\nhint: an admin gives it with `vault access set {} --read …,{AUDIT_PATH}`",
            call.api.engine.name()
        )));
    }
    let query: AuditQuery = serde_urlencoded::from_str(call.query.0.unwrap_or_default())
        .map_err(|why| ApiFault::Refused(format!("the audit query is malformed: {why}")))?;
    let page = call.api.engine.audit(query).await.map_err(remote)?;
    Ok(envelope::plain(&page))
}

/// Answers what a check of the whole audit chain finds.
pub(super) async fn audit_verify(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    Ok(envelope::plain(&call.api.engine.audit_verify().await.map_err(remote)?))
}

/// Builds the entries of an owner's act; the blobs stay here until they are submitted.
pub(super) async fn prepare(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let request: PrepareRequest = call.typed().await?;
    let prepared = call.api.engine.prepare(request.actor, request.ops, |_, _| {}).await;
    let prepared = prepared.map_err(|why| match why.downcast::<shared::error::Error>() {
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

/// Gives the server back what it has lost, or ends an alarm that a person has looked into.
pub(super) async fn heal(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let HealRequest { clear } = call.typed().await?;
    if let Some(code) = clear {
        if ![Code::Fork, Code::AuditRewritten].iter().any(|known| known.as_str() == code) {
            return Err(ApiFault::Refused(format!("the alarm `{code}` ends by itself")));
        }
        call.api.engine.clear_alarm(&code);
        tracing::warn!(code, who = %call.caller.who, "alarm cleared by hand");
        return Ok(envelope::plain(&Healed::default()));
    }
    Ok(envelope::plain(&call.api.engine.heal().await.map_err(remote)?))
}

/// Answers what proves a recovery kit: public keys, and one secret's ciphertext.
pub(super) async fn sample(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    Ok(envelope::plain(&call.api.engine.sample().await.map_err(remote)?))
}

#[expect(clippy::needless_pass_by_value, reason = "it is a function for `map_err`")]
fn remote(why: Error) -> ApiFault {
    ApiFault::Remote(format!("{why:#}"))
}
