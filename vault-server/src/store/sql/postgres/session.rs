//! A session of PostgreSQL: statements, rows in pieces, and transactions of which it is known how
//! they ended. Everybody who writes holds the row of `head` meanwhile: so entries and audit records
//! of several servers come one after the other.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use host::store::{Step, StoreFailure};
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, SimpleQueryMessage, Statement};
use shared::audit::AuditHead;
use shared::hash::Hash;

use super::super::fault::{Fault, Result, damaged};
use super::super::row::Row;
use super::super::tip::Tip;
use super::super::value::{Value, int};
use super::target::Target;

/// What the servers of a database tell each other by.
pub const CHANNEL: &str = "vault_log";

/// Rows that are fetched at once, to begin with.
const ROWS: usize = 16;
/// Bytes of rows that are fetched at once, about: more rows of few bytes, and fewer of many.
const FETCHED: usize = 256 << 10;
/// How long a commit of which nobody knows how it ended is asked about.
const DOUBT: Duration = Duration::from_secs(15);
/// For how long after a failure no connection is tried.
const PAUSE: Duration = Duration::from_millis(500);

/// A connection.
pub struct Postgres {
    target: Arc<Target>,
    client: RefCell<Client>,
    statements: RefCell<HashMap<String, Statement>>,
    /// A transaction is open.
    open: Cell<bool>,
    /// A statement in it failed: it can only be undone.
    failed: Cell<bool>,
    /// The connection is lost, or leads to a server that takes no writes.
    broken: Cell<bool>,
    /// Until when no other connection is tried.
    paused: Cell<Option<Instant>>,
}

impl Postgres {
    /// Connects to a database whose tables are up to date.
    ///
    /// # Errors
    /// If it cannot.
    pub fn connect(target: &Arc<Target>) -> Result<Self> {
        let client = RefCell::new(target.connect()?);
        let target = Arc::clone(target);
        let (open, failed, broken) = (Cell::new(false), Cell::new(false), Cell::new(false));
        let (statements, paused) = (RefCell::default(), Cell::new(None));
        Ok(Self { target, client, statements, open, failed, broken, paused })
    }

    /// Runs one exchange with the server.
    pub fn run<T>(&self, ask: impl FnOnce(&mut Client) -> Result<T, postgres::Error>) -> Result<T> {
        if self.broken.get() {
            return Err(Fault::unasked("the database is not reached"));
        }
        ask(&mut self.client.borrow_mut()).map_err(|why| {
            let fault = Fault::from(why);
            self.failed.set(true);
            self.broken.set(fault.is_lost());
            fault
        })
    }

