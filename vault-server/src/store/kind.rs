//! Table `audit_kind`: what audit records are looked for by. Machine, path, operation and refusal
//! of a record are kept once for all records that have them in common; `block` knows where
//! those are.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, params};
use shared::audit::Fact;
use shared::name::Name;
use shared::path::SecretPath;
use shared::wire::v1::audit::AuditQuery;

/// Returns the kind of a fact, which is listed from now on.
pub fn of(conn: &Connection, fact: &Fact) -> rusqlite::Result<i64> {
    let whole = params![
        fact.path.as_ref().map(SecretPath::as_str),
        fact.machine.as_ref().map(Name::as_str),
        fact.op.as_str(),
        fact.is_refusal()
    ];
    let known = conn
        .prepare_cached(
            "SELECT id FROM audit_kind WHERE path IS ?1 AND machine IS ?2 AND op = ?3 AND denied = ?4",
        )?
        .query_row(whole, |row| row.get(0))
        .optional()?;
    if let Some(known) = known {
        return Ok(known);
    }
    conn.prepare_cached(
        "INSERT INTO audit_kind (path, machine, op, denied) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(whole)?;
    Ok(conn.last_insert_rowid())
}

/// Returns the kinds that match; `None` if all do.
pub fn matching(
    conn: &Connection,
    AuditQuery { machine, path, op, denied, .. }: &AuditQuery,
) -> rusqlite::Result<Option<BTreeSet<i64>>> {
    if machine.is_none() && path.is_none() && op.is_none() && !denied {
        return Ok(None);
    }
    // A condition whose value is NULL holds for all.
    let mut query = conn.prepare_cached(
        "SELECT id FROM audit_kind
         WHERE (?1 IS NULL OR machine = ?1)
         AND (?2 IS NULL OR path GLOB ?2)
         AND (?3 IS NULL OR instr(?3, ' ' || op || ' ') > 0)
         AND (denied OR NOT ?4)",
    )?;
    let ops = op.as_ref().map(|op| format!(" {} ", op.meant().join(" ")));
    let found = query
        .query_map(params![machine, path.as_deref().map(glob), ops, denied], |row| row.get(0))?;
    found.collect::<rusqlite::Result<_>>().map(Some)
}

/// Leaves `*` its meaning and takes it from the other characters that `GLOB` knows.
fn glob(pattern: &str) -> String {
    pattern.replace('[', "[[]").replace('?', "[?]")
}

/// Drops a kind that no record has any more.
pub fn forget(conn: &Connection, kind: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM audit_kind WHERE id = ?1")?.execute([kind]).map(drop)
}
