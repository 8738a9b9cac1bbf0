//! Takes secret values out of what a hook prints.

use shared::path::SecretPath;
use shared::plaintext::Plaintext;

use crate::render::Field;

/// Shorter values would turn ordinary words into asterisks.
const SHORTEST: usize = 4;

/// What stands in place of a value.
const STARS: &str = "***";

/// The values that must not be shown, longest first.
#[derive(Clone, Debug, Default)]
pub(in crate::daemon) struct Mask(Vec<Plaintext>);

impl Mask {
    /// Takes the values of `secrets`, each line of one with several for itself, as output is masked line by line.
    pub(in crate::daemon) fn of(secrets: &[(SecretPath, Vec<Field>)]) -> Self {
        let values =
            secrets.iter().flat_map(|(_, fields)| fields).filter_map(|field| field.value.text());
        let lines =
            values.flat_map(str::lines).map(str::trim).filter(|line| line.len() >= SHORTEST);
        let mut mask = Self(lines.map(|line| Plaintext::from(line.as_bytes())).collect());
        mask.sort();
        mask
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fields;

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
    fn debug_shows_no_value() {
        let secrets = [("secret/a".parse().unwrap(), fields(br#"{"A":"hunter2"}"#).unwrap())];
        assert!(!format!("{:?}", Mask::of(&secrets)).contains("hunter2"));
    }
}
