//! Table `audit_kind`: what audit records are looked for by. Machine, path, operation and refusal
//! of a record are kept once for all records that have them in common; `block` knows where
//! those are.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use shared::audit::{Fact, Op};
use shared::name::Name;
use shared::path::SecretPath;
use shared::text::like;
use shared::wire::v1::audit::AuditQuery;

use super::{Connection, Fault, Result, Value, params};

/// Returns the kind of a fact, which is listed from now on.
pub fn of(conn: &Connection, fact: &Fact) -> Result<i64> {
    let (path, machine) =
        (fact.path.as_ref().map(SecretPath::as_str), fact.machine.as_ref().map(Name::as_str));
    let (op, denied) = (Value::from(fact.op.as_str()), Value::from(fact.is_refusal()));
    let read = |row: &super::Row<'_>| row.get(0);
    // Each its own text: no index finds what may be NULL or not.
    let known = match (path, machine) {
        (Some(path), Some(machine)) => conn.first(
            "SELECT id FROM audit_kind WHERE op = ?1 AND denied = ?2 AND path = ?3 AND machine = ?4",
            [op, denied, path.into(), machine.into()],
            read,
        ),
        (Some(path), None) => conn.first(
            "SELECT id FROM audit_kind
             WHERE op = ?1 AND denied = ?2 AND path = ?3 AND machine IS NULL",
            [op, denied, path.into()],
            read,
        ),
        (None, Some(machine)) => conn.first(
            "SELECT id FROM audit_kind
             WHERE op = ?1 AND denied = ?2 AND path IS NULL AND machine = ?3",
            [op, denied, machine.into()],
            read,
        ),
        (None, None) => conn.first(
            "SELECT id FROM audit_kind
             WHERE op = ?1 AND denied = ?2 AND path IS NULL AND machine IS NULL",
            [op, denied],
            read,
        ),
    };
    if let Some(known) = known? {
        return Ok(known);
    }
    conn.query_row(
        "INSERT INTO audit_kind (path, machine, op, denied) VALUES (?1, ?2, ?3, ?4) RETURNING id",
        [path.into(), machine.into(), op, denied],
        read,
    )
}

/// Returns the kinds that match; `None` if all do.
pub fn matching(
    conn: &Connection,
    AuditQuery { machine, path, op, denied, .. }: &AuditQuery,
) -> Result<Option<BTreeSet<i64>>> {
    if machine.is_none() && path.is_none() && op.is_none() && !denied {
        return Ok(None);
    }
    // A condition whose value is NULL holds for all.
    let query = "SELECT id, path, op FROM audit_kind
         WHERE (CAST(?1 AS text) IS NULL OR machine = ?1) AND (denied OR NOT ?2)";
    let ops = op.as_ref().map(Op::meant);
    let mut found = BTreeSet::new();
    conn.each(query, params![machine.as_deref(), *denied], |row| {
        let is_path = match path {
            Some(pattern) => row.get::<Option<&str>>(1)?.is_some_and(|path| like(pattern, path)),
            None => true,
        };
        let is_op = match &ops {
            Some(ops) => ops.contains(&row.get(2)?),
            None => true,
        };
        if is_path && is_op {
            found.insert(row.get(0)?);
        }
        Ok::<_, Fault>(ControlFlow::Continue(()))
    })?;
    Ok(Some(found))
}

/// Drops a kind that no record has any more.
pub fn forget(conn: &Connection, kind: i64) -> Result<()> {
    conn.execute("DELETE FROM audit_kind WHERE id = ?1", [kind]).map(drop)
}
