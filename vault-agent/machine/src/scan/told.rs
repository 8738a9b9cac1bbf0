//! Whether a short text that is to be kept in the open, such as a reason, tells a value or a part
//! of one. Pure.

use std::collections::HashSet;

use memchr::memmem;

use super::guessable;

/// Fewest bytes of a part that counts: shorter ones turn up by chance.
const PART: usize = 12;

/// A text that is compared with values.
#[derive(Debug)]
pub struct Told<'a> {
    text: &'a [u8],
    /// Its parts that nobody guesses.
    parts: HashSet<&'a [u8]>,
}

impl<'a> Told<'a> {
    /// Takes a text of few hundred bytes.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        let text = text.as_bytes();
        let parts = text.windows(PART).filter(|part| guessable::judge(part, None).is_none());
        Self { text, parts: parts.collect() }
    }

    /// Tells whether it holds a value, or a part of one, that stands nowhere by chance.
    #[must_use]
    pub fn tells(&self, value: &[u8]) -> bool {
        let value = value.trim_ascii();
        let is_whole = guessable::judge(value, None).is_none() && self.holds(value);
        is_whole || !self.parts.is_empty() && value.windows(PART).any(|it| self.parts.contains(it))
    }

    /// As [`Told::tells`], for a value that the text is about: a word or a number of some length
    /// counts as well.
    #[must_use]
    pub fn names(&self, value: &[u8]) -> bool {
        let trimmed = value.trim_ascii();
        trimmed.len() >= guessable::SHORTEST && self.holds(trimmed) || self.tells(value)
    }

    fn holds(&self, value: &[u8]) -> bool {
        memmem::find(self.text, value).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_parts_of_them_are_noticed_and_words_are_not() {
        let url = "postgres://app:x7Yk2pQ9Zk@localhost/db";
        let key = "-----BEGIN KEY-----\nMC4CAQAwBQYDK2VwBCIEIAaaBBccDDee\n-----END KEY-----";
        for (text, value, tells, names) in [
            ("set it to hunter2hunter2", "hunter2hunter2", true, true),
            ("set it to hunter2hunter2", " hunter2hunter2\n", true, true),
            ("is it hunter2hunte?", "hunter2hunter2", true, true),
            ("hunter2", "hunter2hunter2", false, false),
            ("the password is x7Yk2pQ9Zk@local", url, true, true),
            ("postgres://app on localhost/db is slow", url, false, false),
            ("begins with MC4CAQAwBQYDK2VwBCIEI", key, true, true),
            ("a deploy to production", "production", false, true),
            ("call 4915112345678", "4915112345678", false, true),
            ("correct horse battery staple", "correct horse battery staple", true, true),
            ("deploy", "", false, false),
            ("", "hunter2hunter2", false, false),
            ("        ", "          ", false, false),
        ] {
            let told = Told::new(text);
            assert_eq!(told.tells(value.as_bytes()), tells, "{text}: {value}");
            assert_eq!(told.names(value.as_bytes()), names, "{text}: {value}");
        }
    }
}
