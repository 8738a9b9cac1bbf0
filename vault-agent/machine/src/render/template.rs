//! `template`: a file of any shape, by a template in the language of Jinja that sees nothing but
//! the secrets.
//!
//! What is missing is an error, never text. Nothing is escaped. Errors show the template, never a
//! value.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value as Item, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, UndefinedBehavior};
use serde_json::Value as Json;
use shared::path::SecretPath;
use zeroize::Zeroizing;

use super::fields::{Field, Value, utf8};
use super::refusal::Why;
use super::text::Text;

/// Steps after which a template is stopped; each may make 64 bytes.
const FUEL: u64 = 500_000;

/// Said of what cannot be printed.
const NOT_TEXT: &str = "is null, a list, an object or bytes, not text";

/// The longest piece of a template that a message shows, in characters.
const EXCERPT: usize = 80;

/// Renders `template` with the merged `fields`, and with `secrets` by their paths.
pub(super) fn write(
    template: &str,
    fields: &[Field],
    secrets: &[(SecretPath, Vec<Field>)],
    out: &mut Text,
) -> Result<(), Why> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    let refuse = |text: String| {
        let hint = "mend the template, or add the key to the secret";
        Why { text: text.into(), hint }
    };
    environment.set_syntax(syntax.map_err(|error| refuse(error.to_string()))?);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(|out, _, value| print(out, value));
    environment.set_debug(false);
    environment.set_fuel(Some(FUEL));
    let rendered = environment
        .template_from_str(template)
        .and_then(|template| template.render(context(fields, secrets)))
        .map_err(|error| refuse(told(&error, template)))?;
    out.push(&Zeroizing::new(rendered));
    Ok(())
}

/// Prints text, numbers and truth values; anything else would be a value that nobody meant.
fn print(out: &mut Output<'_>, value: &Item) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => Err(ErrorKind::UndefinedError.into()),
        ValueKind::Bool => out
            .write_str(if value.is_true() { "true" } else { "false" })
            .map_err(|_| ErrorKind::WriteFailure.into()),
        ValueKind::String | ValueKind::Number => {
            write!(out, "{value}").map_err(|_| ErrorKind::WriteFailure.into())
        }
        _ => Err(Error::new(ErrorKind::InvalidOperation, NOT_TEXT)),
    }
}

/// Returns what a template sees: merged keys by name and in `env`, all keys by path in `secrets`.
fn context(fields: &[Field], secrets: &[(SecretPath, Vec<Field>)]) -> Item {
    let merged = named(fields);
    let by_path = secrets.iter().map(|(path, fields)| (path.to_string(), named(fields).into()));
    let by_path: BTreeMap<String, Item> = by_path.collect();
    let mut context = merged.clone();
    context.insert("env".to_owned(), merged.into());
    context.insert("secrets".to_owned(), by_path.into());
    context.into()
}

fn named(fields: &[Field]) -> BTreeMap<String, Item> {
    fields.iter().map(|field| (field.name.clone(), item(&field.value))).collect()
}

fn item(value: &Value) -> Item {
    match value {
        Value::Text(text) => utf8(text).into(),
        Value::Scalar(json) | Value::Structure(json) => {
            serde_json::from_str(utf8(json)).map_or(Item::UNDEFINED, |json| from_json(&json))
        }
        Value::Bytes(bytes) => Item::from(bytes.expose()),
    }
}

/// Keeps every digit of a number: what is no plain integer stays text.
fn from_json(json: &Json) -> Item {
    match json {
        Json::Null => ().into(),
        Json::Bool(truth) => (*truth).into(),
        Json::Number(number) => {
            number.as_i64().map_or_else(|| number.to_string().into(), Item::from)
        }
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => items.iter().map(from_json).collect(),
        Json::Object(members) => {
            let members = members.iter().map(|(name, value)| (name.clone(), from_json(value)));
            members.collect::<BTreeMap<String, Item>>().into()
        }
    }
}

/// Tells an error by the template alone: details of other kinds may hold values.
fn told(error: &Error, template: &str) -> String {
    let what = match (error.kind(), error.detail()) {
        (ErrorKind::UndefinedError, _) => "is in none of the secrets".to_owned(),
        (ErrorKind::InvalidOperation, Some(NOT_TEXT)) => NOT_TEXT.to_owned(),
        (
            kind @ (ErrorKind::SyntaxError
            | ErrorKind::UnknownFilter
            | ErrorKind::UnknownTest
            | ErrorKind::UnknownFunction
            | ErrorKind::UnknownMethod),
            Some(detail),
        ) => format!("{kind}: {detail}"),
        (kind, _) => kind.to_string(),
    };
    let line = error.line().unwrap_or(1);
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    let tag: String = tag(error, template, line).chars().take(EXCERPT).map(shown).collect();
    format!("line {line} of the template: `{tag}` {what}")
}

