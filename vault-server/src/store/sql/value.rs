//! Values of columns and parameters, as every database here has them.

/// A value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'v> {
    /// None.
    Null,
    /// A number.
    Int(i64),
    /// Yes or no; SQLite has 1 and 0 for them.
    Bool(bool),
    /// Text.
    Text(&'v str),
    /// Bytes.
    Bytes(&'v [u8]),
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl<'v> From<&'v str> for Value<'v> {
    fn from(value: &'v str) -> Self {
        Self::Text(value)
    }
}

impl<'v> From<&'v String> for Value<'v> {
    fn from(value: &'v String) -> Self {
        Self::Text(value)
    }
}

impl<'v> From<&'v [u8]> for Value<'v> {
    fn from(value: &'v [u8]) -> Self {
        Self::Bytes(value)
    }
}

impl<'v> From<&'v Vec<u8>> for Value<'v> {
    fn from(value: &'v Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl<'v, const N: usize> From<&'v [u8; N]> for Value<'v> {
    fn from(value: &'v [u8; N]) -> Self {
        Self::Bytes(value)
    }
}

impl<'v, T: Into<Self>> From<Option<T>> for Value<'v> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A value of another type than the one that is asked for.
#[derive(Debug, thiserror::Error)]
#[error("it holds no {0}")]
pub struct Unfit(&'static str);

/// What is read of a column.
pub trait FromValue<'v>: Sized {
    /// Reads a value.
    ///
    /// # Errors
    /// If it is of another type.
    fn from_value(value: Value<'v>) -> Result<Self, Unfit>;
}

impl<'v> FromValue<'v> for Value<'v> {
    fn from_value(value: Self) -> Result<Self, Unfit> {
        Ok(value)
    }
}

impl FromValue<'_> for i64 {
    fn from_value(value: Value<'_>) -> Result<Self, Unfit> {
        match value {
            Value::Int(value) => Ok(value),
            Value::Null | Value::Bool(_) | Value::Text(_) | Value::Bytes(_) => Err(Unfit("number")),
        }
    }
}

impl FromValue<'_> for bool {
    fn from_value(value: Value<'_>) -> Result<Self, Unfit> {
        match value {
            Value::Bool(value) => Ok(value),
            Value::Int(value) => Ok(value != 0),
            Value::Null | Value::Text(_) | Value::Bytes(_) => Err(Unfit("yes or no")),
        }
    }
}

impl<'v> FromValue<'v> for &'v str {
    fn from_value(value: Value<'v>) -> Result<Self, Unfit> {
        match value {
            Value::Text(value) => Ok(value),
            Value::Null | Value::Int(_) | Value::Bool(_) | Value::Bytes(_) => Err(Unfit("text")),
        }
    }
}

impl<'v> FromValue<'v> for String {
    fn from_value(value: Value<'v>) -> Result<Self, Unfit> {
        <&str>::from_value(value).map(str::to_owned)
    }
}

impl<'v> FromValue<'v> for &'v [u8] {
    fn from_value(value: Value<'v>) -> Result<Self, Unfit> {
        match value {
            Value::Bytes(value) => Ok(value),
            Value::Null | Value::Int(_) | Value::Bool(_) | Value::Text(_) => Err(Unfit("bytes")),
        }
    }
}

impl<'v> FromValue<'v> for Vec<u8> {
    fn from_value(value: Value<'v>) -> Result<Self, Unfit> {
        <&[u8]>::from_value(value).map(<[u8]>::to_vec)
    }
}

impl<'v, const N: usize> FromValue<'v> for [u8; N] {
    fn from_value(value: Value<'v>) -> Result<Self, Unfit> {
        let bytes = <&[u8]>::from_value(value)?;
        bytes.try_into().map_err(|_| Unfit("bytes of the right number"))
    }
}

impl<'v, T: FromValue<'v>> FromValue<'v> for Option<T> {
    fn from_value(value: Value<'v>) -> Result<Self, Unfit> {
        match value {
            Value::Null => Ok(None),
            value => T::from_value(value).map(Some),
        }
    }
}

/// Turns a count or number into a database's integer; none comes near its end.
pub fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Turns a database's integer back.
pub fn nat(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