    fn prepare(&self, sql: &str, params: &[Value<'_>]) -> Result<Statement> {
        if let Some(known) = self.statements.borrow().get(sql) {
            return Ok(known.clone());
        }
        let types: Vec<Type> = params.iter().map(type_of).collect();
        let text = sql.replace('?', "$");
        let statement = self.run(|client| client.prepare_typed(&text, &types))?;
        self.statements.borrow_mut().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Executes a statement; returns how many rows it wrote.
    pub fn execute(&self, sql: &str, params: &[Value<'_>]) -> Result<usize> {
        let statement = self.prepare(sql, params)?;
        let written = self.run(|client| client.execute(&statement, &listed(params)))?;
        Ok(usize::try_from(written).unwrap_or(usize::MAX))
    }

    /// Executes statements without parameters, up to the first that fails.
    pub fn batch(&self, sql: &str) -> Result<()> {
        self.run(|client| client.batch_execute(sql))
    }

    fn query(&self, sql: &str, params: &[Value<'_>]) -> Result<Vec<postgres::Row>> {
        let statement = self.prepare(sql, params)?;
        self.run(|client| client.query(&statement, &listed(params)))
    }

    /// Returns the first row.
    pub fn first<T>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let rows = self.query(sql, params)?;
        rows.first().map(|row| read(&Row::Postgres(row))).transpose()
    }

    /// Returns all rows.
    pub fn all<T>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.query(sql, params)?.iter().map(|row| read(&Row::Postgres(row))).collect()
    }

    /// Hands the rows to `visit` until that breaks; few of them are in memory at once.
    pub fn each<E: From<Fault>>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        visit: &mut impl FnMut(&Row<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        // A cursor lives in a transaction.
        let own = !self.open.get();
        if own {
            self.step(Step::Begin)?;
        }
        let declared = self.execute(&format!("DECLARE rows NO SCROLL CURSOR FOR {sql}"), params);
        let visited = match declared {
            Ok(_) => self.fetch(visit),
            Err(why) => Err(why.into()),
        };
        if own {
            let _ = self.step(Step::Rollback);
        } else if !self.failed.get() {
            self.batch("CLOSE rows")?;
        }
        visited
    }

    fn fetch<E: From<Fault>>(
        &self,
        visit: &mut impl FnMut(&Row<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let mut most = ROWS;
        loop {
            // Not kept prepared: the next cursor has other columns.
            let next = format!("FETCH {most} FROM rows");
            let rows = self.run(|client| client.query(&next, &[]))?;
            for row in &rows {
                if visit(&Row::Postgres(row))?.is_break() {
                    return Ok(());
                }
            }
            if rows.len() < most {
                return Ok(());
            }
            let bytes: usize = rows.iter().map(postgres::Row::raw_size_bytes).sum();
            most = (most * FETCHED / bytes.max(1)).clamp(1, most * 4);
        }
    }

    /// Takes a step of a transaction that is this connection's alone.
    ///
    /// # Errors
    /// If the database refuses, or nothing of it can be committed.
    pub fn step(&self, step: Step) -> Result<()> {
        match step {
            Step::Begin => self.begin("BEGIN"),
            Step::Commit if self.failed.get() => {
                self.step(Step::Rollback)?;
                Err(Fault::unasked("the transaction was given up"))
            }
            Step::Commit | Step::Rollback => {
                let done = self.batch(step.sql());
                self.open.set(false);
                self.failed.set(false);
                done
            }
            Step::RollbackTo => {
                let done = self.batch(step.sql());
                self.failed.set(done.is_err());
                done
            }
            Step::Savepoint | Step::Release => self.batch(step.sql()),
        }
    }

    fn begin(&self, sql: &str) -> Result<()> {
        if self.open.get() && !self.broken.get() {
            self.step(Step::Rollback)?;
        }
        self.failed.set(false);
        let begun = self.batch(sql);
        self.open.set(begun.is_ok());
        begun
    }

    /// Begins a transaction in which all that is read is of one moment.
    ///
    /// # Errors
    /// If the database refuses.
    pub fn view(&self) -> Result<()> {
        self.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    }

    /// Tells whether a transaction is open, and can be committed.
    pub fn is_open(&self) -> bool {
        self.open.get() && !self.failed.get() && !self.broken.get()
    }

    /// Begins a transaction that writes, once no other server does; returns where the others have
    /// left off. A lost connection is made anew.
    ///
    /// # Errors
    /// If the database cannot be reached or takes no writes.
    pub fn lock(&self) -> Result<Tip> {
        if self.broken.get() {
            self.reconnect()?;
        }
        match self.try_lock() {
            Err(_) if self.broken.get() => {
                self.reconnect()?;
                self.try_lock()
            }
            tried => tried,
        }
    }

    fn try_lock(&self) -> Result<Tip> {
        self.begin("BEGIN")?;
        let query = "SELECT seq, encode(head, 'hex'), audit_n, encode(audit, 'hex'), marks
                     FROM head FOR UPDATE";
        let found = self.run(|client| client.simple_query(query)).and_then(|found| tip(&found));
        if found.is_err() {
            // What is wrong is told by the error above.
            let _ = self.step(Step::Rollback);
        }
        found
    }

    fn reconnect(&self) -> Result<()> {
        if self.paused.get().is_some_and(|until| Instant::now() < until) {
            return Err(Fault::unasked("the database is not reached"));
        }
        match self.target.connect() {
            Ok(client) => {
                tracing::info!(database = %self.target, "connected to the database again");
                *self.client.borrow_mut() = client;
                self.statements.borrow_mut().clear();
                self.open.set(false);
                self.failed.set(false);
                self.broken.set(false);
                self.paused.set(None);
                Ok(())
            }
            Err(why) => {
                self.paused.set(Some(Instant::now() + PAUSE));
                tracing::warn!(database = %self.target, %why, "the database is not reached");
                Err(why)
            }
        }
    }

    /// Commits what [`Postgres::lock`] began, and notes where it ends. If the connection is lost
    /// over it, the database is asked again: what it holds tells how it ended.
    ///
    /// # Errors
    /// If nothing was committed, or nobody answers.
    pub fn commit(&self, before: &Tip, after: &Tip) -> Result<(), StoreFailure> {
        if self.failed.get() {
            let _ = self.step(Step::Rollback);
            return Err(StoreFailure::Failed("the transaction was given up".into()));
        }
        let done = self.batch(&closing(before, after));
        self.open.set(false);
        match done {
            Ok(()) => Ok(()),
            Err(why) if !self.broken.get() => {
                self.open.set(true);
                Err(why.into())
            }
            Err(why) => {
                tracing::warn!(%why, "the connection was lost at a commit: asking how it ended");
                self.find_out(before, after).map_err(Into::into)
            }
        }
    }

    /// Finds out whether a transaction was committed that ended with an audit record.
    fn find_out(&self, before: &Tip, after: &Tip) -> Result<()> {
        let until = Instant::now() + DOUBT;
        loop {
            match self.lock() {
                // The lock is free: whatever became of it, it is over.
                Ok(_) => break,
                Err(why) if Instant::now() >= until => return Err(why),
                Err(_) => std::thread::park_timeout(PAUSE / 4),
            }
        }
        let chain = self.first(
            "SELECT chain FROM audit WHERE n = ?1",
            &[Value::Int(int(after.audit.n))],
            |row| row.get::<[u8; 32]>(0),
        );
        let is_there = chain.map(|chain| chain == Some(*after.audit.hash.as_bytes()));
        if after.audit != before.audit && matches!(is_there, Ok(true)) {
            // Until a standby has it that commits wait for, it goes with this server: so this
            // commit, which comes after it, waits.
            self.step(Step::Commit)?;
            tracing::warn!("it was committed");
            return Ok(());
        }
        let _ = self.step(Step::Rollback);
        is_there?;
        Err(Fault::unasked("the connection was lost, and nothing was written"))
    }

    /// Has the numbers that the server gives out go on after the highest that is there.
    ///
    /// # Errors
    /// If the database refuses.
    pub fn number_on(&self) -> Result<()> {
        for (table, column) in [("blob", "rowid"), ("audit_kind", "id"), ("lost_epoch", "rowid")] {
            self.batch(&format!(
                "SELECT setval(pg_get_serial_sequence('{table}', '{column}'),
                               coalesce((SELECT max({column}) FROM {table}), 0) + 1, false)"
            ))?;
        }
        Ok(())
    }

    /// Returns the bytes that the database takes on its disk.
    ///
    /// # Errors
    /// If the database refuses.
    pub fn size(&self) -> Result<u64> {
        let size = self
            .first("SELECT pg_database_size(current_database())", &[], |row| row.get::<i64>(0))?;
        Ok(size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0))
    }
}

/// Returns the statements that end a transaction.
fn closing(before: &Tip, after: &Tip) -> String {
    let mut sql = String::new();
    if before != after {
        sql.push_str(&moving(after));
    }
    if before.log != after.log {
        let _ = write!(sql, "NOTIFY {CHANNEL};");
    }
    sql.push_str("COMMIT");
    sql
}

fn moving(Tip { log, audit, marks }: &Tip) -> String {
    let (seq, head) = match log {
        Some((seq, head)) => (seq.to_string(), format!("'\\x{head}'")),
        None => ("NULL".to_owned(), "NULL".to_owned()),
    };
    let AuditHead { n, hash } = audit;
    format!(
        "UPDATE head SET seq = {seq}, head = {head}, audit_n = {n}, audit = '\\x{hash}', \
         marks = {marks};"
    )
}

/// Reads the one row of `head`.
fn tip(found: &[SimpleQueryMessage]) -> Result<Tip> {
    let row = found.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.ok_or_else(|| Fault::unasked("the vault was moved out of this database"))?;
    let text = |column: usize| row.try_get(column).map_err(Fault::from);
    let number = |column: usize| {
        let text = text(column)?;
        text.map(|text| text.parse().map_err(damaged(column))).transpose()
    };
    let hash = |column: usize| {
        let text = text(column)?;
        text.map(|text| text.parse::<Hash>().map_err(damaged(column))).transpose()
    };
    let audit =
        AuditHead { n: number(2)?.ok_or(Fault::Absent)?, hash: hash(3)?.ok_or(Fault::Absent)? };
    Ok(Tip { log: number(0)?.zip(hash(1)?), audit, marks: number(4)?.ok_or(Fault::Absent)? })
}

/// Returns the type of a parameter; the server finds out the one of a value that is not there.
const fn type_of(value: &Value<'_>) -> Type {
    match value {
        Value::Null => Type::UNKNOWN,
        Value::Int(_) => Type::INT8,
        Value::Bool(_) => Type::BOOL,
        Value::Text(_) => Type::TEXT,
        Value::Bytes(_) => Type::BYTEA,
    }
}

fn listed<'v>(params: &'v [Value<'v>]) -> Vec<&'v (dyn ToSql + Sync)> {
    params.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        of: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(value) => value.to_sql(of, out),
            Self::Bool(value) => value.to_sql(of, out),
            Self::Text(value) => value.to_sql(of, out),
            Self::Bytes(value) => value.to_sql(of, out),
        }
    }

