//! Takes secret values out of what a hook prints.

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use shared::path::SecretPath;
use shared::plaintext::Plaintext;

use machine::render::{Field, Value};

/// Shorter values would turn ordinary words into asterisks.
const SHORTEST: usize = 4;

/// What stands in place of a value.
const STARS: &str = "***";

/// The values that must not be shown.
#[derive(Clone, Default)]
pub(in crate::daemon) struct Mask {
    values: Vec<Plaintext>,
    /// Looks for all of them at once; made when there is something to mask.
    search: OnceLock<AhoCorasick>,
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mask").field(&self.values).finish()
    }
}

impl Mask {
    /// Takes the values of `secrets`, each line of one with several for itself, as output is masked
    /// line by line; also as the dialects of a target escape them, and those inside lists and
    /// objects.
    pub(in crate::daemon) fn of(secrets: &[(SecretPath, Vec<Field>)]) -> Self {
        let mut mask = Self::default();
        for field in secrets.iter().flat_map(|(_, fields)| fields) {
            match &field.value {
                Value::Text(text) | Value::Scalar(text) => mask.take(text),
                Value::Structure(json) => {
                    mask.take_leaves(serde_json::from_slice(json.expose()).unwrap_or_default());
                }
                Value::Bytes(bytes) => mask.take(bytes),
            }
        }
        mask
    }

    fn take_leaves(&mut self, json: serde_json::Value) {
        use serde_json::Value as Json;
        match json {
            Json::Null | Json::Bool(_) => {}
            Json::Number(number) => self.take(&Plaintext::new(number.to_string().into_bytes())),
            Json::String(text) => self.take(&Plaintext::new(text.into_bytes())),
            Json::Array(items) => items.into_iter().for_each(|item| self.take_leaves(item)),
            Json::Object(fields) => fields.into_iter().for_each(|(_, item)| self.take_leaves(item)),
        }
    }

    /// Takes every line of a value, in every form it may stand in a file.
    fn take(&mut self, value: &Plaintext) {
        if value.len() >= SHORTEST {
            let base64 = BASE64_STANDARD.encode(value.expose());
            self.values.push(Plaintext::from(base64.trim_end_matches('=').as_bytes()));
        }
        for line in value.expose().split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
            if line.len() < SHORTEST {
                continue;
            }
            self.values.push(Plaintext::from(line));
            let Ok(text) = std::str::from_utf8(line) else { continue };
            let json = serde_json::to_string(text).unwrap_or_default();
            let forms = [
                json.get(1..json.len().max(2) - 1).unwrap_or_default().to_owned(),
                escaped(text, "\\\"$"),
                escaped(text, "\\\"$`"),
                text.replace('\'', "'\\''"),
                text.replace('\'', "'\"'\"'"),
            ];
            let forms = forms.into_iter().map(|form| Plaintext::new(form.into_bytes()));
            self.values.extend(forms.filter(|form| form.len() > line.len()));
        }
    }

    /// Adds the values of another mask.
    pub(super) fn add(&mut self, other: Self) {
        self.values.extend(other.values);
        self.search = OnceLock::new();
    }

    /// Returns one line of output without the values, as text fit for a log. Where values overlap,
    /// all that any of them covers is left out.
    pub(super) fn apply(&self, line: &[u8]) -> String {
        let search = self.search.get_or_init(|| {
            AhoCorasick::new(self.values.iter().map(Plaintext::expose))
                .expect("secrets are too small to have more states than an index counts")
        });
        let mut covered: Vec<Range<usize>> =
            search.find_overlapping_iter(line).map(|found| found.range()).collect();
        covered.sort_unstable_by_key(|range| range.start);
        let (mut shown, mut at) = (Vec::with_capacity(line.len()), 0);
        for range in covered {
            if range.start >= at {
                shown.extend_from_slice(&line[at..range.start]);
                shown.extend_from_slice(STARS.as_bytes());
            }
            at = at.max(range.end);
        }
        shown.extend_from_slice(&line[at..]);
        String::from_utf8_lossy(&shown)
            .chars()
            .map(|c| if c.is_control() && c != '\t' { ' ' } else { c })
            .collect()
    }
}

/// Returns `text` with a backslash in front of each of `special`.
fn escaped(text: &str, special: &str) -> String {
    let escape = |c: char| special.contains(c).then_some('\\').into_iter().chain([c]);
    // It never grows: that would leave a copy of a secret behind.
    let mut out = String::with_capacity(2 * text.len());
    out.extend(text.chars().flat_map(escape));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::render::fields;

    fn check(secret: &str, line: &str, expected: &str) {
        let secrets = [("secret/a".parse().unwrap(), fields(secret.as_bytes()).unwrap())];
        assert_eq!(Mask::of(&secrets).apply(line.as_bytes()), expected);
    }

    #[test]
    fn values_are_masked_wherever_they_stand() {
        check(r#"{"A":"hunter2"}"#, "x=hunter2hunter2;hunter", "x=******;hunter");
        check(r#"{"A":"hunter2","B":"hunter2-long"}"#, "hunter2-long hunter2", "*** ***");
        check(r#"{"A":"line one\nline two","N":12345}"#, "> line two 12345", "> *** ***");
        check(r#"{"A":"hunter2","B":"ter2-long"}"#, "hunter2-long hunter2", "*** ***");
        check(r#"{"A":"yes","B":""}"#, "yes", "yes");
        check("{}", "a\u{1b}[31mb\r", "a [31mb ");
    }

    #[test]
    fn values_are_masked_as_files_and_programs_write_them() {
        let secret = r#"{"A":"a\"b$c\\d`e'f"}"#;
        check(secret, r#"A=a"b$c\d`e'f"#, "A=***");
        check(secret, r#"{"A":"a\"b$c\\d`e'f"}"#, r#"{"A":"***"}"#);
        check(secret, r#"A="a\"b\$c\\d`e'f""#, r#"A="***""#);
        check(secret, r#"A="a\"b\$c\\d\`e'f""#, r#"A="***""#);
        check(secret, r#"export A='a"b$c\d`e'\''f'"#, "export A='***'");
        check(secret, "YSJiJGNcZGBlJ2Y=", "***=");
        check(r#"{"A":"ends in\""}"#, r#""ends in\"""#, r#""***""#);
        let nested =
            r#"{"DB":{"user":"admin","ports":[15432],"tls":true},"B":{"$base64":"/wBzZWNyZXQ="}}"#;
        check(
            nested,
            r#"{"user":"admin","ports":[15432],"tls":true}"#,
            r#"{"user":"***","ports":[***],"tls":true}"#,
        );
        check(nested, "/wBzZWNyZXQ=", "***=");
    }

    #[test]
    fn debug_shows_no_value() {
        let secrets = [("secret/a".parse().unwrap(), fields(br#"{"A":"hunter2"}"#).unwrap())];
        assert!(!format!("{:?}", Mask::of(&secrets)).contains("hunter2"));
    }
}
