//! The data arguments of `put` and `patch`: HashiCorp's forms, plus a bare key that asks for its
//! value.
//!
//! `k=v` · `k=@file` · `k=-` (stdin) · `k=\@text` (an `@` that is meant) · `@file.json` · `-` (JSON
//! on stdin) · `k` (asked for with echo off, or a line of stdin) · the same key again makes a list.
//! An empty value that was read is refused unless it is meant: most often a command before the pipe
//! has failed. The final line end of a file or of stdin that is one line is left out, since it is
//! the usual reason for a key that does not work; a notice says so. Anything longer is kept byte
//! for byte, and what is no text as base64 under a mark (`binary`).

use std::io;

use serde_json::{Map, Value, json};
use shared::limits;
use zeroize::Zeroizing;

use super::object::object;
use crate::context::Global;
use host::hint::Failure;
use machine::binary;

/// How values are taken that are not on the command line.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Reading {
    /// Keep the final line end of a file or of standard input
    #[arg(long)]
    keep_newline: bool,
    /// Take an empty value from a file or from standard input
    #[arg(long)]
    allow_empty: bool,
}

/// Builds the content from arguments.
pub(crate) fn parse(
    global: &Global,
    args: &[String],
    reading: Reading,
) -> Result<Map<String, Value>, Failure> {
    let mut builder = Builder { global, fields: Map::new(), stdin_taken: false, reading };
    for arg in args {
        builder.add(arg).map_err(|fault| {
            // Of a pair only what cannot be the secret is shown: `@` may have been meant.
            let shown = match arg.split_once('=') {
                Some((_, "-")) | None => arg,
                Some((key, _)) => key,
            };
            let why = fault.text;
            let text = format!("Failed to parse K=V data: invalid key/value pair {shown:?}: {why}");
            Failure { text: text.into(), ..fault }
        })?;
    }
    Ok(builder.fields)
}

/// Reads KEY=VALUE, the value as it stands.
pub(crate) fn pair(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.into()))
}

/// Leaves out what was not given: nothing, and empty lists.
pub(crate) fn given(mut body: Value) -> Value {
    if let Value::Object(fields) = &mut body {
        fields.retain(|_, value| !value.is_null() && *value != json!([]));
    }
    body
}

struct Builder<'a> {
    global: &'a Global,
    fields: Map<String, Value>,
    stdin_taken: bool,
    reading: Reading,
}

