//! Rows that a statement yields.

use rusqlite::types::{Type, ValueRef};
use shared::hash::Hash;

#[cfg(feature = "postgres")]
use super::fault::Fault;
use super::fault::{Result, damaged};
use super::value::{FromValue, Value};

/// A row.
pub enum Row<'r> {
    /// Of SQLite.
    Sqlite(&'r rusqlite::Row<'r>),
    /// Of PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(&'r postgres::Row),
}

impl Row<'_> {
    /// Reads a column, counted from 0.
    ///
    /// # Errors
    /// If it holds another type.
    pub fn get<'s, T: FromValue<'s>>(&'s self, column: usize) -> Result<T> {
        let value = match self {
            Self::Sqlite(row) => of_sqlite(row, column)?,
            #[cfg(feature = "postgres")]
            Self::Postgres(row) => of_postgres(row, column)?,
        };
        T::from_value(value).map_err(damaged(column))
    }
}

/// Reads a column of 32 bytes.
///
/// # Errors
/// If it holds something else.
pub fn hash(row: &Row<'_>, column: usize) -> Result<Hash> {
    row.get(column).map(Hash::from_bytes)
}

fn of_sqlite<'r>(row: &'r rusqlite::Row<'_>, column: usize) -> Result<Value<'r>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Text(value) => Value::Text(std::str::from_utf8(value).map_err(damaged(column))?),
        ValueRef::Blob(value) => Value::Bytes(value),
        ValueRef::Real(_) => {
            let other = rusqlite::Error::InvalidColumnType(column, String::new(), Type::Real);
            return Err(other.into());
        }
    })
}

#[cfg(feature = "postgres")]
fn of_postgres(row: &postgres::Row, column: usize) -> Result<Value<'_>> {
    use postgres::types::Type;
    let kind = row.columns().get(column).map(|column| column.type_().clone());
    Ok(match kind {
        Some(Type::INT8) => row.try_get::<_, Option<i64>>(column)?.into(),
        Some(Type::INT4) => row.try_get::<_, Option<i32>>(column)?.map(i64::from).into(),
        Some(Type::BOOL) => row.try_get::<_, Option<bool>>(column)?.into(),
        Some(Type::TEXT) => row.try_get::<_, Option<&str>>(column)?.into(),
        Some(Type::BYTEA) => row.try_get::<_, Option<&[u8]>>(column)?.into(),
        Some(other) => {
            let why = format!("it is of type `{other}`").into();
            return Err(Fault::Damaged { column, why });
        }
        None => return Err(Fault::Absent),
    })
}
