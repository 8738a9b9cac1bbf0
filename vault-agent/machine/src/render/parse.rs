//! Reads `.env` files of any common dialect; where dialects disagree about a line, the line is
//! refused.
//!
//! Errors name the line and the reason, never a name or a value: a broken line may be the middle of
//! a secret.

use std::collections::HashMap;
use std::ops::Range;

use shared::plaintext::Plaintext;

use super::encoding;
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

/// What becomes of a backslash in double quotes before anything but `"`, `\`, `$` and a backtick:
/// of those it is meant to take the meaning, about all others readers differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backslashes {
    /// The line is refused.
    #[default]
    Refuse,
    /// `\n`, `\r` and `\t` are undone, as in what we write for Compose; other letters are refused.
    Undo,
    /// It stays, as in shells.
    Keep,
}

const WRITE_OUT: &str =
    "write out what it stands for; to keep it as it is, put the value in single quotes";

const CONFLICT: Why = Why::new(
    "a mark of git between two versions of the file",
    "keep one of the two, and delete the marks",
);
const HEADING: Why =
    Why::new("a heading in brackets, not `NAME=VALUE`", "delete it, or put `#` before it");
const COLON: Why = Why::new("`NAME: VALUE`, not `NAME=VALUE`", "write `=` in place of the colon");
const NO_VALUE: Why =
    Why::new("a name without a value", "give it one, `NAME=VALUE`, or delete the line");
const NO_EQUALS: Why = Why::new(
    "neither a comment nor `NAME=VALUE`",
    "put `#` before a comment, and quotes around a value of several lines",
);
const NO_NAME: Why =
    Why::new("no name stands before `=`", "write `NAME=VALUE`, or delete the line");
const WORDS: Why = Why::new(
    "more than one word stands before `=`",
    "put `#` before a comment, and quotes around a value of several lines",
);
const DIGIT: Why =
    Why::new("a variable name that starts with a digit", "start it with a letter or `_`");
const DASHES: Why =
    Why::new("a variable name with `-` or `.` in it", "write `_` in place of `-` and `.`");
const BAD_NAME: Why = Why::new(
    "what stands before `=` is not a variable name (letters, digits and `_`, not starting with a digit)",
    "rename the variable; if the line belongs to the value before it, put that in quotes",
);
const AFTER_QUOTE: Why = Why::new(
    "text follows the closing quote",
    "put the whole value in one pair of quotes; a space comes before the `#` of a comment",
);
const EXPANSION: Why =
    Why::new("`${…}` or `$(…)` outside single quotes, which some readers expand", WRITE_OUT);
const DOLLAR_QUOTE: Why = Why::new("`$'…'`, which only shells read", WRITE_OUT);
const ESCAPE: Why = Why::new(
    "`\\n`, `\\r` or `\\t` in double quotes, which shells and systemd keep, Node undoes if it is \
     `\\n`, and python-dotenv and Compose undo",
    "single quotes keep backslashes; write a line break as one, inside the quotes",
);
const OTHER_ESCAPE: Why = Why::new(
    "a backslash in double quotes that shells, systemd and Node keep, and python-dotenv, Ruby or \
     dotenvy take for part of an escape",
    "put the value in single quotes, in which a backslash is one",
);
const LEADING_HASH: Why = Why::new(
    "an unquoted value that starts with `#`, a comment for some readers",
    "put the value in single quotes; for an empty value, put a space before the `#`",
);
const TRAILING_BACKSLASH: Why = Why::new(
    "an unquoted value that ends in a backslash, a continued line for some readers",
    "put the value in single quotes; if it goes on below, write it on one line",
);
const CARRIAGE_RETURN: Why =
    Why::new("a carriage return inside the line", "delete it: `sed -n l FILE` shows it as \\r");
const OLD_MAC: Why = Why::new(
    "lines that end in a carriage return alone",
    "convert them: `tr '\\r' '\\n' < FILE > NEW`, and use NEW",
);

fn reference(line: usize) -> Why {
    let text = format!("`$` and the name that line {line} sets, which some readers expand").into();
    Why { text, hint: WRITE_OUT }
}

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
    parse_with(file, Backslashes::Refuse)
}