impl Builder<'_> {
    fn add(&mut self, arg: &str) -> Result<(), Failure> {
        match (arg.split_once('='), arg.strip_prefix('@')) {
            (Some((key, value)), _) => {
                let value = self.value(key, value)?;
                self.set(key, value);
                Ok(())
            }
            (None, Some(file)) => {
                let text = read(file);
                self.merge(&text.map_err(|why| Failure::local(format!("open {file}: {why}")))?)
            }
            (None, None) if arg.is_empty() => Ok(()),
            (None, None) if arg == "-" => {
                let text = self.stdin()?;
                self.merge(&text)
            }
            (None, None) => {
                let value = self.ask(arg)?;
                if value.is_empty() {
                    let fault = Failure::local("the value is empty");
                    return Err(fault.hint(format!("`{arg}=` writes an empty value")));
                }
                self.set(arg, value.into());
                Ok(())
            }
        }
    }

    fn value(&mut self, key: &str, value: &str) -> Result<Value, Failure> {
        if value == "-" {
            let bytes = self.stdin()?;
            self.content(key, &bytes, "standard input")
        } else if let Some(file) = value.strip_prefix('@') {
            let bytes = read(file).map_err(|why| {
                Failure::local(format!("error reading the file behind `@`: {why}")).hint(format!(
                    "a value that starts with `@` is written `{key}=\\@…`; better, write `{key}` \
                     alone, and it is asked for"
                ))
            })?;
            self.content(key, &bytes, &format!("`{file}`"))
        } else if value.starts_with("\\@") {
            Ok(value[1..].into())
        } else {
            Ok(value.into())
        }
    }

    /// Takes what was read as text if it is text that fits, else as bytes.
    fn content(&self, key: &str, bytes: &[u8], source: &str) -> Result<Value, Failure> {
        let Some(text) = std::str::from_utf8(bytes)
            .ok()
            .filter(|text| fits(text) || text.len() > limits::CONTENT)
        else {
            return Ok(json!({ (binary::MARK): *binary::base64(bytes) }));
        };
        if text.trim_end_matches(['\r', '\n']).is_empty() && !self.reading.allow_empty {
            let fault = Failure::local(format!("{source} is empty"));
            return Err(fault.hint("look at what was to fill it; -allow-empty writes it as it is"));
        }
        if self.reading.keep_newline {
            return Ok(text.into());
        }
        let line = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
        let Some(line) = line.filter(|line| !line.contains('\n')) else { return Ok(text.into()) };
        self.global.term.say(format!(
            "`{key}`: the final line end of {source} was left out; -keep-newline keeps it"
        ));
        Ok(line.into())
    }

    fn stdin(&mut self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        if std::mem::replace(&mut self.stdin_taken, true) {
            return Err(Failure::local("stdin already consumed"));
        }
        self.global.term.read_all().map(Zeroizing::new).map_err(unread)
    }

    fn ask(&self, key: &str) -> Result<String, Failure> {
        if self.global.can_ask() {
            return rpassword::prompt_password(format!("{key}: ")).map_err(unread);
        }
        if self.stdin_taken {
            return Err(Failure::local("stdin already consumed"));
        }
        self.global
            .term
            .read_line()
            .map_err(unread)?
            .ok_or_else(|| Failure::local("no value: give KEY=VALUE, or a line on standard input"))
    }

    /// Takes the fields of a JSON object; they replace what came before.
    fn merge(&mut self, json: &[u8]) -> Result<(), Failure> {
        let fields = object(json).map_err(|why| Failure::local(why.to_string()))?;
        self.fields.extend(fields);
        Ok(())
    }

    fn set(&mut self, key: &str, value: Value) {
        let value = match self.fields.remove(key) {
            None => value,
            Some(Value::Array(mut items)) => {
                items.push(value);
                Value::Array(items)
            }
            Some(first) => Value::Array(vec![first, value]),
        };
        self.fields.insert(key.to_owned(), value);
    }
}

/// Tells whether a text is within a secret's size when its line ends and quotes are escaped; bytes
/// take less room.
pub(crate) fn fits(text: &str) -> bool {
    let escapes = text.bytes().filter(|b| *b < 0x20 || matches!(b, b'"' | b'\\')).count();
    let longest = if text.bytes().all(|b| b >= 0x20 || b"\n\r\t".contains(&b)) { 1 } else { 5 };
    text.len() + longest * escapes + 64 < limits::CONTENT
}

#[expect(clippy::needless_pass_by_value, reason = "it is a function for `map_err`")]
fn unread(why: io::Error) -> Failure {
    Failure::local(why.to_string())
}

