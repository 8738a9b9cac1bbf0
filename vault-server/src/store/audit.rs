//! Table `audit`: the chain of audit records, their very bytes. Who may read them is decided in
//! `vault`; nothing here is ever changed or deleted.

use rusqlite::{Connection, OptionalExtension as _, params};
use shared::audit::{AuditHead, Fact, Op, Record, leaf};
use shared::hash::Hash;
use shared::keys::random;
use shared::name::Name;
use shared::path::SecretPath;
use shared::time::Time;
use shared::wire::v1::audit::AuditQuery;

use super::{damaged, hash, int, nat, unwritable};

/// Bytes of records that fill a page.
const PAGE: usize = 1 << 20;

/// Returns the chain's head.
pub fn head(conn: &Connection) -> rusqlite::Result<AuditHead> {
    let last = conn
        .query_row("SELECT n, chain FROM audit ORDER BY n DESC LIMIT 1", [], |row| {
            Ok(AuditHead { n: nat(row.get(0)?), hash: hash(row, 1)? })
        })
        .optional()?;
    Ok(last.unwrap_or(AuditHead::EMPTY))
}

/// Appends a record and returns the head after it.
pub fn insert(
    conn: &Connection,
    head: AuditHead,
    now: Time,
    fact: Fact,
) -> rusqlite::Result<AuditHead> {
    let nonce = Hash::from_bytes(*random::<32>());
    let record = Record { n: head.n + 1, nonce, time: now, fact };
    let bytes = serde_json::to_vec(&record).map_err(unwritable)?;
    let after = head.then(leaf(&bytes));
    conn.prepare_cached(
        "INSERT INTO audit (n, chain, time, machine, path, op, denied, record)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        int(after.n),
        after.hash.as_bytes(),
        int(now.as_micros()),
        record.fact.machine.as_ref().map(Name::as_str),
        record.fact.path.as_ref().map(SecretPath::as_str),
        record.fact.op.as_str(),
        record.fact.result.is_refusal(),
        bytes
    ])?;
    Ok(after)
}

/// Returns the chain's value after record `n`.
pub fn chain_at(conn: &Connection, n: u64) -> rusqlite::Result<Option<Hash>> {
    if n == 0 {
        return Ok(Some(AuditHead::EMPTY.hash));
    }
    conn.prepare_cached("SELECT chain FROM audit WHERE n = ?1")?
        .query_row([int(n)], |row| hash(row, 0))
        .optional()
}

/// Returns the leaves `after + 1 ..= upto`, at most `limit`.
pub fn leaves(conn: &Connection, after: u64, upto: u64, limit: u64) -> rusqlite::Result<Vec<Hash>> {
    conn.prepare_cached("SELECT record FROM audit WHERE n > ?1 AND n <= ?2 ORDER BY n LIMIT ?3")?
        .query_map([int(after), int(upto), int(limit)], |row| {
            row.get_ref(0)?.as_blob().map(leaf).map_err(Into::into)
        })?
        .collect()
}

/// Finds the records that match; a condition whose value is NULL holds for all. Whoever asks for
/// reads means those that an agent answered from its cache as well.
const FIND: &str = "SELECT record FROM audit WHERE n > ?1 AND n <= ?2
     AND (?3 IS NULL OR n <> ?3)
     AND (?4 IS NULL OR time >= ?4)
     AND (?5 IS NULL OR machine = ?5)
     AND (?6 IS NULL OR op IN (?6, 'local_' || ?6))
     AND (?7 IS NULL OR path GLOB ?7)
     AND (denied OR NOT ?8)
     AND (denied OR NOT ?9 OR op <> 'report')
     ORDER BY n";

/// Returns the records up to `upto`, but for `without`, that match, oldest first, and whether there
/// are more of them; at most `limit`, and no more than fill a page.
pub fn find(
    conn: &Connection,
    query: &AuditQuery,
    upto: u64,
    without: Option<u64>,
    limit: usize,
) -> rusqlite::Result<(Vec<String>, bool)> {
    let order = if query.newest { "DESC" } else { "ASC" };
    let mut statement = conn.prepare_cached(&format!("{FIND} {order}"))?;
    let mut rows = statement.query(params![
        int(query.after),
        int(upto),
        without.map(int),
        query.since.map(|time| int(time.as_micros())),
        query.machine,
        query.op.as_ref().map(Op::as_str),
        query.path.as_deref().map(glob),
        query.denied,
        query.quiet,
    ])?;
    let (mut records, mut used, mut more) = (Vec::new(), 0, false);
    while let Some(row) = rows.next()? {
        let record: Vec<u8> = row.get(0)?;
        used += record.len();
        if records.len() == limit || (used > PAGE && !records.is_empty()) {
            more = true;
            break;
        }
        // The records are this program's own JSON.
        records.push(String::from_utf8(record).map_err(damaged(0))?);
    }
    if query.newest {
        records.reverse();
    }
    Ok((records, more))
}

/// Leaves `*` its meaning and takes it from the other characters that `GLOB` knows.
fn glob(pattern: &str) -> String {
    pattern.replace('[', "[[]").replace('?', "[?]")
}
