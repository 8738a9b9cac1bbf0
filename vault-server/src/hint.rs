//! Errors for people: one sentence, and on its own line the way out.

use std::fmt;

/// An error with a way out.
#[derive(Debug)]
pub struct Hint {
    message: String,
    hint: String,
}

impl Hint {
    /// Makes an error from a message and its hint, neither with a full stop.
    pub fn wrap(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { message: message.into(), hint: hint.into() })
    }

    /// Returns the hint somewhere in the chain of `error`.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Option<&str> {
        error.chain().find_map(|cause| cause.downcast_ref::<Self>()).map(|found| &*found.hint)
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Hint {}

/// Prints an error with its causes on standard error, the hint on its own line.
pub fn print(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
    if let Some(hint) = Hint::of(error) {
        eprintln!("hint: {hint}");
    }
}