fn read(file: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    std::fs::read(file).map(Zeroizing::new).map_err(|why| match why.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => why.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    fn check(args: &[&str], stdin: &str, expected: &str, said: &str) {
        let world = World::new(stdin);
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        let got = match parse(&world.global(), &args, Reading::default()) {
            Ok(fields) => serde_json::to_string(&fields).unwrap(),
            Err(failure) => failure.text.to_string(),
        };
        assert_eq!((got.as_str(), world.err().as_str()), (expected, said), "{args:?}");
    }

    #[test]
    fn pairs_are_read_as_hashicorp_does() {
        check(&["a=1", "b=x=y", "c="], "", r#"{"a":"1","b":"x=y","c":""}"#, "");
        check(&["a=1", "a=2", "a=3"], "", r#"{"a":["1","2","3"]}"#, "");
        check(&[r"a=\@home", r"b=\x"], "", r#"{"a":"@home","b":"\\x"}"#, "");
        check(&["", "a=1"], "", r#"{"a":"1"}"#, "");
    }

    #[test]
    fn stdin_feeds_one_value_or_all() {
        let notice =
            "`a`: the final line end of standard input was left out; -keep-newline keeps it\n";
        check(&["a=-"], "x\n\n", "{\"a\":\"x\\n\\n\"}", "");
        check(&["a=-"], "x\n", r#"{"a":"x"}"#, notice);
        check(&["a=-"], "x\r\n", r#"{"a":"x"}"#, notice);
        check(&["a=-"], "x", r#"{"a":"x"}"#, "");
        check(
            &["b=1", "-"],
            r#"{"n":12345678901234567890,"b":{"c":[]}}"#,
            r#"{"b":{"c":[]},"n":12345678901234567890}"#,
            "",
        );
        check(
            &["a=-", "b=-"],
            "x",
            r#"Failed to parse K=V data: invalid key/value pair "b=-": stdin already consumed"#,
            "",
        );
        check(
            &["-"],
            "[1]",
            r#"Failed to parse K=V data: invalid key/value pair "-": not a JSON object (line 1, column 0)"#,
            "",
        );
    }

    #[test]
    fn texts_that_do_not_fit_escaped_are_bytes() {
        assert!(fits("x\n"));
        assert!(fits(&"x".repeat(limits::CONTENT - 100)));
        assert!(!fits(&"x".repeat(limits::CONTENT)));
        assert!(!fits(&"\n".repeat(limits::CONTENT / 2)));
        assert!(!fits(&"\u{1}".repeat(limits::CONTENT / 6)));
    }

    #[test]
    fn a_bare_key_takes_a_line() {
        check(&["a", "b"], "one\ntwo\n", r#"{"a":"one","b":"two"}"#, "");
        check(
            &["a"],
            "",
            r#"Failed to parse K=V data: invalid key/value pair "a": no value: give KEY=VALUE, or a line on standard input"#,
            "",
        );
    }

    #[test]
    fn files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = dir.path().join(name);
            io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), content).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (key, json) = (file("key", b"k\n"), file("all.json", br#"{"x":1}"#));
        let (binary, pem) = (file("bin", b"\xff"), file("pem", b"one\ntwo\n"));
        let notice =
            format!("`a`: the final line end of `{key}` was left out; -keep-newline keeps it\n");
        check(&[&format!("a=@{key}"), &format!("@{json}")], "", r#"{"a":"k","x":1}"#, &notice);
        check(&[&format!("a=@{binary}")], "", r#"{"a":{"$base64":"/w=="}}"#, "");
        check(&[&format!("a=@{pem}")], "", r#"{"a":"one\ntwo\n"}"#, "");
        check(
            &["@/nope"],
            "",
            r#"Failed to parse K=V data: invalid key/value pair "@/nope": open /nope: no such file or directory"#,
            "",
        );
    }

    fn refused(args: &[&str], stdin: &str) -> Failure {
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        parse(&World::new(stdin).global(), &args, Reading::default()).unwrap_err()
    }

    #[test]
    fn a_value_that_starts_with_an_at_sign_is_not_shown() {
        let failure = refused(&["password=@S3cret"], "");
        assert_eq!(
            &*failure.text,
            r#"Failed to parse K=V data: invalid key/value pair "password": error reading the file behind `@`: no such file or directory"#
        );
        assert_eq!(
            failure.hint.as_deref(),
            Some(
                "a value that starts with `@` is written `password=\\@…`; better, write `password` \
                 alone, and it is asked for"
            )
        );
        check(&["password"], "@S3cret\n", r#"{"password":"@S3cret"}"#, "");
    }

    #[test]
    fn an_empty_value_that_was_read_is_refused_unless_it_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty");
        std::fs::File::create(&empty).unwrap();
        let file = format!("a=@{}", empty.display());
        for (args, stdin) in
            [(&["a=-"][..], ""), (&["a=-"], "\n"), (&["a=-"], "\r\n\n"), (&[&file], "")]
        {
            let failure = refused(args, stdin);
            assert!(failure.text.ends_with(" is empty"), "{args:?}: {}", failure.text);
            assert!(failure.hint.unwrap().contains("-allow-empty"));
            let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
            let meant = Reading { allow_empty: true, keep_newline: false };
            let taken = parse(&World::new(stdin).global(), &args, meant).unwrap();
            assert_eq!(taken["a"].as_str().map(str::trim), Some(""));
        }
        assert_eq!(refused(&["a"], "\n").hint.as_deref(), Some("`a=` writes an empty value"));
        assert!(refused(&["-"], "").text.contains("not a JSON object"));
        check(&["-"], r#"{"a":""}"#, r#"{"a":""}"#, "");
        let twice = refused(&["-"], r#"{"a":"1","a":"2"}"#);
        assert!(twice.text.ends_with("`a` is there twice (line 1)"), "{}", twice.text);
    }
}
