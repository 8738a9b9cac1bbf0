//! The data arguments of `put` and `patch`: HashiCorp's forms, plus a bare key that asks for its
//! value.
//!
//! `k=v` · `k=@file` · `k=-` (stdin) · `k=\@text` (an `@` that is meant) · `@file.json` · `-` (JSON
//! on stdin) · `k` (asked for with echo off, or a line of stdin) · the same key again makes a list.
//! The final line end of a file or of stdin that is one line is left out, since it is the usual
//! reason for a key that does not work; a notice says so. Anything longer is kept byte for byte,
//! and what is no text as base64 under a mark (`binary`).

use std::io;

use serde_json::{Map, Value, json};
use shared::limits;
use zeroize::Zeroizing;

use crate::context::Global;
use host::hint::Failure;
use machine::binary;

/// Builds the content from arguments; with `keep_newline` files and stdin are taken as they are.
pub(crate) fn parse(
    global: &Global,
    args: &[String],
    keep_newline: bool,
) -> Result<Map<String, Value>, Failure> {
    let mut builder = Builder { global, fields: Map::new(), stdin_taken: false, keep_newline };
    for arg in args {
        builder.add(arg).map_err(|why| {
            // Of a pair only what names the source is shown: the rest may be the secret.
            let shown = match arg.split_once('=') {
                Some((key, value)) if value != "-" && !value.starts_with('@') => key,
                Some(_) | None => arg,
            };
            Failure::local(format!(
                "Failed to parse K=V data: invalid key/value pair {shown:?}: {why}"
            ))
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
    keep_newline: bool,
}

impl Builder<'_> {
    fn add(&mut self, arg: &str) -> Result<(), String> {
        match (arg.split_once('='), arg.strip_prefix('@')) {
            (Some((key, value)), _) => {
                let value = self.value(key, value)?;
                self.set(key, value);
                Ok(())
            }
            (None, Some(file)) => self.merge(&read(file)?),
            (None, None) if arg.is_empty() => Ok(()),
            (None, None) if arg == "-" => {
                let text = self.stdin()?;
                self.merge(&text)
            }
            (None, None) => {
                let value = self.ask(arg)?;
                self.set(arg, value.into());
                Ok(())
            }
        }
    }

    fn value(&mut self, key: &str, value: &str) -> Result<Value, String> {
        if value == "-" {
            let bytes = self.stdin()?;
            Ok(self.content(key, &bytes, "standard input"))
        } else if let Some(file) = value.strip_prefix('@') {
            let bytes = read(file).map_err(|why| format!("error reading file: {why}"))?;
            Ok(self.content(key, &bytes, &format!("`{file}`")))
        } else if value.starts_with("\\@") {
            Ok(value[1..].into())
        } else {
            Ok(value.into())
        }
    }

    /// Takes what was read as text if it is text that fits, else as bytes.
    fn content(&self, key: &str, bytes: &[u8], source: &str) -> Value {
        let Some(text) = std::str::from_utf8(bytes)
            .ok()
            .filter(|text| fits(text) || text.len() > limits::CONTENT)
        else {
            return json!({ (binary::MARK): *binary::base64(bytes) });
        };
        if self.keep_newline {
            return text.into();
        }
        let line = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
        let Some(line) = line.filter(|line| !line.contains('\n')) else { return text.into() };
        self.global.term.say(format!(
            "`{key}`: the final line end of {source} was left out; -keep-newline keeps it"
        ));
        line.into()
    }

    fn stdin(&mut self) -> Result<Zeroizing<Vec<u8>>, String> {
        if std::mem::replace(&mut self.stdin_taken, true) {
            return Err("stdin already consumed".to_owned());
        }
        self.global.term.read_all().map(Zeroizing::new).map_err(|why| why.to_string())
    }

    fn ask(&self, key: &str) -> Result<String, String> {
        if self.global.can_ask() {
            return rpassword::prompt_password(format!("{key}: ")).map_err(|why| why.to_string());
        }
        if self.stdin_taken {
            return Err("stdin already consumed".to_owned());
        }
        match self.global.term.read_line() {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err("no value: give KEY=VALUE, or a line on standard input".to_owned()),
            Err(why) => Err(why.to_string()),
        }
    }

    /// Takes the fields of a JSON object; they replace what came before.
    fn merge(&mut self, json: &[u8]) -> Result<(), String> {
        let fields: Map<String, Value> = serde_json::from_slice(json).map_err(|why| {
            format!("not a JSON object (line {}, column {})", why.line(), why.column())
        })?;
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

fn read(file: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    std::fs::read(file).map(Zeroizing::new).map_err(|why| {
        let why = match why.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => why.to_string(),
        };
        format!("open {file}: {why}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    fn check(args: &[&str], stdin: &str, expected: &str, said: &str) {
        let world = World::new(stdin);
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        let got = match parse(&world.global(), &args, false) {
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
            &["a=@/nope"],
            "",
            r#"Failed to parse K=V data: invalid key/value pair "a=@/nope": error reading file: open /nope: no such file or directory"#,
            "",
        );
        check(
            &["@/nope"],
            "",
            r#"Failed to parse K=V data: invalid key/value pair "@/nope": open /nope: no such file or directory"#,
            "",
        );
    }
}
