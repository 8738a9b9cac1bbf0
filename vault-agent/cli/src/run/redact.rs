//! Takes values out of a stream of output, also where they are cut in two by a buffer's end.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::environment::Environment;

/// Shorter values would turn ordinary words into asterisks.
const SHORTEST: usize = 4;
/// What stands in place of a value.
const STARS: &[u8] = b"***";

/// What must not be shown.
pub(super) struct Values {
    all: Vec<Zeroizing<Vec<u8>>>,
    search: AhoCorasick,
}

impl Values {
    /// Takes the values as they are, line by line, as JSON writes them, and as base64.
    ///
    /// # Errors
    /// More values than can be looked for at once.
    pub(super) fn of(environment: &Environment) -> anyhow::Result<Arc<Self>> {
        let mut all: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        for value in environment.variables.values() {
            let quoted = serde_json::Value::from(value.as_str()).to_string();
            let forms = [
                value.to_string(),
                quoted.trim_matches('"').to_owned(),
                BASE64_STANDARD.encode(value.as_bytes()).trim_end_matches('=').to_owned(),
            ];
            let long = forms.into_iter().filter(|_| value.len() >= SHORTEST);
            all.extend(long.map(|form| Zeroizing::new(form.into_bytes())));
            let lines = value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST);
            all.extend(lines.map(|line| Zeroizing::new(line.as_bytes().to_vec())));
        }
        all.sort_unstable_by(|a, b| a.as_slice().cmp(b));
        all.dedup();
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(all.iter().map(|value| value.as_slice()))?;
        Ok(Arc::new(Self { all, search }))
    }

    /// Returns where the text ends in what may be the start of a longer value.
    fn open_end(&self, text: &[u8], from: usize) -> Option<usize> {
        let longest = self.search.max_pattern_len();
        let first = from.max((text.len() + 1).saturating_sub(longest));
        let goes_on = |rest: &[u8]| {
            // Values are sorted: those that begin with the rest stand where it would.
            let at = self.all.partition_point(|value| value.as_slice() <= rest);
            self.all.get(at).is_some_and(|value| value.starts_with(rest))
        };
        (first..text.len()).find(|&at| goes_on(&text[at..]))
    }
}

/// A stream on its way.
pub(super) struct Redactor {
    values: Arc<Values>,
    /// The end of what came, as long as it may be the start of a value.
    held: Zeroizing<Vec<u8>>,
}

impl Redactor {
    pub(super) fn new(values: Arc<Values>) -> Self {
        Self { values, held: Zeroizing::default() }
    }

    /// Takes bytes, and returns what can be shown by now.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        self.release(false)
    }

    /// Returns the rest, when no more will come.
    pub(super) fn end(&mut self) -> Vec<u8> {
        self.release(true)
    }

    fn release(&mut self, is_all: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.held.len());
        let mut at = 0;
        loop {
            let text = self.held.as_slice();
            let open = if is_all { None } else { self.values.open_end(text, at) };
            let until = open.unwrap_or(text.len());
            let found = self.values.search.find(Input::new(text).range(at..));
            let Some(found) = found.filter(|found| found.start() < until) else {
                out.extend_from_slice(&text[at..until]);
                self.held.drain(..until);
                return out;
            };
            out.extend_from_slice(&text[at..found.start()]);
            out.extend_from_slice(STARS);
            at = found.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[&str], parts: &[&str], expected: &str) {
        let variables = values
            .iter()
            .enumerate()
            .map(|(n, value)| (format!("K{n}"), Zeroizing::new((*value).to_owned())));
        let environment = Environment { variables: variables.collect(), warnings: Vec::new() };
        let mut redactor = Redactor::new(Values::of(&environment).unwrap());
        let mut out = Vec::new();
        for part in parts {
            out.extend(redactor.feed(part.as_bytes()));
        }
        out.extend(redactor.end());
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn values_are_taken_out() {
        check(&["hunter2"], &["x=hunter2hunter2;hunter\n"], "x=******;hunter\n");
        check(&["hunter2", "hunter2-long"], &["hunter2-long hunter2"], "*** ***");
        check(&["hunter2"], &["a hun", "ter", "2 b hunt"], "a *** b hunt");
        check(&["aab"], &["aaab"], "aaab");
        check(&["aaab"], &["aa", "aab"], "a***");
        check(&["one two\nthree four"], &["> three four"], "> ***");
        check(&["a\"b\"c"], &[r#"{"k":"a\"b\"c"}"#], r#"{"k":"***"}"#);
        check(&["hunter2"], &["aHVudGVyMg=="], "***==");
        check(&["yes", ""], &["yes"], "yes");
        check(&[], &["x"], "x");
    }

    #[test]
    fn what_cannot_become_a_value_is_shown_at_once() {
        let variables = [("K".to_owned(), Zeroizing::new("hunter2".to_owned()))].into();
        let environment = Environment { variables, warnings: Vec::new() };
        let mut redactor = Redactor::new(Values::of(&environment).unwrap());
        assert_eq!(redactor.feed(b"name? h"), b"name? ");
        assert_eq!(redactor.feed(b"ello"), b"hello");
    }
}
