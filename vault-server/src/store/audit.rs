//! Table `audit`: the chain of audit records, their very bytes. Who may read them is decided in
//! `vault`; nothing here is ever changed or deleted.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter};
use shared::audit::{AuditHead, Record, leaf};
use shared::hash::Hash;
use shared::keys::random;
use shared::time::Time;
use shared::wire::v1::audit::AuditQuery;

use super::{hash, int, nat};

/// An audit record before it takes its place in the chain; fields as in [`Record`].
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Active machine whose key made the request.
    pub machine: Option<String>,
    /// Key that made the request, when no active machine holds it.
    pub key: Option<String>,
    /// Signer, where it is not the machine; for local reads, process and user.
    pub who: Option<String>,
    /// Peer address.
    pub addr: Option<String>,
    /// The machine's clock, for local reads.
    pub at: Option<Time>,
    /// What was asked.
    pub op: String,
    /// The secret.
    pub path: Option<String>,
    /// The version.
    pub ver: Option<u64>,
    /// Log entry that the request made.
    pub seq: Option<u64>,
    /// How many alike requests the record stands for.
    pub count: Option<u64>,
    /// `ok`, or the code or reason of the refusal.
    pub result: String,
}

/// Returns the chain's head.
///
/// # Errors
/// As SQLite says.
pub fn head(conn: &Connection) -> rusqlite::Result<AuditHead> {
    let last = conn
        .query_row("SELECT n, chain FROM audit ORDER BY n DESC LIMIT 1", [], |row| {
            Ok(AuditHead { n: nat(row.get(0)?), hash: hash(row, 1)? })
        })
        .optional()?;
    Ok(last.unwrap_or(AuditHead::EMPTY))
}

/// Appends a record and returns the head after it.
///
/// # Errors
/// As SQLite says.
pub fn insert(
    conn: &Connection,
    head: AuditHead,
    now: Time,
    row: Row,
) -> rusqlite::Result<AuditHead> {
    let record = Record {
        n: head.n + 1,
        nonce: Hash::from_bytes(*random::<32>()),
        time: now,
        at: row.at,
        machine: row.machine,
        key: row.key,
        who: row.who,
        addr: row.addr,
        op: row.op,
        path: row.path,
        ver: row.ver,
        seq: row.seq,
        count: row.count.filter(|count| *count > 1),
        result: row.result,
    };
    let bytes = serde_json::to_vec(&record)
        .map_err(|why| rusqlite::Error::ToSqlConversionFailure(Box::new(why)))?;
    let after = head.then(leaf(&bytes));
    conn.prepare_cached(
        "INSERT INTO audit (n, chain, time, machine, path, op, denied, record)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        int(after.n),
        after.hash.as_bytes(),
        int(now.as_micros()),
        record.machine,
        record.path,
        record.op,
        record.is_refusal(),
        bytes
    ])?;
    Ok(after)
}

/// Returns the leaves `after + 1 ..= upto`, at most `limit`.
///
/// # Errors
/// As SQLite says.
pub fn leaves(conn: &Connection, after: u64, upto: u64, limit: u64) -> rusqlite::Result<Vec<Hash>> {
    conn.prepare_cached("SELECT record FROM audit WHERE n > ?1 AND n <= ?2 ORDER BY n LIMIT ?3")?
        .query_map([int(after), int(upto), int(limit)], |row| {
            row.get_ref(0)?.as_blob().map(leaf).map_err(Into::into)
        })?
        .collect()
}

/// Which part of the chain is searched.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Its last record.
    pub upto: u64,
    /// A record to leave out.
    pub without: Option<u64>,
}

/// Returns the records of `span` that match, oldest first, and whether there are more of them; at
/// most `limit`, and no more than fill `room` bytes.
///
/// # Errors
/// As SQLite says.
pub fn find(
    conn: &Connection,
    query: &AuditQuery,
    span: Span,
    limit: usize,
    room: usize,
) -> rusqlite::Result<(Vec<String>, bool)> {
    let (sql, values) = select(query, span);
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (mut records, mut used, mut more) = (Vec::new(), 0, false);
    while let Some(row) = rows.next()? {
        let record: Vec<u8> = row.get(0)?;
        used += record.len();
        if records.len() == limit || (used > room && !records.is_empty()) {
            more = true;
            break;
        }
        // The records are this program's own JSON.
        records.push(String::from_utf8(record).map_err(|why| {
            let kind = rusqlite::types::Type::Blob;
            rusqlite::Error::FromSqlConversionFailure(0, kind, Box::new(why))
        })?);
    }
    if query.newest {
        records.reverse();
    }
    Ok((records, more))
}

fn select(query: &AuditQuery, span: Span) -> (String, Vec<Value>) {
    let mut sql = "SELECT record FROM audit WHERE n > ? AND n <= ?".to_owned();
    let mut values = vec![Value::Integer(int(query.after)), Value::Integer(int(span.upto))];
    let mut must = |condition: &str, value: Option<Value>| {
        if let Some(value) = value {
            sql.push_str(condition);
            values.push(value);
        }
    };
    must(" AND n <> ?", span.without.map(|n| Value::Integer(int(n))));
    must(" AND time >= ?", query.since.map(|time| Value::Integer(int(time.as_micros()))));
    must(" AND machine = ?", query.machine.clone().map(Value::Text));
    // Whoever asks for reads means those that an agent answered from its cache as well.
    must(" AND (op = ?", query.op.clone().map(Value::Text));
    must(" OR op = ?)", query.op.as_ref().map(|op| Value::Text(format!("local_{op}"))));
    must(" AND path GLOB ?", query.path.as_deref().map(|path| Value::Text(glob(path))));
    must(" AND denied = ?", query.denied.then_some(Value::Integer(1)));
    must(" AND (op <> ? OR denied)", query.quiet.then(|| Value::Text("report".to_owned())));
    sql.push_str(if query.newest { " ORDER BY n DESC" } else { " ORDER BY n" });
    (sql, values)
}

/// Leaves `*` its meaning and takes it from the other characters that `GLOB` knows.
fn glob(pattern: &str) -> String {
    pattern.replace('[', "[[]").replace('?', "[?]")
}
