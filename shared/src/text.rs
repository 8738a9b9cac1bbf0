//! Texts that a grammar has accepted: one type for names, paths and what people read in records.
//! What names and paths look like lives with them.

use std::borrow::Borrow;
use std::fmt;
use std::fmt::Write as _;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Code, Error, Result};

/// Tells whether a text is as a pattern says, in which `*` stands for any text.
pub fn like(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, after)) = text.split_once(part) else { return false };
        text = after;
    }
    text.ends_with(end)
}

/// What one kind of text must look like.
pub trait Grammar {
    /// What the kind is called, e.g. `Name`.
    const KIND: &'static str;

    /// Refuses what is no text of the kind.
    fn check(text: &str) -> Result<()>;
}

/// A text that the grammar `G` has accepted; clones share the bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Checked<G>(Arc<str>, PhantomData<G>);

impl<G> Checked<G> {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<G: Grammar> FromStr for Checked<G> {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        G::check(text)?;
        Ok(Self(text.into(), PhantomData))
    }
}

/// Maps keyed by such texts are searched by plain text.
impl<G> Borrow<str> for Checked<G> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<G> fmt::Display for Checked<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<G: Grammar> fmt::Debug for Checked<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?})", G::KIND, self.0)
    }
}

/// Implements serde through `Display` and `FromStr`.
macro_rules! text_serde {
    ($($type:ty $(: $grammar:ident)?),*) => {$(
        impl$(<$grammar: Grammar>)? Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de $(, $grammar: Grammar)?> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(crate) use text_serde;

text_serde!(Checked<G>: G);

/// What stands in place of an end that was cut off.
const CUT: char = '…';

/// A printable text of at most `MOST` bytes: no control, bidirectional or zero-width character.
///
/// Parsing refuses anything else; [`Text::lossy`] makes it fit.
pub type Text<const MOST: usize> = Checked<Printable<MOST>>;

/// The grammar of [`Text`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Printable<const MOST: usize>;

impl<const MOST: usize> Text<MOST> {
    /// Makes a text of whatever there is: makes [`visible`] what cannot be seen, cuts what is too
    /// long.
    pub fn lossy(text: &str) -> Self {
        // No character shrinks, and none is longer than four bytes: what is cut here is cut below.
        let mut shown = visible(&text[..text.floor_char_boundary(MOST + 4)], &[]);
        if shown.len() > MOST {
            shown.truncate(shown.floor_char_boundary(MOST.saturating_sub(CUT.len_utf8())));
            shown.push(CUT);
        }
        Self(shown.into(), PhantomData)
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<const MOST: usize> Default for Text<MOST> {
    fn default() -> Self {
        Self("".into(), PhantomData)
    }
}

impl<const MOST: usize> Grammar for Printable<MOST> {
    const KIND: &'static str = "Text";

    fn check(text: &str) -> Result<()> {
        if text.len() > MOST {
            let why = format!("text `{}` of {} bytes, {MOST} at most", clip(text), text.len());
            return Err(Code::Limits.because(why));
        }
        if !is_printable(text) {
            let why = "has a control, bidirectional or zero-width character";
            return Err(Code::Parse.because(format!("text `{}` {why}", clip(text))));
        }
        Ok(())
    }
}

/// Shortens hostile text for a message and makes it printable.
pub(crate) fn clip(text: &str) -> String {
    let shown: String = text.escape_debug().take(80).collect();
    if shown.len() < text.len() { format!("{shown}…") } else { shown }
}

fn is_printable(text: &str) -> bool {
    !text.chars().any(is_invisible)
}

/// Writes what cannot be seen, but for `kept`, as JSON's strings escape it: `\n`, `\u001b`.
///
/// What was made visible stays as it is, and JSON whose strings were made visible means the same.
pub fn visible(text: &str, kept: &[char]) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if !is_invisible(c) || kept.contains(&c) => shown.push(c),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(shown, "\\u{unit:04x}");
                }
            }
        }
    }
    shown
}

/// Tells characters that a person cannot see, or that reorder what they see.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}'
            | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/bc", false),
            ("*", "", true),
            ("*b*", "abc", true),
            ("*b*", "ac", false),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*a", "a", false),
            ("a**b", "ab", true),
            ("*b*b", "ab", false),
            ("secret/*/x*", "secret/a/b/xy", true),
        ] {
            assert_eq!(like(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn parsing_refuses_what_is_too_long_or_cannot_be_seen() {
        for good in ["", "exit 1", "äöüäö", "0123456789"] {
            assert_eq!(good.parse::<Text<10>>().unwrap().as_str(), good);
            let json = serde_json::to_string(good).unwrap();
            let read: Text<10> = serde_json::from_str(&json).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), json);
        }
        for (bad, code) in [
            ("0123456789a", Code::Limits),
            ("äöüäöü", Code::Limits),
            ("a\nb", Code::Parse),
            ("a\u{1b}[2J", Code::Parse),
            ("a\u{202E}b", Code::Parse),
            ("a\u{200B}", Code::Parse),
            ("\u{FEFF}", Code::Parse),
        ] {
            assert_eq!(bad.parse::<Text<10>>().unwrap_err().code, code, "{bad:?}");
            let json = serde_json::to_string(bad).unwrap();
            assert!(serde_json::from_str::<Text<10>>(&json).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_lossy_form_always_parses() {
        for (text, expected) in [
            ("exit 1", "exit 1"),
            ("0123456789", "0123456789"),
            ("0123456789a", "0123456…"),
            ("äöüäöü", "äöü…"),
            ("a\nb", "a\\nb"),
            ("a\u{1b}[2Kb", "a\\u001b…"),
            ("\u{202E}\u{202E}", "\\u202e\\…"),
            ("", ""),
        ] {
            let made = Text::<10>::lossy(text);
            assert_eq!(made.as_str(), expected);
            assert_eq!(made.as_str().parse::<Text<10>>().unwrap(), made);
        }
        let long = "x\u{0}".repeat(100_000);
        assert_eq!(Text::<10>::lossy(&long).as_str(), "x\\u0000…");
    }

    #[test]
    fn nothing_stays_out_of_sight() {
        for (text, expected) in [
            ("plain äöü ❤ \\ \"", "plain äöü ❤ \\ \""),
            ("\u{1b}[2K\r\n\tx", "\\u001b[2K\\r\\n\\tx"),
            ("\0\u{7f}\u{85}\u{9b}1A", "\\u0000\\u007f\\u0085\\u009b1A"),
            ("\u{202E}\u{2066}\u{200B}\u{FEFF}", "\\u202e\\u2066\\u200b\\ufeff"),
            ("\u{E0041}", "\\udb40\\udc41"),
        ] {
            assert_eq!(visible(text, &[]), expected);
            assert_eq!(visible(expected, &[]), expected);
            let json = serde_json::to_string(text).unwrap();
            let read: String = serde_json::from_str(&visible(&json, &[])).unwrap();
            assert_eq!(read, text);
        }
        assert_eq!(visible("a\n\tb\r", &['\n', '\t']), "a\n\tb\\r");
    }
}
