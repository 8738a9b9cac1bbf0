//! Names of machines, admins and actors: parsed types; nothing past the edge takes a bare string.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Code, Error, Result};
use crate::limits;
use crate::text::{Checked, Grammar, clip, text_serde};

/// A machine or admin name: `[a-z0-9][a-z0-9-]{0,31}`, not digits only.
pub type Name = Checked<NameGrammar>;

/// The grammar of [`Name`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameGrammar;

impl Grammar for NameGrammar {
    const KIND: &'static str = "Name";

    fn check(text: &str) -> Result<()> {
        let refuse = |why: &str| Err(Code::Name.because(format!("name `{}` {why}", clip(text))));
        if text.is_empty() || text.len() > limits::NAME {
            return refuse(&format!("is not 1 to {} characters long", limits::NAME));
        }
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !text.bytes().all(known) {
            return refuse("has a character other than a to z, 0 to 9 and `-`");
        }
        if text.starts_with('-') {
            return refuse("starts with `-`");
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return refuse("consists of digits only");
        }
        Ok(())
    }
}

/// Who signed a record.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Actor {
    /// The holder of the recovery kit: `root`.
    Root,
    /// An admin: `admin:NAME`.
    Admin(Name),
    /// A machine: `machine:NAME`.
    Machine(Name),
}

impl FromStr for Actor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "root" => Ok(Self::Root),
            Some(("admin", name)) => Ok(Self::Admin(name.parse()?)),
            Some(("machine", name)) => Ok(Self::Machine(name.parse()?)),
            None | Some(_) => {
                Err(Code::Name.because(format!("actor `{}` breaks the grammar", clip(text))))
            }
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Admin(name) => write!(f, "admin:{name}"),
            Self::Machine(name) => write!(f, "machine:{name}"),
        }
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Actor({self})")
    }
}

text_serde!(Actor);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        for good in ["a", "vps", "rtx1080", "4770k", "1-", "a-b-", &"a".repeat(32)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in ["", "1", "4770", "-a", "A", "a_b", "a b", "ä", "a\n", &"a".repeat(33)] {
            assert_eq!(bad.parse::<Name>().unwrap_err().code, Code::Name, "{bad:?}");
        }
    }

    #[test]
    fn actors_read_back() {
        for good in ["root", "admin:jonas", "machine:vps"] {
            assert_eq!(good.parse::<Actor>().unwrap().to_string(), good);
        }
        for bad in ["", "Root", "root:x", "admin", "admin:", "user:x", "machine:A"] {
            assert_eq!(bad.parse::<Actor>().unwrap_err().code, Code::Name, "{bad:?}");
        }
    }
}
