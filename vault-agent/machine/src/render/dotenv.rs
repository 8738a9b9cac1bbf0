//! `.env` by the portable rule (design: *Delivery*, "The portable rule"): no escapes, ever, so that
//! shells, systemd, Compose and the libraries of all languages read the same; what none of the
//! forms carries is refused.

use super::lines::{LONG_LINE, is_bare, refused_by_systemd};
use super::refusal::{Why, refuse};
use super::rules::Multiline;
use super::text::Text;

/// Before what dotenvx takes for a value that it is to decrypt.
const ENCRYPTED: &str = "encrypted:";

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

/// Writes one `NAME=VALUE` line; the name has been judged before.
pub(super) fn write(
    name: &str,
    value: &str,
    multiline: Multiline,
    out: &mut Text,
) -> Result<(), Why> {
    let form = form(value, multiline)?;
    let quote = match form {
        Form::Bare => "",
        Form::Single => "'",
        Form::Double => "\"",
    };
    if name.len() + 1 + 2 * quote.len() + value.len() >= LONG_LINE {
        let readers = "docker --env-file and go-envparse";
        return Err(refuse("more than 64 KiB", readers, "use the format `json` or `raw`"));
    }
    for piece in [name, "=", quote, value, quote, "\n"] {
        out.push(piece);
    }
    Ok(())
}

/// Chooses the first form that all readers read back: cases 1 to 6 of the rule.
fn form(value: &str, multiline: Multiline) -> Result<Form, Why> {
    if is_bare(value) && !value.starts_with(ENCRYPTED) {
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
    if value.starts_with(ENCRYPTED) {
        return Err(refuse(
            "`encrypted:` at its start",
            "dotenvx",
            "change the value, or use format = \"json\"",
        ));
    }
    if let Some(holds) = refused_by_systemd(value) {
        return Err(refuse(holds, "systemd", "remove it from the value, or use format = \"json\""));
    }
    let lines = value.contains('\n');
    if lines && multiline == Multiline::Refuse {
        return Err(refuse(
            "a newline",
            "docker --env-file, podman, direnv, decouple, django-environ, honcho, env-cmd and go-envparse",
            "if none of them reads it: `multiline = \"allow\"` of a target, `vault export --multiline`",
        ));
    }
    let doubles = !value.contains(['"', '$', '`', '\\']);
    if doubles && (lines || value.contains('\'')) {
        return Ok(Form::Double);
    }
    single_quoted(value)?;
    Ok(Form::Single)
}

/// Case 3: refuses what single quotes do not carry to every reader.
fn single_quoted(value: &str) -> Result<(), Why> {
    const HINT: &str = "change the value where it is issued, or use another format";
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

/// Tells whether phpdotenv takes the line for the start of a value of several lines: it sees `="`
/// and no second `"` that is not escaped.
fn starts_php_lines(value: &str) -> bool {
    let bytes = value.as_bytes();
    let quotes = bytes
        .iter()
        .enumerate()
        .filter(|(at, b)| **b == b'"' && (*at == 0 || bytes[at - 1] != b'\\'))
        .count();
    value.contains("=\"") && quotes < 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use Multiline::{Allow, Refuse};

    fn check(value: &str, expected: Form) {
        assert_eq!(form(value, Refuse), Ok(expected), "{value:?}");
    }

    fn refused(value: &str, multiline: Multiline, holds: &str) {
        let why = write("K", value, multiline, &mut Text::default()).unwrap_err();
        assert!(why.text.starts_with(&format!("holds {holds}, which ")), "{value:?}: {why:?}");
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
        refused("it's $5", Refuse, "`'` together with `$`");
        refused("'\"", Refuse, "`'` together with `\"`");
        refused("'`", Refuse, "`'` together with a backtick");
        refused("'\\n", Refuse, "`'` together with `\\`");
        refused("a ${b}", Refuse, "`${`");
        refused("a \\\\b", Refuse, "`\\\\`");
        refused("a\\", Refuse, "a final `\\`");
        refused("x=\"", Refuse, "one lone `=\"`");
        refused("x=\"\\\"", Refuse, "one lone `=\"`");
        refused("a\r", Allow, "a carriage return");
        refused("a\0", Allow, "NUL");
        refused("a\nb", Refuse, "a newline");
        refused(&"x".repeat(LONG_LINE - 2), Refuse, "more than 64 KiB");
        refused("encrypted:x", Refuse, "`encrypted:` at its start");
        refused("a\u{FFFE}", Refuse, "a Unicode noncharacter");
    }

    #[test]
    fn newlines_need_an_allow() {
        assert_eq!(form("a\nb", Allow), Ok(Form::Double));
        assert_eq!(form("it's\nb", Allow), Ok(Form::Double));
        assert_eq!(form("a\n$b", Allow), Ok(Form::Single));
        refused("it's\n$b", Allow, "`'` together with `$`");
    }
}
