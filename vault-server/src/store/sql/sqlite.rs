//! SQLite's side of it.

use std::ops::ControlFlow;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ToSql, params_from_iter};

use super::fault::{Fault, Result};
use super::row::Row;
use super::value::Value;

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(value),
            Self::Bool(value) => ValueRef::Integer(value.into()),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Bytes(value) => ValueRef::Blob(value),
        }))
    }
}

/// Executes a statement; returns how many rows it wrote.
pub fn execute(conn: &Connection, sql: &str, params: &[Value<'_>]) -> Result<usize> {
    Ok(conn.prepare_cached(sql)?.execute(params_from_iter(params))?)
}

/// Hands the rows to `visit` until that breaks.
pub fn each<E: From<Fault>>(
    conn: &Connection,
    sql: &str,
    params: &[Value<'_>],
    visit: &mut impl FnMut(&Row<'_>) -> Result<ControlFlow<()>, E>,
) -> Result<(), E> {
    let mut statement = prepare(conn, sql)?;
    let mut rows = statement.query(params_from_iter(params)).map_err(Fault::from)?;
    while let Some(row) = rows.next().map_err(Fault::from)? {
        if visit(&Row::Sqlite(row))?.is_break() {
            break;
        }
    }
    Ok(())
}

fn prepare<'c>(conn: &'c Connection, sql: &str) -> Result<CachedStatement<'c>> {
    Ok(conn.prepare_cached(sql)?)
}

/// Returns the first row.
pub fn first<T>(
    conn: &Connection,
    sql: &str,
    params: &[Value<'_>],
    read: impl FnOnce(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let mut statement = prepare(conn, sql)?;
    let mut rows = statement.query(params_from_iter(params))?;
    match rows.next()? {
        Some(row) => read(&Row::Sqlite(row)).map(Some),
        None => Ok(None),
    }
}

/// Looks through the pages of the file; returns the first fault.
pub fn damage(conn: &Connection) -> Result<Option<String>> {
    let found: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    Ok((found != "ok").then_some(found))
}

/// Moves the write-ahead log into the database.
pub fn checkpoint(conn: &Connection, sql: &str) {
    if let Err(error) = conn.query_row(sql, [], |_| Ok(())) {
        tracing::warn!(%error, "write-ahead log not moved into the database");
    }
}
