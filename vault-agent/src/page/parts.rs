//! Small pieces that several views show: a time with its age, a text with commands in it, a list
//! that is cut. All text from outside is [`Shown`] here; templates escape it once more.

use std::fmt::Display;

use host::shown::Shown;
use shared::time::Time;

use super::words::{Lang, Words, fill};

/// A time as people read it, with how long ago that was.
#[derive(Clone, Debug)]
pub(super) struct When {
    /// RFC 3339, to the second.
    pub(super) machine: String,
    /// `2026-11-30 14:02 UTC`.
    pub(super) clock: String,
    /// `2 h ago`.
    pub(super) ago: String,
    /// `for 2 h`.
    pub(super) lasted: String,
}

impl When {
    /// Shows a time in a language, as of `now`.
    pub(super) fn new(at: Time, now: Time, lang: Lang) -> Self {
        let words = Words::of(lang);
        let machine = Time::from_micros(at.as_secs().saturating_mul(1_000_000)).to_string();
        let clock = machine.get(..16).map(|text| format!("{} UTC", text.replace('T', " ")));
        let seconds = now.seconds_since(at);
        let age = lang.age(seconds);
        let ago = if seconds < 5 { words.now.to_owned() } else { fill(words.ago, &[&age]) };
        let lasted = fill(words.for_so_long, &[&age]);
        Self { clock: clock.unwrap_or_else(|| machine.clone()), machine, ago, lasted }
    }
}

/// A piece of a text that names commands between backticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Whether it is a command.
    pub(super) is_code: bool,
    /// What it says.
    pub(super) text: Shown,
}

/// Takes a text with commands apart; a backtick that none closes is text.
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let parts: Vec<&str> = text.split('`').collect();
    let piece = |(at, part): (usize, &&str)| {
        // The last of an even number of parts is behind a backtick that nobody closes.
        let is_open = at + 1 == parts.len() && parts.len().is_multiple_of(2);
        let is_code = at % 2 == 1 && !is_open;
        let text = if is_open { format!("`{part}") } else { (*part).to_owned() };
        (!text.is_empty()).then(|| Piece { is_code, text: text.into() })
    };
    parts.iter().enumerate().filter_map(piece).collect()
}

/// Cuts a list to what is shown of it, and says how many more there are.
pub(super) fn cut<T>(mut all: Vec<T>, most: usize, lang: Lang) -> (Vec<T>, Option<String>) {
    let more = all.len().saturating_sub(most);
    all.truncate(most);
    (all, and_more(more as u64, lang))
}

/// Says how many more there are, if any.
pub(super) fn and_more(more: u64, lang: Lang) -> Option<String> {
    (more > 0).then(|| fill(Words::of(lang).more, &[&number(more, lang)]))
}

/// Writes a number with its thousands apart: `9,800`, `9.800`.
pub(super) fn number(number: u64, lang: Lang) -> String {
    let digits = number.to_string();
    let comma = match lang {
        Lang::En => ',',
        Lang::De => '.',
    };
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(comma);
        }
        text.push(digit);
    }
    text
}

/// Shows any value as one line.
pub(super) fn line(value: impl Display) -> Shown {
    Shown::line(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stand_apart() {
        let check = |text: &str, expected: &[(bool, &str)]| {
            let found = pieces(text);
            let found: Vec<(bool, &str)> = found.iter().map(|it| (it.is_code, &*it.text)).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("`a b` on c; `d`", &[(true, "a b"), (false, " on c; "), (true, "d")]);
        check("plain", &[(false, "plain")]);
        check("an `open end", &[(false, "an "), (false, "`open end")]);
        check("", &[]);
        check("`\u{202e}x`", &[(true, "\\u202ex")]);
    }

    #[test]
    fn lists_are_cut_and_say_so() {
        let (shown, more) = cut((0..10_000).collect(), 200, Lang::En);
        assert_eq!((shown.len(), more.as_deref()), (200, Some("and 9,800 more")));
        let (_, more) = cut((0..10_000).collect(), 200, Lang::De);
        assert_eq!(more.as_deref(), Some("und 9.800 weitere"));
        assert_eq!(cut(vec![1, 2], 2, Lang::En), (vec![1, 2], None));
        assert_eq!(number(1_000_000, Lang::En), "1,000,000");
        assert_eq!(number(100, Lang::En), "100");
    }

    #[test]
    fn times_have_an_age() {
        let at: Time = "2026-11-30T14:02:03.5Z".parse().unwrap();
        let when = When::new(at, at.plus(7_200_000_000), Lang::En);
        assert_eq!(when.machine, "2026-11-30T14:02:03Z");
        assert_eq!((&*when.clock, &*when.ago), ("2026-11-30 14:02 UTC", "2 h ago"));
        let when = When::new(at, at.plus(7_200_000_000), Lang::De);
        assert_eq!((&*when.ago, &*when.lasted), ("vor 2 h", "seit 2 h"));
        assert_eq!(When::new(at, at, Lang::En).ago, "now");
    }
}
