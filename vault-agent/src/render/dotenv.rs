//! `.env` by the portable rule (design: *Delivery*, "The portable rule"): no escapes, ever, so that shells, systemd,
//! Compose and the libraries of all languages read the same; what none of the forms carries is refused.

use super::text::Text;
use super::{Fault, Field, Rules, Why};

/// Lines past this break `docker --env-file` and go-envparse.
const LONG_LINE: usize = 64 * 1024;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As it is: the only form that raw readers know.
    Bare,
    /// In `'`, nothing escaped.
    Single,
    /// In `"`, nothing escaped.
    Double,
}

/// Writes one `NAME=VALUE` line per field; the names have been judged before.
pub(super) fn write(fields: &[&Field], rules: &Rules<'_>, out: &mut Text, faults: &mut Vec<Fault>) {
    for field in fields {
        let form = match field.value.text() {
            Some(value) => form(value, rules.allow_newlines).map(|form| (form, value)),
            None => Err(Why::NotText),
        };
        match form {
            Ok((form, value)) => line(&field.name, form, value, out),
            Err(why) => faults.push(Fault { name: field.name.clone(), why }),
        }
    }
}

/// Writes one line.
fn line(name: &str, form: Form, value: &str, out: &mut Text) {
    let quote = match form {
        Form::Bare => "",
        Form::Single => "'",
        Form::Double => "\"",
    };
    for piece in [name, "=", quote, value, quote, "\n"] {
        out.push(piece);
    }
}

/// Chooses the first form that all readers read back: cases 1 to 6 of the rule.
fn form(value: &str, allow_newlines: bool) -> Result<Form, Why> {
    if value.len() > LONG_LINE {
        return Err(refuse(
            "more than 64 KiB",
            "docker --env-file and go-envparse",
            "use format = \"json\" for this target",
        ));
    }
    if is_bare(value) {
        return Ok(Form::Bare);
    }
    if value.contains('\0') {
        return Err(refuse(
            "NUL",
            "every reader",
            "no environment variable can hold it: use format = \"json\"",
        ));
    }
    if value.contains('\r') {
        return Err(refuse(
            "a carriage return",
            "Node, deno and Ruby",
            "remove it from the value, or use format = \"json\"",
        ));
    }
    let lines = value.contains('\n');
    if lines && !allow_newlines {
        return Err(refuse(
            "a newline",
            "docker --env-file, podman, direnv, decouple, django-environ, honcho, env-cmd and go-envparse",
            "set `allow_newlines = true` for this target if none of them reads it",
        ));
    }
    let doubles = !value.contains(['"', '$', '`', '\\']);
    if doubles && (lines || value.contains('\'')) {
        return Ok(Form::Double);
    }
    single_quoted(value)?;
    Ok(Form::Single)
}

/// Case 2 (and 1, the empty value): characters that mean nothing to any reader.
fn is_bare(value: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./:@%+,-".contains(&b);
    value.bytes().enumerate().all(|(at, b)| plain(b) || (b == b'=' && at > 0))
}

/// Case 3: refuses what single quotes do not carry to every reader.
fn single_quoted(value: &str) -> Result<(), Why> {
    const HINT: &str = "change the value where it is issued, or use another format for this target";
    let with_quote = [
        ('$', "`'` together with `$`"),
        ('"', "`'` together with `\"`"),
        ('`', "`'` together with a backtick"),
        ('\\', "`'` together with `\\`"),
    ];
    if value.contains('\'') {
        let (_, holds) =
            with_quote.into_iter().find(|(c, _)| value.contains(*c)).unwrap_or(('\'', "`'`"));
        return Err(refuse(holds, "either shells and systemd or npm dotenv, Node and deno", HINT));
    }
    if value.contains("${") {
        return Err(refuse(
            "`${`",
            "python-dotenv, docker-compose 1, dotenv-expand and Next.js",
            HINT,
        ));
    }
    if value.contains("\\\\") {
        return Err(refuse("`\\\\`", "python-dotenv and docker-compose 1", HINT));
    }
    if value.ends_with('\\') {
        return Err(refuse("a final `\\`", "Compose, python-dotenv and godotenv", HINT));
    }
    if starts_php_lines(value) {
        return Err(refuse("one lone `=\"`", "phpdotenv", HINT));
    }
    Ok(())
}

/// Tells whether phpdotenv takes the line for the start of a value of several lines: it sees `="` and no second
/// `"` that is not escaped.
fn starts_php_lines(value: &str) -> bool {
    let bytes = value.as_bytes();
    let quotes = bytes
        .iter()
        .enumerate()
        .filter(|(at, b)| **b == b'"' && (*at == 0 || bytes[at - 1] != b'\\'))
        .count();
    value.contains("=\"") && quotes < 2
}

/// Makes the refusal of a value.
fn refuse(holds: &'static str, readers: &'static str, hint: &'static str) -> Why {
    Why::Value { holds, readers, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: Form) {
        assert_eq!(form(value, false), Ok(expected), "{value:?}");
    }

    fn refused(value: &str, newlines: bool, holds: &str) {
        match form(value, newlines) {
            Err(Why::Value { holds: found, .. }) => assert_eq!(found, holds, "{value:?}"),
            other => panic!("{value:?}: {other:?}"),
        }
    }

    #[test]
    fn the_first_form_that_fits_is_taken() {
        check("", Form::Bare);
        check("sk-proj_A.b/c:d@e%f+g,h==", Form::Bare);
        check("=a", Form::Single);
        check("~/x", Form::Single);
        check("a#b", Form::Single);
        check("two words", Form::Single);
        check("pa$word!`\"", Form::Single);
        check("C:\\dir", Form::Single);
        check("ä€", Form::Single);
        check("x=\"y\"", Form::Single);
        check("it's", Form::Double);
        check("O'Neil #1 & Söhne", Form::Double);
    }

    #[test]
    fn what_no_form_carries_is_refused() {
        refused("it's $5", false, "`'` together with `$`");
        refused("'\"", false, "`'` together with `\"`");
        refused("'`", false, "`'` together with a backtick");
        refused("'\\n", false, "`'` together with `\\`");
        refused("a ${b}", false, "`${`");
        refused("a \\\\b", false, "`\\\\`");
        refused("a\\", false, "a final `\\`");
        refused("x=\"", false, "one lone `=\"`");
        refused("x=\"\\\"", false, "one lone `=\"`");
        refused("a\r", true, "a carriage return");
        refused("a\0", true, "NUL");
        refused("a\nb", false, "a newline");
        refused(&"x".repeat(LONG_LINE + 1), false, "more than 64 KiB");
    }

    #[test]
    fn newlines_need_an_allow() {
        assert_eq!(form("a\nb", true), Ok(Form::Double));
        assert_eq!(form("it's\nb", true), Ok(Form::Double));
        assert_eq!(form("a\n$b", true), Ok(Form::Single));
        refused("it's\n$b", true, "`'` together with `$`");
    }
}