/// As [`parse`], where it is known what a backslash in double quotes means.
///
/// # Errors
/// Those of [`parse`].
pub fn parse_with(file: &[u8], backslashes: Backslashes) -> Result<Vec<Variable>, ParseError> {
    let text = utf8(file)?;
    if text.contains('\r') && !text.contains('\n') {
        return Err(ParseError { line: 1, why: OLD_MAC });
    }
    let mut seen = HashMap::new();
    let mut variables = Vec::new();
    let references = Vec::new();
    let mut cursor = Cursor { rest: text, line: 1, whole: file.len(), backslashes, references };
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
    // A name counts wherever in the file it is set: some readers look at all of it, or at what the
    // last start left in the environment.
    let set = cursor.references.iter().find_map(|(line, name)| Some((*line, *seen.get(name)?)));
    match set {
        Some((line, first)) => Err(ParseError { line, why: reference(first) }),
        None => Ok(variables),
    }
}

/// Returns the text of a file, without its byte order mark.
///
/// # Errors
/// Names the first line that is not UTF-8, with the encoding that was found, or holds a NUL.
pub fn utf8(file: &[u8]) -> Result<&str, ParseError> {
    encoding::text(file).map_err(|(at, why)| {
        let text = file.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(file);
        ParseError { line: lines_in(&text[..at]), why }
    })
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
    backslashes: Backslashes,
    /// Names behind a `$` outside single quotes, with their lines.
    references: Vec<(usize, &'a str)>,
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
        if ["<<<<<<<", "|||||||", "=======", ">>>>>>>"].iter().any(|mark| bare.starts_with(mark)) {
            return Err(CONFLICT);
        }
        let (head, _) = bare.split_once('=').ok_or_else(|| no_equals(bare.trim_end()))?;
        let name = head.trim_end_matches([' ', '\t']);
        let name = match name.strip_prefix("export") {
            Some(after) if after.starts_with([' ', '\t']) => after.trim_start_matches([' ', '\t']),
            _ => name,
        };
        if !is_name(name) {
            return Err(bad_name(name));
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
        self.refer(self.line - 1, value);
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
            self.refer(self.line, inner);
            self.push_lines(inner, value)?;
            let mut after = rest.chars();
            if after.next() == Some('"') {
                self.rest = after.as_str();
                return Ok(());
            }
            match (after.next().ok_or_else(|| unterminated('"'))?, self.backslashes) {
                (c @ ('"' | '\\' | '$' | '`'), _) => value.push_char(c),
                ('n' | 'r' | 't', Backslashes::Refuse) => return Err(ESCAPE),
                (_, Backslashes::Refuse) => return Err(OTHER_ESCAPE),
                ('n', Backslashes::Undo) => value.push("\n"),
                ('r', Backslashes::Undo) => value.push("\r"),
                ('t', Backslashes::Undo) => value.push("\t"),
                (c, Backslashes::Undo) if c.is_ascii_alphanumeric() || c.is_whitespace() => {
                    return Err(OTHER_ESCAPE);
                }
                (_, Backslashes::Undo | Backslashes::Keep) => {
                    // What stands behind it is read as if it were alone: it may end a line.
                    value.push("\\");
                    self.rest = &rest[1..];
                    continue;
                }
            }
            self.rest = after.as_str();
        }
    }

    /// Notes the names behind a `$` in a piece that starts on `line`.
    fn refer(&mut self, line: usize, piece: &'a str) {
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for (at, _) in piece.match_indices('$') {
            let behind = &piece[at + 1..];
            let name = &behind[..behind.find(|c| !part(c)).unwrap_or(behind.len())];
            if is_name(name) {
                self.references.push((line + lines_in(&piece.as_bytes()[..at]) - 1, name));
            }
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

/// Tells what is wrong with a line without `=`.
fn no_equals(line: &str) -> Why {
    let named = line.strip_prefix("export ").map(str::trim_start).unwrap_or(line);
    match line.split_once(':') {
        _ if line.starts_with('[') && line.ends_with(']') => HEADING,
        Some((name, after)) if is_name(name) && after.starts_with(' ') => COLON,
        _ if line.len() > named.len() && is_name(named) => NO_VALUE,
        _ => NO_EQUALS,
    }
}

/// Tells what is wrong with a name.
fn bad_name(name: &str) -> Why {
    let part = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    match name.chars().next() {
        None => NO_NAME,
        Some(_) if name.contains([' ', '\t']) => WORDS,
        Some(first) if first.is_ascii_digit() && is_name(&name[1..]) => DIGIT,
        Some(first) if first.is_ascii_alphabetic() && name.chars().all(part) => DASHES,
        Some(_) => BAD_NAME,
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
mod tests;
