//! Why a message was not taken, without an address or a token in it.

use std::fmt;
use std::time::Duration;

/// What a fault tells of messages to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Nobody was reached, or they are busy: later they may take it.
    Way,
    /// They take nothing from here: an address or a token is wrong.
    Sender,
    /// They do not take this message, whenever it comes: others may be taken.
    Message,
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The reason, for people.
    pub text: String,
    /// What it tells.
    pub about: About,
    /// How long the other side wants to be left alone.
    pub after: Option<Duration>,
}

impl Fault {
    /// Makes one of a reason.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), about: About::Way, after: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
