//! What is refused, and what a person is told about it: the variable, what it holds, who would
//! misread it, the way out. No value is ever part of it.

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
    /// The variable; empty if it is about all of them.
    pub name: String,
    /// Why.
    pub why: Why,
}

/// The reasons for which a variable is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The name is not `[A-Za-z_][A-Za-z0-9_]*`.
    Name,
    /// Shells keep the name for themselves.
    ShellOwn,
    /// The name makes other programs run code.
    Denied,
    /// No secret has it.
    Absent,
    /// The value is null, a list or an object.
    NotText,
    /// The value is bytes, not text.
    Bytes,
    /// Two keys of one secret end up as this name.
    Collision {
        /// The two keys.
        keys: [String; 2],
    },
    /// The file holds one value, and there are so many.
    NotOne(usize),
    /// The template does not render.
    Template(String),
    /// The value holds something that the named readers do not read back.
    Value {
        /// The characters, as shown to a person.
        holds: &'static str,
        /// The readers that would break.
        readers: &'static str,
        /// The way out.
        hint: &'static str,
    },
}

impl fmt::Display for RefusedField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.escape_debug();
        match &self.why {
            Why::Name => write!(
                f,
                "`{name}` is not a variable name (letters, digits and `_`, not starting with a digit)"
            ),
            Why::ShellOwn => {
                write!(f, "`{name}` belongs to the shells, which do not let it be set")
            }
            Why::Denied => write!(f, "`{name}` changes what other programs run"),
            Why::Absent => write!(f, "`{name}` is in none of the secrets"),
            Why::NotText => write!(f, "`{name}` is null, a list or an object, not text"),
            Why::Bytes => write!(f, "`{name}` is a binary file, not text"),
            Why::Collision { keys: [one, two] } => write!(
                f,
                "`{name}` would be both `{}` and `{}`",
                one.escape_debug(),
                two.escape_debug()
            ),
            Why::NotOne(count) => write!(f, "the file is one value, and there are {count}"),
            Why::Template(why) => f.write_str(why),
            Why::Value { holds, readers, .. } => {
                write!(f, "`{name}` holds {holds}, which {readers} would misread")
            }
        }
    }
}

impl RefusedField {
    /// Returns the way out, as one sentence without a full stop.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self.why {
            Why::Name | Why::ShellOwn => {
                "give it another name with `rename`, leave it out with `keys`, or use format = \"json\""
            }
            Why::Denied => "list it in `allow_names` of this target if you mean it",
            Why::Absent => "name keys as `vault kv get` shows them",
            Why::NotText => {
                "set `nested = \"flatten\"`, leave it out with `keys`, or use format = \"json\""
            }
            Why::Bytes => "leave it out with `keys`, and write it with format = \"raw\"",
            Why::Collision { .. } => "give one of them another name with `rename`",
            Why::NotOne(_) => "name one key in `keys`",
            Why::Template(_) => "mend the template, or add the key to the secret",
            Why::Value { hint, .. } => hint,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot be written as {}: ", self.format)?;
        for (n, fault) in self.faults.iter().enumerate() {
            write!(f, "{}{fault}", if n > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}

/// Makes the refusal of a value.
pub(super) const fn refuse(holds: &'static str, readers: &'static str, hint: &'static str) -> Why {
    Why::Value { holds, readers, hint }
}
