//! Secrets as environment variables that no file carries: named as in a file, and valued as they
//! are.

use shared::path::SecretPath;
use zeroize::Zeroizing;

use super::fields::{Field, Value};
use super::format::Names;
use super::refusal::{RefusedField, Why};
use super::rules::Rules;
use super::{lines, names, naming};

/// An environment.
#[derive(Debug)]
pub struct Environment {
    /// Names with their values, each name once.
    pub variables: Vec<(String, Zeroizing<String>)>,
    /// What the owner should know; the environment is right all the same.
    pub warnings: Vec<String>,
}

/// Makes environment variables of `secrets`; where two hold the same name, the later one wins and a
/// warning says so.
///
/// # Errors
/// Names every variable that no environment takes or `rules` refuse, and what they name and no
/// secret has.
pub fn environment(
    secrets: &[(SecretPath, Vec<Field>)],
    rules: &Rules<'_>,
) -> Result<Environment, Vec<RefusedField>> {
    let (mut warnings, mut faults) = (Vec::new(), Vec::new());
    let (fields, absent) = naming::choose(secrets, rules, &mut warnings, &mut faults);
    let gone = Why::new("is in none of the secrets", "name keys as `vault kv get` shows them");
    faults.extend(absent.iter().map(|name| gone.clone().of(name)));
    let mut variables = Vec::with_capacity(fields.len());
    for Field { name, value } in &fields {
        match variable(name, value, rules) {
            Ok(value) => variables.push((name.clone(), value)),
            Err(why) => faults.push(why.of(name)),
        }
    }
    if faults.is_empty() { Ok(Environment { variables, warnings }) } else { Err(faults) }
}

fn variable(name: &str, value: &Value, rules: &Rules<'_>) -> Result<Zeroizing<String>, Why> {
    names::judge(name, Names::Environment, rules.allow_names)?;
    let text = value.plain()?;
    lines::variable(name, text)?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{Nested, fields};

    fn check(secrets: &[&str], rules: &Rules<'_>, expected: &str) {
        let parsed: Vec<_> = secrets
            .iter()
            .zip(["secret/a", "secret/b"])
            .map(|(json, path)| (path.parse().unwrap(), fields(json.as_bytes()).unwrap()))
            .collect();
        let lines: Vec<_> = match environment(&parsed, rules) {
            Ok(made) => {
                let pairs =
                    made.variables.iter().map(|(name, value)| format!("{name}={}", **value));
                pairs.chain(made.warnings.iter().map(|text| format!("({text})"))).collect()
            }
            Err(faults) => faults.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(lines.join("; "), expected, "{secrets:?}");
    }

    #[test]
    fn values_are_what_they_are() {
        let json = r#"{"A":"it's \"$x\" \\ `y`\nsecond","N":1.50,"E":"","T":true}"#;
        check(&[json], &Rules::default(), "A=it's \"$x\" \\ `y`\nsecond; N=1.50; E=; T=true");
        let both = "A=2; B=3; (`A` of `secret/b` replaces that of `secret/a`)";
        check(&[r#"{"A":"1"}"#, r#"{"A":"2","B":"3"}"#], &Rules::default(), both);
        let rules =
            Rules { nested: Nested::Flatten, prefix: "app_", upper: true, ..Rules::default() };
        check(&[r#"{"db":{"user":"u"}}"#], &rules, "APP_DB__USER=u");
    }

    #[test]
    fn what_no_environment_takes_is_named() {
        let check = |json, expected| check(&[json], &Rules::default(), expected);
        check(r#"{"A":"1","B":"a\u0000b"}"#, "`B` holds NUL, which every reader would misread");
        check(
            r#"{"A":{"$base64":"/w=="},"B":[]}"#,
            "`A` is a binary file, not text; `B` is null, a list or an object, not text",
        );
        check(r#"{"PATH":"x"}"#, "`PATH` changes what other programs run");
        check(
            r#"{"a=b":"x"}"#,
            "`a=b` is not a variable name (letters, digits and `_`, not starting with a digit)",
        );
        check(r#"{"UID":"7"}"#, "UID=7");
    }

    #[test]
    fn what_was_asked_for_is_there_or_missed() {
        let keys = ["A".to_owned(), "GONE".to_owned()];
        let rules = Rules { keys: Some(&keys), ..Rules::default() };
        check(&[r#"{"A":"1","B":"2"}"#], &rules, "`GONE` is in none of the secrets");
        check(&[r#"{"A":"1","B":"2"}"#, r#"{"GONE":"3"}"#], &rules, "A=1; GONE=3");
    }
}
