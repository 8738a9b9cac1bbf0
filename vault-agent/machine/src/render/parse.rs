//! Reads `.env` files of any common dialect; where dialects disagree about a line, the line is
//! refused.
//!
//! Errors name the line and the reason, never a name or a value: a broken line may be the middle of
//! a secret.

use std::collections::HashMap;
use std::ops::Range;

use shared::plaintext::Plaintext;

use super::refusal::Why;
use super::text::Text;

/// One variable of a `.env` file, in the file's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The line it starts on, counted from 1.
    pub line: usize,
    /// The name, `[A-Za-z_][A-Za-z0-9_]*`.
    pub name: String,
    /// The value after quotes and escapes are undone: UTF-8 without NUL.
    pub value: Plaintext,
    /// The bytes of the file that hold it all, from the start of its first line to the end of its
    /// last.
    pub entry: Range<usize>,
    /// The bytes of the file that hold the value as it is written, quotes and all.
    pub written: Range<usize>,
}

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {}", why.text)]
pub struct ParseError {
    /// The line the trouble starts on, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: Why,
}

const APART: &str = "put a value of several lines in quotes, and comments on lines of their own";
const QUOTE: &str = "write the value out and put it in single quotes";

const NOT_UTF8: Why = Why::new("not UTF-8", "convert the file with `iconv -t UTF-8`");
const NUL: Why = Why::new("a NUL byte", "remove the byte: an environment variable cannot hold it");
const NO_EQUALS: Why = Why::new("neither a comment nor `NAME=VALUE`", APART);
const BAD_NAME: Why = Why::new(
    "what stands before `=` is not a variable name (letters, digits and `_`, not starting with a digit)",
    "rename the variable",
);
const AFTER_QUOTE: Why = Why::new("text follows the closing quote", APART);
const EXPANSION: Why =
    Why::new("`${…}` or `$(…)` outside single quotes, which some readers expand", QUOTE);
const DOLLAR_QUOTE: Why = Why::new("`$'…'`, which only shells read", QUOTE);
const ESCAPE: Why = Why::new(
    "a backslash escape that readers undo differently (all agree on \\n \\r \\t \\\\ \\\" \\$ and \\`)",
    QUOTE,
);
const LEADING_HASH: Why =
    Why::new("an unquoted value that starts with `#`, a comment for some readers", QUOTE);
const TRAILING_BACKSLASH: Why = Why::new(
    "an unquoted value that ends in a backslash, a continued line for some readers",
    QUOTE,
);
const CARRIAGE_RETURN: Why =
    Why::new("a carriage return inside the line", "convert the line ends with `dos2unix`");

fn duplicate(first: usize) -> Why {
    let text = format!("the same name is already set on line {first}").into();
    Why { text, hint: "remove one of the two: readers disagree on which of them counts" }
}

fn unterminated(quote: char) -> Why {
    let text = format!("the opening {quote} has no closing {quote}").into();
    Why { text, hint: "close the quote on the line where the value ends" }
}

/// Reads a whole file; nothing is returned unless every line is understood.
///
/// Understood: blank lines, `#` and `;` comments, `export `, spaces around `=`, bare values with a
/// trailing ` # comment`, `'…'`, `"…"` (with escapes) and `` `…` `` over several lines, shell
/// concatenation such as `'it'\''s'`, LF and CRLF line ends, a byte order mark.
///
/// # Errors
/// Names the first line that is broken, or that readers disagree about.
pub fn parse(file: &[u8]) -> Result<Vec<Variable>, ParseError> {
    let whole = file.len();
    let file = file.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(file);
    let fault = |at: usize, why| ParseError { line: lines_in(&file[..at]), why };
    let text = std::str::from_utf8(file).map_err(|error| fault(error.valid_up_to(), NOT_UTF8))?;
    if let Some(at) = text.find('\0') {
        return Err(fault(at, NUL));
    }
    let mut seen = HashMap::new();
    let mut variables = Vec::new();
    let mut cursor = Cursor { rest: text, line: 1, whole };
    while !cursor.rest.is_empty() {
        let (line, start) = (cursor.line, cursor.at());
        let read = cursor.entry().map_err(|why| ParseError { line, why })?;
        let Some((name, value, written)) = read else { continue };
        if let Some(first) = seen.insert(name, line) {
            return Err(ParseError { line, why: duplicate(first) });
        }
        let entry = start..cursor.at();
        variables.push(Variable { line, name: name.to_owned(), value, entry, written });
    }
    Ok(variables)
}

