//! Signed reports: each machine's latest is kept and given to all.

use shared::audit::Op;
use shared::error::Code;
use shared::name::Actor;
use shared::report::Report;
use shared::wire::v1::report::{Received, ReportReply, ReportRequest};

use crate::store::{Transaction, report};
use crate::watch::Hub;

use super::{Caller, Outcome, Refusal, Vault, admitted, refuse};

impl Vault {
    /// Keeps the caller's report and returns everybody's.
    ///
    /// # Errors
    /// [`Refusal::Rule`] for a report that does not verify, is another's, or is older than the
    /// last one.
    pub async fn report(
        &self,
        caller: &Caller,
        request: ReportRequest,
    ) -> Result<ReportReply, Refusal> {
        let (hub, caller) = (self.0.outlets.hub.clone(), caller.clone());
        self.call(move |tx| {
            if let Err(refusal) = keep(tx, &caller, &request)? {
                return Ok(Err(refusal));
            }
            Ok(Ok(reply(tx, &hub)?))
        })
        .await
    }
}

fn keep(tx: &mut Transaction, caller: &Caller, request: &ReportRequest) -> Outcome<()> {
    let envelope = &request.report;
    let opened = match admitted(tx, caller) {
        Err(refusal) => return Ok(Err(refusal)),
        Ok(_) if envelope.by != Actor::Machine(caller.name.clone()) => {
            let why = format!("report of `{}` from `{}`", envelope.by, caller.name);
            Err(Code::Actor.because(why))
        }
        Ok((state, machine)) => Report::open(envelope, &machine.sign, state.vault()),
    };
    let fact = caller.fact(Op::Report);
    let n = match opened {
        Ok(report) => report.n,
        Err(why) => return refuse(tx, fact, why),
    };
    match report::latest(tx.conn(), &caller.name)? {
        Some((last, body)) if last == n && body == envelope.body => {
            tx.record(fact)?;
            return Ok(Ok(()));
        }
        Some((last, _)) if n <= last => {
            let why = Code::Seq.because(format!("report {n}, but the last one was {last}"));
            return refuse(tx, fact, why);
        }
        Some(_) | None => {}
    }
    report::keep(tx.conn(), &caller.name, n, tx.now(), envelope)?;
    tx.record(fact)?;
    Ok(Ok(()))
}

fn reply(tx: &Transaction, hub: &Hub) -> rusqlite::Result<ReportReply> {
    let reports = report::all(tx.conn())?
        .into_iter()
        .map(|(name, report, at)| Received { report, at, online: hub.follows(&name) })
        .collect();
    Ok(ReportReply { reports, audit: tx.audit() })
}