/// Returns the `{{ … }}` or `{% … %}` that an error is about, else its line.
fn tag<'t>(error: &Error, template: &'t str, line: usize) -> &'t str {
    let whole = template.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim();
    let Some(range) = error.range() else { return whole };
    let (Some(before), Some(after)) = (template.get(..range.start), template.get(range.end..))
    else {
        return whole;
    };
    let start = before.rfind("{{").max(before.rfind("{%"));
    let end = [after.find("}}"), after.find("%}")].into_iter().flatten().min();
    match (start, end) {
        (Some(start), Some(end)) => &template[start..range.end + end + 2],
        _ => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fields;

    fn render(template: &str) -> Result<String, String> {
        let json = concat!(
            r#"{"KEY":"a<b>&'\"","n":12345678901234567890,"f":1.50,"t":true,"nil":null,"#,
            r#""l":[1,"x"],"o":{"in":"y"},"a-b":"c","bin":{"$base64":"/w=="}}"#,
        )
        .as_bytes();
        let secrets = [("secret/app".parse().unwrap(), fields(json).unwrap())];
        let mut out = Text::default();
        match write(template, &secrets[0].1, &secrets, &mut out) {
            Ok(()) => Ok(String::from_utf8(out.finish().expose().to_vec()).unwrap()),
            Err(why) => Err(why.text.into_owned()),
        }
    }

    #[test]
    fn templates_see_keys_and_secrets() {
        for (template, expected) in [
            ("k = {{ KEY }}\n", "k = a<b>&'\"\n"),
            ("{{ secrets[\"secret/app\"].KEY }}", "a<b>&'\""),
            ("{{ env[\"a-b\"] }}{{ o.in }}{{ l[1] }}", "cyx"),
            ("{{ n }} {{ f }} {{ t }}", "12345678901234567890 1.50 true"),
            ("{% for k in [\"a-b\"] %}{{ env[k] }};{% endfor %}", "c;"),
            (
                "{{ KEY|tojson }} {{ l|tojson }}",
                "\"a\\u003cb\\u003e\\u0026\\u0027\\\"\" [1, \"x\"]",
            ),
            ("{{ missing|default(\"x\") }}", "x"),
            ("plain\n\n", "plain\n\n"),
        ] {
            assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_is_missing_is_an_error_that_shows_no_value() {
        let missing = "is in none of the secrets";
        for (template, tag, what) in [
            ("a\nb {{ KYE }} {{ KEY }}", "{{ KYE }}", missing),
            ("{{ secrets['secret/b'].KEY }}", "{{ secrets['secret/b'].KEY }}", missing),
            ("{{ o.out }}", "{{ o.out }}", missing),
            ("{% if KYE %}x{% endif %}", "{% if KYE %}", missing),
            ("{% for k in KYE %}x{% endfor %}", "{% for k in KYE %}", missing),
            ("{{ KYE|upper }}", "{{ KYE|upper }}", missing),
            ("{{ \"x\" ~ KYE }}", "{{ \"x\" ~ KYE }}", missing),
            ("{{ nil }}", "{{ nil }}", NOT_TEXT),
            ("{{ l }}", "{{ l }}", NOT_TEXT),
            ("{{ bin }}", "{{ bin }}", NOT_TEXT),
            ("{{ KEY + 1 }}", "{{ KEY + 1 }}", "invalid operation"),
            ("{{ KEY|int }}", "{{ KEY|int }}", "invalid operation"),
            (
                "{{ KEY",
                "{{ KEY",
                "syntax error: unexpected end of input, expected end of variable block",
            ),
            (
                "{% include \"/etc/passwd\" %}",
                "{% include \"/etc/passwd\" %}",
                "syntax error: unknown statement include",
            ),
            (
                "{{ getenv(\"PATH\") }}",
                "{{ getenv(\"PATH\") }}",
                "unknown function: getenv is unknown",
            ),
            (
                "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
                "{% for b in range(9999) %}",
                "engine ran out of fuel",
            ),
        ] {
            let line = template.lines().count();
            let expected = format!("line {line} of the template: `{tag}` {what}");
            assert_eq!(render(template).unwrap_err(), expected, "{template}");
        }
    }
}