/// Tells whether `name` is `[A-Za-z_][A-Za-z0-9_]*`.
pub fn is_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.is_empty()
        && !name.as_bytes()[0].is_ascii_digit()
}

/// Returns the number of the line on which the text after `before` starts.
fn lines_in(before: &[u8]) -> usize {
    1 + before.iter().filter(|b| **b == b'\n').count()
}

/// Name, value, and where that is written.
type Entry<'a> = (&'a str, Plaintext, Range<usize>);

/// What is left of the file, and where in it.
struct Cursor<'a> {
    rest: &'a str,
    line: usize,
    /// The bytes of the whole file.
    whole: usize,
}

impl<'a> Cursor<'a> {
    /// Returns the place in the file.
    fn at(&self) -> usize {
        self.whole - self.rest.len()
    }

    /// Reads one line, or several if a quoted value spans them; `None` for blank lines and
    /// comments.
    fn entry(&mut self) -> Result<Option<Entry<'a>>, Why> {
        let line = self.rest.split('\n').next().unwrap_or_default();
        let bare = line.trim_start_matches([' ', '\t']);
        if bare.trim_end().is_empty() || bare.starts_with(['#', ';']) {
            self.take_line();
            return Ok(None);
        }
        let (head, _) = bare.split_once('=').ok_or(NO_EQUALS)?;
        let name = head.trim_end_matches([' ', '\t']);
        let name = match name.strip_prefix("export") {
            Some(after) if after.starts_with([' ', '\t']) => after.trim_start_matches([' ', '\t']),
            _ => name,
        };
        if !is_name(name) {
            return Err(BAD_NAME);
        }
        let value = &self.rest[line.len() - bare.len() + head.len() + 1..];
        let equals = self.whole - value.len();
        self.rest = value.trim_start_matches([' ', '\t']);
        let spaced = self.rest.len() < value.len();
        let start = self.at();
        let (value, end) = match self.rest.chars().next() {
            Some('\'' | '"' | '`') => self.quoted()?,
            Some('#') if !spaced => return Err(LEADING_HASH),
            Some('#') => {
                self.take_line();
                (Plaintext::from(&b""[..]), start)
            }
            _ => self.bare()?,
        };
        let written = if end == start { equals..equals } else { start..end };
        Ok(Some((name, value, written)))
    }

    /// Takes the rest of the line, without its end.
    fn take_line(&mut self) -> &'a str {
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        line.strip_suffix('\r').unwrap_or(line)
    }

    /// Reads an unquoted value; returns its end as well.
    fn bare(&mut self) -> Result<(Plaintext, usize), Why> {
        let start = self.at();
        let value = cut_comment(self.take_line()).trim_end_matches([' ', '\t']);
        if value.contains('\r') {
            return Err(CARRIAGE_RETURN);
        }
        if value.starts_with("$'") {
            return Err(DOLLAR_QUOTE);
        }
        if value.contains("${") || value.contains("$(") {
            return Err(EXPANSION);
        }
        if value.ends_with('\\') {
            return Err(TRAILING_BACKSLASH);
        }
        Ok((Plaintext::from(value.as_bytes()), start + value.len()))
    }

    /// Reads a value that starts with a quote, with what a shell would glue to it; returns its end
    /// as well.
    fn quoted(&mut self) -> Result<(Plaintext, usize), Why> {
        let mut value = Text::default();
        if let Some(rest) = self.rest.strip_prefix('`') {
            self.rest = rest;
            self.literal('`', &mut value)?;
        } else {
            self.shell_word(&mut value)?;
        }
        let end = self.at();
        let tail = self.take_line();
        let blank = tail.trim_start_matches([' ', '\t']);
        if blank.is_empty() || (blank.starts_with('#') && blank.len() < tail.len()) {
            return Ok((value.finish(), end));
        }
        Err(AFTER_QUOTE)
    }

    /// Reads quoted pieces and escaped quotes that stand side by side, as in `'it'\''s'`.
    fn shell_word(&mut self, value: &mut Text) -> Result<(), Why> {
        loop {
            let mut chars = self.rest.chars();
            match chars.next() {
                Some('\'') => {
                    self.rest = chars.as_str();
                    self.literal('\'', value)?;
                }
                Some('"') => {
                    self.rest = chars.as_str();
                    self.double_quoted(value)?;
                }
                Some('\\') => {
                    let Some(escaped @ ('\'' | '"' | '\\' | '$' | '`')) = chars.next() else {
                        return Ok(());
                    };
                    self.rest = chars.as_str();
                    value.push_char(escaped);
                }
                _ => return Ok(()),
            }
        }
    }

    /// Reads up to the closing `quote`, undoing nothing.
    fn literal(&mut self, quote: char, value: &mut Text) -> Result<(), Why> {
        let (inner, rest) = self.rest.split_once(quote).ok_or_else(|| unterminated(quote))?;
        self.rest = rest;
        self.push_lines(inner, value)
    }

    /// Reads up to the closing `"`, undoing escapes.
    fn double_quoted(&mut self, value: &mut Text) -> Result<(), Why> {
        loop {
            let stop = self.rest.find(['"', '\\']).ok_or_else(|| unterminated('"'))?;
            let (inner, rest) = self.rest.split_at(stop);
            if inner.contains("${") || inner.contains("$(") {
                return Err(EXPANSION);
            }
            self.push_lines(inner, value)?;
            let mut after = rest.chars();
            if after.next() == Some('"') {
                self.rest = after.as_str();
                return Ok(());
            }
            match after.next().ok_or_else(|| unterminated('"'))? {
                'n' => value.push("\n"),
                'r' => value.push("\r"),
                't' => value.push("\t"),
                c @ ('"' | '\\' | '$' | '`') => value.push_char(c),
                '\n'
                | '\r'
                | 'a'
                | 'b'
                | 'c'
                | 'e'
                | 'f'
                | 'u'
                | 'U'
                | 'v'
                | 'x'
                | 'N'
                | 'E'
                | '0'..='9' => {
                    return Err(ESCAPE);
                }
                c => {
                    value.push("\\");
                    value.push_char(c);
                }
            }
            self.rest = after.as_str();
        }
    }

    /// Appends quoted text, with CRLF as LF, and counts its lines.
    fn push_lines(&mut self, inner: &str, value: &mut Text) -> Result<(), Why> {
        for line in inner.split_inclusive('\n') {
            let (line, end) = match line.strip_suffix('\n') {
                Some(line) => (line.strip_suffix('\r').unwrap_or(line), "\n"),
                None => (line, ""),
            };
            if line.contains('\r') {
                return Err(CARRIAGE_RETURN);
            }
            self.line += end.len();
            value.push(line);
            value.push(end);
        }
        Ok(())
    }
}

