//! Who has read a secret, as the audit log says: the newest records, asked for by its path.

use std::time::Duration;

use host::shown::Shown;
use shared::audit::{Op, Record};
use shared::path::SecretPath;
use tokio::time::timeout;

use crate::page::parts::{When, line};
use crate::page::site::Visit;
use machine::local::AuditQuery;

/// Records that are shown.
const MOST: u64 = 20;
/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// What a machine must be able to read to see audit records.
const AUDIT_PATH: &str = "sys/audit";

/// One read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) when: When,
    pub(super) host: Shown,
    pub(super) who: Shown,
    pub(super) version: Shown,
    pub(super) result: Shown,
}

/// What is known of the reads of a secret.
#[derive(Debug)]
pub(super) enum Reads {
    /// The newest ones, the newest first, and whether there are more.
    Known(Vec<Read>, bool),
    /// This machine may not see audit records.
    Denied,
    /// Why nothing is known.
    Unknown(Shown),
}

/// Asks who has read a secret.
pub(super) async fn of(visit: &Visit<'_>, path: &SecretPath) -> Reads {
    let engine = &visit.site.engine;
    if !AUDIT_PATH.parse().is_ok_and(|audit| engine.may_read(&audit)) {
        return Reads::Denied;
    }
    let query = AuditQuery {
        path: Some(path.to_string()),
        op: Some(Op::Read),
        newest: true,
        limit: Some(MOST),
        ..AuditQuery::default()
    };
    let page = match timeout(PATIENCE, engine.audit(query)).await {
        Ok(Ok(page)) => page,
        Ok(Err(why)) => return Reads::Unknown(Shown::line(format_args!("{why:#}"))),
        Err(_) => return Reads::Unknown(Shown::own("no answer in time")),
    };
    let reads = page.records.iter().rev().filter_map(|text| {
        let Record { time, fact, .. } = Record::parse(text.as_bytes()).ok()?;
        // `*` in a query stands for any text: a path that holds one finds others too.
        let read = Read {
            when: When::new(fact.at.unwrap_or(time), visit.now, visit.lang),
            host: fact.machine.as_ref().map(line).unwrap_or_default(),
            who: fact.who.as_ref().map(line).unwrap_or_default(),
            version: fact.ver.map(|ver| line(format_args!("v{ver}"))).unwrap_or_default(),
            result: line(&fact.result),
        };
        (fact.path.as_ref() == Some(path)).then_some(read)
    });
    Reads::Known(reads.collect(), page.more)
}
