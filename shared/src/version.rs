//! Versions of the programs: read out of what a program says of itself, and how two of them stand
//! to each other (dev/releasing, *Versions*).

use std::fmt;

/// A released version, `1.2.3`; what follows a hyphen or a plus does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version([u64; 3]);

impl Version {
    /// Reads the last word of a text such as `vault-agent 0.1.0`.
    pub fn of(text: &str) -> Option<Self> {
        let word = text.split_whitespace().next_back()?;
        let core = word.trim_start_matches('v').split(['-', '+']).next()?;
        let mut parts = core.split('.').map(str::parse);
        let numbers = [parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?];
        parts.next().is_none().then_some(Self(numbers))
    }

    /// Tells whether the two are made to work together: of one major version, and at most one minor
    /// version apart.
    pub fn is_neighbour(self, other: Self) -> bool {
        self.0[0] == other.0[0] && self.0[1].abs_diff(other.0[1]) <= 1
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_out_of_what_a_program_says() {
        for (text, expected) in [
            ("vault-agent 0.1.0", Some("0.1.0")),
            ("v0.10.0", Some("0.10.0")),
            ("vault-server 999.0.0-dev", Some("999.0.0")),
            ("0.2.0+deb12", Some("0.2.0")),
            ("vault-agent", None),
            ("vault-agent 1.2", None),
            ("1.2.3.4", None),
            ("1.2.99999999999999999999", None),
            ("", None),
        ] {
            let found = Version::of(text).map(|version| version.to_string());
            assert_eq!(found.as_deref(), expected, "{text:?}");
        }
        assert!(Version::of("0.10.0") > Version::of("0.9.9"));
    }

    #[test]
    fn neighbours_are_one_minor_version_apart_at_most() {
        for (one, other, expected) in [
            ("0.1.0", "0.1.9", true),
            ("0.1.0", "0.2.0", true),
            ("0.3.0", "0.2.7", true),
            ("0.1.0", "0.3.0", false),
            ("0.9.0", "1.0.0", false),
        ] {
            let [one, other] = [one, other].map(|text| Version::of(text).unwrap());
            assert_eq!(one.is_neighbour(other), expected, "{one} {other}");
            assert_eq!(other.is_neighbour(one), expected, "{other} {one}");
        }
    }
}
