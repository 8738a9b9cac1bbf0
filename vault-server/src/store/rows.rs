//! All rows of a database, from one kind to another: each table with its columns, in an order in
//! which what is referred to comes first. The snapshot stays behind: it is made anew.

use std::ops::ControlFlow;

use super::{Connection, Fault, NONE, Result, Row, Value, segment};

/// Rows that are written with one statement each before the next are read.
struct Table {
    name: &'static str,
    columns: &'static [&'static str],
    /// Which column is yes or no, if one is: SQLite has numbers for that.
    flag: Option<&'static str>,
}

const fn table(name: &'static str, columns: &'static [&'static str]) -> Table {
    Table { name, columns, flag: None }
}

const fn flagged(
    name: &'static str,
    columns: &'static [&'static str],
    flag: &'static str,
) -> Table {
    Table { name, columns, flag: Some(flag) }
}

/// The tables; rows come in the order of the first column, or of `rowid` where that counts.
const TABLES: [Table; 16] = [
    table("log", &["seq", "hash", "by", "body", "sig"]),
    table(
        "blob",
        &[
            "rowid",
            "hash",
            "seq",
            "path",
            "ver",
            "machine",
            "parked_at",
            "readers",
            "replaced_at",
            "bytes",
        ],
    ),
    table("report", &["machine", "at", "by", "body", "sig"]),
    table("targets", &["machine", "text"]),
    table("access", &["machine", "run", "next"]),
    flagged("audit_kind", &["id", "machine", "path", "op", "denied"], "denied"),
    table("audit", &["n", "chain", "time", "kind", "total", "record"]),
    table("audit_block", &["block", "oldest", "newest"]),
    table("audit_block_kind", &["kind", "block"]),
    table("segment", &["first", "last", "before", "after", "until", "bytes"]),
    table("packed", &["name", "bytes"]),
    table("claim", &["id", "hash"]),
    flagged("restored", &["id", "caller", "lacks", "code"], "caller"),
    flagged("lost_epoch", &["rowid", "epoch", "given_up"], "given_up"),
    flagged("checkpoint", &["seq", "state", "size", "begins"], "begins"),
    table("checkpoint_piece", &["seq", "n", "bytes"]),
];

/// Copies every row of `from` into the empty tables of `to`.
///
/// # Errors
/// If one cannot be read or written.
pub fn copy(from: &Connection, to: &Connection) -> Result<()> {
    for Table { name, columns, flag } in &TABLES {
        if *name == "packed" && !segment::is_packed(from)? {
            continue;
        }
        let listed = columns.join(", ");
        let places: Vec<String> = (1..=columns.len()).map(|n| format!("?{n}")).collect();
        let read = format!("SELECT {listed} FROM {name} ORDER BY {}", columns[0]);
        let write = format!("INSERT INTO {name} ({listed}) VALUES ({})", places.join(", "));
        from.each(&read, NONE, |row| {
            let values = values(row, columns, *flag)?;
            to.execute_all(&write, &values)?;
            Ok::<_, Fault>(ControlFlow::Continue(()))
        })?;
    }
    to.number_on()
}

fn values<'r>(row: &'r Row<'_>, columns: &[&str], flag: Option<&str>) -> Result<Vec<Value<'r>>> {
    let read = |(at, column): (usize, &&str)| match flag == Some(*column) {
        true => row.get::<bool>(at).map(Value::Bool),
        false => row.get(at),
    };
    columns.iter().enumerate().map(read).collect()
}
