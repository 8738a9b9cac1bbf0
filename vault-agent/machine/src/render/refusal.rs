//! What is refused, and what a person is told about it: the variable, what it holds, who would
//! misread it, the way out. No value is ever part of it.

use std::borrow::Cow;
use std::fmt;

use super::format::Format;

/// Secrets that cannot be written in a format, each variable with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The format that cannot hold them.
    pub format: Format,
    /// Never empty.
    pub faults: Vec<RefusedField>,
}

/// Why one variable is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedField {
    /// The variable; `None` if it is about all of them.
    pub name: Option<String>,
    /// Why.
    pub why: Why,
}

/// What is wrong with a variable or a line, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// What is wrong; follows the variable's name where there is one.
    pub text: Cow<'static, str>,
    /// The way out, as one sentence without a full stop.
    pub hint: &'static str,
}

/// The value is null, a list or an object.
pub(super) const NOT_TEXT: Why = Why::new(
    "is null, a list or an object, not text",
    "set `nested = \"flatten\"`, leave it out with `keys`, or use format = \"json\"",
);

/// The value is bytes, not text.
pub(super) const BYTES: Why = Why::new(
    "is a binary file, not text",
    "leave it out with `keys`, and write it with format = \"raw\"",
);

impl Why {
    pub(super) const fn new(text: &'static str, hint: &'static str) -> Self {
        Self { text: Cow::Borrowed(text), hint }
    }

    pub(super) fn of(self, name: &str) -> RefusedField {
        RefusedField { name: Some(name.to_owned()), why: self }
    }

    pub(super) const fn of_all(self) -> RefusedField {
        RefusedField { name: None, why: self }
    }
}

/// Makes the refusal of a value: the characters that it holds, as shown to a person, the readers
/// that would break, and the way out.
pub(super) fn refuse(holds: &str, readers: &str, hint: &'static str) -> Why {
    Why { text: format!("holds {holds}, which {readers} would misread").into(), hint }
}

impl fmt::Display for RefusedField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "`{}` {}", name.escape_debug(), self.why.text),
            None => f.write_str(&self.why.text),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.faults.iter().map(ToString::to_string).collect();
        write!(f, "cannot be written as {}: {}", self.format, faults.join("; "))
    }
}

impl std::error::Error for Refused {}