/// Cuts an unquoted value at the first `#` that follows white space.
fn cut_comment(line: &str) -> &str {
    let bytes = line.as_bytes();
    let end =
        (1..bytes.len()).find(|at| bytes[*at] == b'#' && matches!(bytes[at - 1], b' ' | b'\t'));
    &line[..end.unwrap_or(line.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, expected: &[(usize, &str, &str)]) {
        let read = parse(file.as_bytes()).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        let read: Vec<_> = read
            .iter()
            .map(|v| (v.line, v.name.as_str(), std::str::from_utf8(v.value.expose()).unwrap()))
            .collect();
        assert_eq!(read, expected, "{file:?}");
    }

    fn refused(file: &str, line: usize, why: Why) {
        assert_eq!(parse(file.as_bytes()).unwrap_err(), ParseError { line, why }, "{file:?}");
    }

    #[test]
    fn common_dialects_are_read() {
        check("", &[]);
        check("\n# c\n  # c\n; c\n\t\n", &[]);
        check("A=1\nB=two", &[(1, "A", "1"), (2, "B", "two")]);
        check("\u{FEFF}A=1\r\nB='2'\r\n", &[(1, "A", "1"), (2, "B", "2")]);
        check(
            "export A=1\nexport\tB = 2 \nexported=3",
            &[(1, "A", "1"), (2, "B", "2"), (3, "exported", "3")],
        );
        check(
            "A=\nB= # c\nC=''\nD=\"\"",
            &[(1, "A", ""), (2, "B", ""), (3, "C", ""), (4, "D", "")],
        );
    }

    #[test]
    fn bare_values_end_at_a_comment() {
        check("A=a b  c # d", &[(1, "A", "a b  c")]);
        check("A=a#b", &[(1, "A", "a#b")]);
        check("A=it's", &[(1, "A", "it's")]);
        check("A=p$w\\d=\"x\"", &[(1, "A", "p$w\\d=\"x\"")]);
    }

    #[test]
    fn quotes_and_escapes_are_undone() {
        check("A='a # b' # c\nB=`x'\"y`", &[(1, "A", "a # b"), (2, "B", "x'\"y")]);
        check(r#"A="a\n\t\"\\\$\`\d'""#, &[(1, "A", "a\n\t\"\\$`\\d'")]);
        check(r"A='it'\''s'", &[(1, "A", "it's")]);
        check(r#"A='a\'\''b'"'c'"''"#, &[(1, "A", "a\\'b'c'")]);
        check(r"A='${x} $(y) \n'", &[(1, "A", r"${x} $(y) \n")]);
    }

    #[test]
    fn quoted_values_span_lines() {
        check(
            "A='one\ntwo'\nB=\"x\r\n\r\ny\"\r\nC=`1\n2`\nD=4",
            &[(1, "A", "one\ntwo"), (3, "B", "x\n\ny"), (6, "C", "1\n2"), (8, "D", "4")],
        );
    }

    #[test]
    fn every_value_is_found_where_it_is_written() {
        let file = "\u{FEFF}# c\r\n export A = one # c\r\nB='x\ny' # d\nC=\nD=  # e\nE='it'\\''s'";
        let read = parse(file.as_bytes()).unwrap();
        let shown: Vec<_> =
            read.iter().map(|v| (&file[v.entry.clone()], &file[v.written.clone()])).collect();
        let expected = [
            (" export A = one # c\r\n", "one"),
            ("B='x\ny' # d\n", "'x\ny'"),
            ("C=\n", ""),
            ("D=  # e\n", ""),
            ("E='it'\\''s'", "'it'\\''s'"),
        ];
        assert_eq!(shown, expected);
        assert_eq!(&file[..read[3].written.end], &file[..file.find("D=").unwrap() + 2]);
    }

    #[test]
    fn broken_and_ambiguous_lines_are_refused() {
        refused("A=1\nsk-abc\n", 2, NO_EQUALS);
        refused("A=1\n+Wjc==\n", 2, BAD_NAME);
        refused("a-b=1", 1, BAD_NAME);
        refused("1a=1", 1, BAD_NAME);
        refused("=1", 1, BAD_NAME);
        refused("A B=1", 1, BAD_NAME);
        refused("A=1\nB=2\nA=3", 3, duplicate(1));
        refused("A=1\nB='x\ny", 2, unterminated('\''));
        refused("A=\"x\\\"", 1, unterminated('"'));
        refused("A=\"x\\", 1, unterminated('"'));
        refused("A='x'y", 1, AFTER_QUOTE);
        refused("A='x'# c", 1, AFTER_QUOTE);
        refused("A='x'\\y", 1, AFTER_QUOTE);
        refused("A=${B}x", 1, EXPANSION);
        refused("A=\"$(id)\"", 1, EXPANSION);
        refused("A=$'x'", 1, DOLLAR_QUOTE);
        refused(r#"A="\x41""#, 1, ESCAPE);
        refused("A=#x", 1, LEADING_HASH);
        refused("A=x\\", 1, TRAILING_BACKSLASH);
        refused("A=x\ry", 1, CARRIAGE_RETURN);
        refused("A=\"x\ry\"", 1, CARRIAGE_RETURN);
        refused("A=1\nB=\0", 2, NUL);
        assert_eq!(parse(b"A=1\nB=\xFF"), Err(ParseError { line: 2, why: NOT_UTF8 }));
    }

    #[test]
    fn no_error_shows_a_value() {
        let error = parse(b"A=1\nhunter2-name hunter2=x").unwrap_err();
        assert!(!format!("{error} {error:?} {}", error.why.hint).contains("hunter2"));
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(file in proptest::collection::vec(proptest::sample::select(b"A=\n\r'\"\\`$({#; \tx\xC3\xA4".to_vec()), 0..60)) {
            let _ = parse(&file);
        }
    }
}
