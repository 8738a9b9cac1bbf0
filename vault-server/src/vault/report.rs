//! Signed reports: each machine's latest is kept and given to all.

use shared::audit::Op;
use shared::error::Code;
use shared::log::Machine;
use shared::name::Actor;
use shared::report::Report;
use shared::signed::Envelope;
use shared::wire::v1::report::{Received, ReportReply, ReportRequest};

use crate::store::{Transaction, report};

use super::{Caller, Outcome, Refusal, Vault, admitted, refuse};

impl Vault {
    /// Keeps the caller's report and returns everybody's.
    ///
    /// # Errors
    /// [`Refusal::Rule`] for a report that does not verify, is another's, or is older than the
    /// last one.
    pub async fn report(
        &self,
        mut caller: Caller,
        request: ReportRequest,
    ) -> Result<ReportReply, Refusal> {
        let hub = self.0.hub.clone();
        self.call(move |tx| {
            keep(tx, &mut caller, &request)?;
            let mut reports = Vec::new();
            for report::Kept { number, body, sig, at } in report::all(tx.conn())? {
                let machine = tx.state().and_then(|state| state.machine_numbered(number));
                let Some(Machine { name, .. }) = machine else { continue };
                let report = Envelope { by: Actor::Machine(name.clone()), body, sig };
                reports.push(Received { report, at, online: hub.follows(number) });
            }
            Ok(ReportReply { now: tx.now(), reports, audit: tx.audit() })
        })
        .await
    }
}

fn keep(tx: &mut Transaction, caller: &mut Caller, request: &ReportRequest) -> Outcome<()> {
    let envelope = &request.report;
    let (state, machine) = admitted(tx, caller)?;
    let opened = if envelope.by == Actor::Machine(machine.name.clone()) {
        Report::open(envelope, &machine.sign, state.vault())
    } else {
        let why = format!("report of `{}` from `{}`", envelope.by, machine.name);
        Err(Code::Actor.because(why))
    };
    let fact = caller.fact(Op::Report);
    let n = match opened {
        Ok(report) => report.n,
        Err(why) => return refuse(tx, fact, why),
    };
    match report::latest(tx.conn(), caller.number)? {
        Some((last, body)) if last == n && body == envelope.body => {}
        Some((last, _)) if n <= last => {
            let why = Code::Seq.because(format!("report {n}, but the last one was {last}"));
            return refuse(tx, fact, why);
        }
        Some(_) | None => report::keep(tx.conn(), caller.number, n, tx.now(), envelope)?,
    }
    Ok(tx.record(fact)?)
}
