//! Takes secret values out of what a hook prints.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use shared::path::SecretPath;
use shared::plaintext::Plaintext;

use machine::render::{Field, Value};

/// Shorter values would turn ordinary words into asterisks.
const SHORTEST: usize = 4;

/// What stands in place of a value.
const STARS: &str = "***";

/// The values that must not be shown, longest first.
#[derive(Clone, Debug, Default)]
pub(in crate::daemon) struct Mask(Vec<Plaintext>);

impl Mask {
    /// Takes the values of `secrets`, each line of one with several for itself, as output is masked line by line; also as
    /// the dialects of a target escape them, and those inside lists and objects.
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
        mask.sort();
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
            self.0.push(Plaintext::from(base64.trim_end_matches('=').as_bytes()));
        }
        for line in value.expose().split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
            if line.len() < SHORTEST {
                continue;
            }
            self.0.push(Plaintext::from(line));
            let Ok(text) = std::str::from_utf8(line) else { continue };
            let json = serde_json::to_string(text).unwrap_or_default();
            let forms = [
                json.get(1..json.len().max(2) - 1).unwrap_or_default().to_owned(),
                escaped(text, "\\\"$", "\\"),
                escaped(text, "\\\"$`", "\\"),
                text.replace('\'', "'\\''"),
                text.replace('\'', "'\"'\"'"),
            ];
            let forms = forms.into_iter().map(|form| Plaintext::new(form.into_bytes()));
            self.0.extend(forms.filter(|form| form.len() > line.len()));
        }
    }

    /// Adds the values of another mask.
    pub(super) fn add(&mut self, other: Self) {
        self.0.extend(other.0);
        self.sort();
    }

    fn sort(&mut self) {
        // A value inside another must not split it before the longer one is found.
        self.0.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.expose().cmp(b.expose())));
        self.0.dedup();
    }

    /// Returns one line of output without the values, as text fit for a log.
    pub(super) fn apply(&self, line: &[u8]) -> String {
        let mut line = line.to_vec();
        for value in &self.0 {
            let value = value.expose();
            let mut from = 0;
            while let Some(at) =
                line[from..].windows(value.len()).position(|window| window == value)
            {
                line.splice(from + at..from + at + value.len(), STARS.bytes());
                from += at + STARS.len();
            }
        }
        String::from_utf8_lossy(&line)
            .chars()
            .map(|c| if c.is_control() && c != '\t' { ' ' } else { c })
            .collect()
    }
}

/// Returns `text` with `escape` in front of each of `special`.
fn escaped(text: &str, special: &str, escape: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if special.contains(c) {
            out.push_str(escape);
        }
        out.push(c);
    }
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
