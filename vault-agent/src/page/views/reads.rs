//! Who has read a secret, as the audit log says: the newest records, asked for by its path.

use std::time::Duration;

use anyhow::Result;
use host::shown::Shown;
use shared::audit::Op;
use shared::path::SecretPath;
use tokio::time::timeout;

use crate::page::records::{Known, Row, read};
use crate::page::site::Visit;
use machine::local::{AuditPage, AuditQuery};

/// Records that are shown.
const MOST: u64 = 20;
/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// What a machine must be able to read to see audit records.
const AUDIT_PATH: &str = "sys/audit";

/// What is known of the reads of a secret.
#[derive(Debug)]
pub(super) enum Reads {
    /// The newest ones, the newest first.
    Known(Vec<Row>),
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
    match told(visit, path, page).await {
        Ok(rows) => Reads::Known(rows),
        Err(why) => Reads::Unknown(Shown::line(format_args!("{why:#}"))),
    }
}

async fn told(visit: &Visit<'_>, path: &SecretPath, page: AuditPage) -> Result<Vec<Row>> {
    let mut records = read(page)?;
    // `*` in a query stands for any text: a path that holds one finds others too.
    records.retain(|record| record.fact.path.as_ref() == Some(path));
    let known = Known::of(&visit.site.engine, &records).await?;
    Ok(known.rows(&records, visit.now, visit.lang))
}
