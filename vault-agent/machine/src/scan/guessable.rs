//! Which values are worth looking for: a port or a host name of the vault stands in every other
//! file. Pure.

use std::collections::BTreeSet;

/// Shorter values turn up by chance.
pub const SHORTEST: usize = 8;

/// From here on even a plain word is found by purpose only.
const LONG: usize = 20;

/// Fewer different bytes are a filler such as `xxxxxxxx`.
const FEWEST_BYTES: usize = 5;

/// What host names, dates, addresses and paths are joined by.
const JOINTS: &[u8] = b".-_/:@,; ";

/// Why a value is not looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Fewer bytes than are looked for.
    Short,
    /// A word, a number, a name: it would be found where it is no secret.
    Guessable,
}

impl Why {
    /// Says it to people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Short => "too short",
            Self::Guessable => "easy to guess",
        }
    }
}

/// Tells why a value is not looked for. With `min` the length alone decides.
pub fn judge(value: &[u8], min: Option<usize>) -> Option<Why> {
    match min {
        Some(min) => (value.len() < min).then_some(Why::Short),
        None if value.len() < SHORTEST => Some(Why::Short),
        None => is_guessable(value).then_some(Why::Guessable),
    }
}

fn is_guessable(value: &[u8]) -> bool {
    let rest = behind_host(value);
    if rest.len() < SHORTEST || rest.iter().collect::<BTreeSet<_>>().len() < FEWEST_BYTES {
        return true;
    }
    let odd = |byte: &u8| byte.is_ascii_punctuation() && !JOINTS.contains(byte);
    rest.len() < LONG
        && !rest.iter().any(odd)
        && !rest.split(|byte| JOINTS.contains(byte)).any(is_random)
}

/// Leaves out scheme and host of a URL without a password: what is secret in
/// `https://hooks.example/T0/x7…` is the rest.
fn behind_host(value: &[u8]) -> &[u8] {
    let Some(at) = value.windows(3).position(|three| three == b"://") else { return value };
    let authority = &value[at + 3..];
    let end = authority.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(authority.len());
    if authority[..end].contains(&b'@') { value } else { &authority[end..] }
}

/// Tells whether a piece between joints mixes letters and digits, and is too long for a name.
fn is_random(piece: &[u8]) -> bool {
    let some = |belongs: fn(&u8) -> bool| piece.iter().any(belongs);
    piece.len() >= SHORTEST && some(u8::is_ascii_digit) && some(|byte| !byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_ports_and_hosts_are_not_looked_for() {
        for (value, expected) in [
            ("", Some(Why::Short)),
            ("3306", Some(Why::Short)),
            ("true", Some(Why::Short)),
            ("localhost", Some(Why::Guessable)),
            ("production", Some(Why::Guessable)),
            ("us-east-1", Some(Why::Guessable)),
            ("smtp.gmail.com:587", Some(Why::Guessable)),
            ("192.168.17.1:8443", Some(Why::Guessable)),
            ("2026-01-01T00:00:00", Some(Why::Guessable)),
            ("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", Some(Why::Guessable)),
            ("https://api.example.com/v1", Some(Why::Guessable)),
            ("postgres://localhost:5432", Some(Why::Guessable)),
            ("postgres://app:pw@localhost/db", None),
            ("https://hooks.example.com/services/T0AB12/B0CD34/x7Yk2pQ9", None),
            ("hunter2hunter2", None),
            ("k9#Lq!x2", None),
            ("p@ss w\"rd/42!", None),
            ("550e8400-e29b-41d4-a716-446655440000", None),
            ("correct horse battery staple", None),
            ("sk-proj-a1B2c3D4e5", None),
        ] {
            assert_eq!(judge(value.as_bytes(), None), expected, "{value}");
        }
        assert_eq!(judge(b"3306", Some(4)), None);
        assert_eq!(judge(b"localhost", Some(10)), Some(Why::Short));
    }
}
