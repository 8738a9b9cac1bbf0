//! Why a message was not taken, without an address or a token in it.

use std::fmt;
use std::time::Duration;

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The reason, for people.
    pub text: String,
    /// Whether it is this message that is refused, so that others may be taken.
    pub refused: bool,
    /// How long the other side wants to be left alone.
    pub after: Option<Duration>,
}

impl Fault {
    /// Makes one of a reason.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), refused: false, after: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