    fn accepts(_of: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use shared::audit::{Fact, Op};
    use shared::time::Time;

    use super::super::open;
    use super::*;
    use crate::store::{Connection, audit, fresh};

    #[test]
    fn how_a_commit_ended_is_found_out_where_the_answer_is_lost() {
        fresh::postgres(|target| {
            for committed in [true, false] {
                let conn: Connection = open(target).unwrap().into();
                let before = conn.begin().unwrap().unwrap();
                let now = Time::from_micros(1);
                let head = audit::insert(&conn, before.audit, now, Fact::new(Op::Read)).unwrap();
                let after = Tip { audit: head, ..before };
                let Connection::Postgres(conn) = conn else { unreachable!() };
                if committed {
                    conn.batch(&closing(&before, &after)).unwrap();
                }
                let cut = "SELECT pg_terminate_backend(pg_backend_pid())";
                assert!(conn.batch(cut).unwrap_err().is_lost());
                assert_eq!(conn.find_out(&before, &after).is_ok(), committed);
                let found = conn.lock().unwrap();
                assert_eq!(found, if committed { after } else { before });
            }
        });
    }

    #[test]
    fn a_commit_moves_the_place_and_tells_others_of_entries_alone() {
        let hash = Hash::ZERO;
        let before = Tip { log: None, audit: AuditHead::EMPTY, marks: 0 };
        assert_eq!(closing(&before, &before), "COMMIT");
        let read = Tip { audit: AuditHead { n: 1, hash }, ..before };
        assert!(!closing(&before, &read).contains("NOTIFY"));
        let wrote = Tip { log: Some((7, hash)), ..read };
        let sql = closing(&read, &wrote);
        assert!(sql.starts_with("UPDATE head SET seq = 7") && sql.contains("NOTIFY vault_log"));
    }
}
