//! Text as people see it: nothing in it steers their terminal, forges a line, or hides. Screens
//! take no other; bytes for programs do not pass here.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::ops::{Add, Deref};

use shared::text::visible;

/// Quotes a word of a command line that people copy, for a POSIX shell; plain ones stay as they
/// are.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// Text in which every control, bidirectional and zero-width character is written out, as JSON
/// escapes it; line ends are only those that the program itself has set.
///
/// Whatever text becomes one is a single line: the ends of lines in it are written out too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shown(String);

impl Shown {
    /// Takes the program's own words as they are.
    pub fn own(words: &'static str) -> Self {
        Self(words.to_owned())
    }

    /// Makes one line.
    pub fn line(text: impl Display) -> Self {
        Self(visible(&text.to_string(), &[]))
    }

    /// Joins lines.
    pub fn lines<T: Into<Self>>(lines: impl IntoIterator<Item = T>) -> Self {
        let lines: Vec<String> = lines.into_iter().map(|line| line.into().0).collect();
        Self(lines.join("\n"))
    }

    /// Takes a whole text whose line ends and tabs are its author's: help, a document, what another
    /// program says in several lines. Only for text that stands by itself.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self(visible(text.as_ref(), &['\n', '\t']))
    }

    /// Puts it into a colour, by its SGR number (ECMA-48).
    #[must_use]
    pub fn coloured(&self, number: u8) -> Self {
        Self(format!("\x1b[{number}m{}\x1b[0m", self.0))
    }

    /// Ends the last line.
    #[must_use]
    pub fn ended(self) -> Self {
        self + Self::own("\n")
    }

    /// Adds text at the end.
    pub fn push(&mut self, more: impl Into<Self>) {
        self.0.push_str(&more.into().0);
    }
}

impl Deref for Shown {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<&str> for Shown {
    fn from(text: &str) -> Self {
        Self(visible(text, &[]))
    }
}

impl From<String> for Shown {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<&String> for Shown {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<Cow<'_, str>> for Shown {
    fn from(text: Cow<'_, str>) -> Self {
        (*text).into()
    }
}

impl From<fmt::Arguments<'_>> for Shown {
    fn from(text: fmt::Arguments<'_>) -> Self {
        Self::line(text)
    }
}

impl From<&Self> for Shown {
    fn from(text: &Self) -> Self {
        text.clone()
    }
}

impl Add for Shown {
    type Output = Self;

    fn add(mut self, more: Self) -> Self {
        self.0.push_str(&more.0);
        self
    }
}

impl PartialEq<str> for Shown {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for Shown {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl PartialEq<String> for Shown {
    fn eq(&self, other: &String) -> bool {
        self.0 == *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[2K\r\n\tb\u{9b}\u{7f}\u{202E}\u{200B}";
    const LINE: &str = "a\\u001b[2K\\r\\n\\tb\\u009b\\u007f\\u202e\\u200b";

    #[test]
    fn whatever_becomes_one_is_one_visible_line() {
        for shown in [
            Shown::from(HOSTILE),
            HOSTILE.to_owned().into(),
            format_args!("{HOSTILE}").into(),
            Shown::line(HOSTILE),
            Shown::from(&Shown::from(HOSTILE)),
            Shown::line(Shown::from(HOSTILE)),
        ] {
            assert_eq!(shown, LINE);
        }
    }

    #[test]
    fn only_the_program_sets_the_ends_of_lines() {
        assert_eq!(Shown::lines([HOSTILE, "c"]), format!("{LINE}\nc"));
        assert_eq!(Shown::own("a\n") + HOSTILE.into(), format!("a\n{LINE}"));
        assert_eq!(Shown::from("a\n").ended(), "a\\n\n");
        assert_eq!(Shown::from("\u{1b}").coloured(31), "\x1b[31m\\u001b\x1b[0m");
        let text = "a\u{1b}[2K\r\n\tb";
        assert_eq!(Shown::text(text), "a\\u001b[2K\\r\n\tb");
    }
}
