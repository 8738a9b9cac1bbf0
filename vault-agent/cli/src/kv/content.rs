//! The content of a secret as text: read from `.env`, JSON or YAML, and rendered for programs. What
//! SOPS has encrypted is recognised and refused. Where the text comes from, and where it goes,
//! lives elsewhere. Errors name lines and keys, never values.

use std::path::Path;

use serde_json::{Map, Value, json};
use serde_yaml_ng::Value as Yaml;
use shared::path::SecretPath;
use shared::plaintext::Plaintext;
use zeroize::Zeroizing;

use super::Route;
use super::object::{NotObject, object};
use crate::context::Global;
use host::hint::Failure;
use machine::binary;
use machine::render::{self, Backslashes, Field, Format, ParseError, Rules};

/// The way out where a name is there twice.
const ONE_OF_TWO: &str = "remove one of the two: readers disagree on which of them counts";

/// What a text is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// `NAME=VALUE` lines.
    Env,
    /// A JSON object.
    Json,
    /// A YAML map.
    Yaml,
}

/// Tells what a text is written in, by the file's name, else by its first line.
pub fn dialect(file: &Path, bytes: &[u8]) -> Dialect {
    match file.extension().and_then(|ext| ext.to_str()) {
        Some("json") => return Dialect::Json,
        Some("yaml" | "yml") => return Dialect::Yaml,
        Some("env") => return Dialect::Env,
        Some(_) | None => {}
    }
    let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes));
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
    let key = first.split_once(':').filter(|(key, rest)| {
        !key.contains('=') && (rest.is_empty() || rest.starts_with([' ', '\t']))
    });
    if first.starts_with(['{', '[']) {
        Dialect::Json
    } else if first == "---" || key.is_some() {
        Dialect::Yaml
    } else {
        Dialect::Env
    }
}

/// Reads a text; `backslashes` are those in double quotes of a `.env`.
pub fn read(
    dialect: Dialect,
    bytes: &[u8],
    backslashes: Backslashes,
) -> Result<Map<String, Value>, Failure> {
    let fields = match dialect {
        Dialect::Env => env(bytes, backslashes)?,
        Dialect::Json => json(render::utf8(bytes).map_err(refused)?)?,
        Dialect::Yaml => yaml(render::utf8(bytes).map_err(refused)?)?,
    };
    if is_encrypted(&fields) {
        return Err(Failure::local("SOPS has encrypted this")
            .hint("decrypt it on the way in: `sops -d FILE | vault import PATH -`"));
    }
    Ok(fields)
}

#[expect(clippy::needless_pass_by_value, reason = "it is a function for `map_err`")]
fn refused(error: ParseError) -> Failure {
    Failure::local(error.to_string()).hint(error.why.hint)
}

fn env(bytes: &[u8], backslashes: Backslashes) -> Result<Map<String, Value>, Failure> {
    let variables = render::parse_with(bytes, backslashes).map_err(refused)?;
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    Ok(variables.into_iter().map(|v| (v.name, text(v.value.expose()).into())).collect())
}

fn json(text: &str) -> Result<Map<String, Value>, Failure> {
    object(text.as_bytes()).map_err(|why| match why {
        NotObject::Json { line, .. } => Failure::local(format!("line {line}: not a JSON object"))
            .hint("check it with `python3 -m json.tool`"),
        NotObject::Twice { line, name } => {
            Failure::local(format!("line {line}: `{name}` is there twice")).hint(ONE_OF_TWO)
        }
    })
}

/// What makes the tags of YAML's own types, `!!binary`, be told: its reader drops them otherwise.
const TAGS: &str = "%TAG !! !core-\n";

fn yaml(text: &str) -> Result<Map<String, Value>, Failure> {
    let is_content = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    let starts = text.lines().find(is_content).unwrap_or_default();
    let own_start = starts.starts_with("---") || starts.starts_with('%');
    let (start, above) = if own_start { ("", 1) } else { ("---\n", 2) };
    let told = Zeroizing::new([TAGS, start, text].concat());
    let document: Yaml = serde_yaml_ng::from_str(&told).map_err(|why| {
        let line = why.location().map_or(1, |place| place.line().saturating_sub(above).max(1));
        let said = why.to_string();
        let twice = said.split_once("duplicate entry with key \"").map(|(_, rest)| rest);
        match twice.and_then(|rest| rest.split_once('"')) {
            Some((name, _)) => Failure::local(format!("`{name}` is there twice")).hint(ONE_OF_TWO),
            None => Failure::local(format!("line {line}: not YAML"))
                .hint("give one document, indented with spaces, long numbers in quotes"),
        }
    })?;
    match yaml_value(&document, "", text)? {
        Value::Object(fields) => Ok(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Failure::local("line 1: not a YAML map").hint("give `key: value` lines"))
        }
    }
}

fn yaml_value(value: &Yaml, key: &str, text: &str) -> Result<Value, Failure> {
    let whose = if key.is_empty() { "the file".to_owned() } else { format!("`{key}`") };
    let fault = |why: &str, hint: &str| Err(Failure::local(format!("{whose} {why}")).hint(hint));
    Ok(match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(flag) => (*flag).into(),
        Yaml::String(text) => text.clone().into(),
        Yaml::Number(number) => {
            if let Some(number) = number.as_u64() {
                number.into()
            } else if let Some(number) = number.as_i64() {
                number.into()
            } else {
                // What would come back in other digits is not taken in.
                let shown = number.to_string();
                let written = text.split(|c: char| c.is_whitespace() || ",[]{}:".contains(c));
                let exact = written.into_iter().any(|word| word == shown);
                match serde_json::from_str(&shown) {
                    Ok(value) if exact => value,
                    Ok(_) | Err(_) => {
                        return fault("is a number that YAML's readers round", "put it in quotes");
                    }
                }
            }
        }
        Yaml::Sequence(items) => {
            let items = items.iter().map(|item| yaml_value(item, key, text));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        Yaml::Mapping(fields) => {
            let mut all = Map::new();
            for (name, value) in fields {
                let Some(name) = name.as_str() else {
                    return fault("has a key that is no text", "put every key in quotes");
                };
                if name == "<<" {
                    let hint = "write the keys out: `yq 'explode(.)' FILE` prints the file so";
                    return fault("has keys of another map, by `<<`", hint);
                }
                let below = if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
                all.insert(name.to_owned(), yaml_value(value, &below, text)?);
            }
            Value::Object(all)
        }
        Yaml::Tagged(tagged) => match (tagged.tag.to_string().as_str(), &tagged.value) {
            ("!core-binary", Yaml::String(text)) => {
                let digits: String = text.split_whitespace().collect();
                let bytes = json!({ (binary::MARK): digits });
                if binary::of(&bytes).is_none() {
                    return fault("is marked !!binary, and is not base64", "make it with `base64`");
                }
                bytes
            }
            ("!core-str", value @ Yaml::String(_))
            | ("!core-int" | "!core-float", value @ Yaml::Number(_))
            | ("!core-bool", value @ Yaml::Bool(_))
            | ("!core-null", value @ Yaml::Null)
            | ("!core-seq", value @ Yaml::Sequence(_))
            | ("!core-map", value @ Yaml::Mapping(_)) => yaml_value(value, key, text)?,
            _ => return fault("has a tag", "write the value out, a text in quotes"),
        },
    })
}

/// Returns a secret as what is rendered.
pub fn fields(
    route: &Route,
    content: &Map<String, Value>,
) -> anyhow::Result<(SecretPath, Vec<Field>)> {
    let content = Zeroizing::new(serde_json::to_vec(content)?);
    Ok((route.logical().parse()?, render::fields(&content)?))
}

/// Renders secrets, and says what their owner should know.
pub fn rendered(
    global: &Global,
    format: Format,
    secrets: &[(SecretPath, Vec<Field>)],
    rules: &Rules<'_>,
) -> Result<Plaintext, Failure> {
    let rendered = render::render(format, secrets, rules).map_err(|refused| {
        let hint = refused.faults.first().map_or("", |fault| fault.why.hint);
        Failure::local(format!("the secrets {refused}")).hint(hint)
    })?;
    for warning in rendered.warnings {
        global.term.say(format!("warning: {warning}"));
    }
    Ok(rendered.content)
}

/// Tells whether SOPS wrote this: its own block, or values in its brackets.
fn is_encrypted(fields: &Map<String, Value>) -> bool {
    let block = fields.get("sops").and_then(Value::as_object);
    let block = block.is_some_and(|sops| sops.contains_key("mac") || sops.contains_key("version"));
    block || fields.contains_key("sops_mac") || fields.values().any(is_bracketed)
}

fn is_bracketed(value: &Value) -> bool {
    match value {
        Value::String(text) => text.starts_with("ENC[AES256_GCM,data:"),
        Value::Array(items) => items.iter().any(is_bracketed),
        Value::Object(fields) => fields.values().any(is_bracketed),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dialect: Dialect, text: &str, expected: &str) {
        let got = match read(dialect, text.as_bytes(), Backslashes::Refuse) {
            Ok(fields) => Value::Object(fields).to_string(),
            Err(fault) => fault.text.to_string(),
        };
        assert_eq!(got, expected, "{text:?}");
    }

    #[test]
    fn yaml_is_read_exactly() {
        let check = |text, expected| check(Dialect::Yaml, text, expected);
        check(
            "a: x\nb: 1\nc: [true, null, 0.5]\nd: {e: -7}\n",
            r#"{"a":"x","b":1,"c":[true,null,0.5],"d":{"e":-7}}"#,
        );
        check("a: NO\nb: 0123\nc: |\n  x\n  y\n", r#"{"a":"NO","b":"0123","c":"x\ny\n"}"#);
        check("a: 18446744073709551615", r#"{"a":18446744073709551615}"#);
        check("v: 1.10", "`v` is a number that YAML's readers round");
        check("x: {n: 123456789012345678901234567890}", "line 1: not YAML");
        check("a: b\n  c: d: e\n", "line 2: not YAML");
        check("- a\n", "line 1: not a YAML map");
        check("1: a\n", "the file has a key that is no text");
        check("b: &b {x: 1}\n<<: *b\n", "the file has keys of another map, by `<<`");
        check("a: !secret b\n", "`a` has a tag");
        check("a: 1\na: 2\n", "`a` is there twice");
        check("x: {a: 1, a: 2}", "`a` is there twice");
        check("b: &b {x: 1}\na:\n  <<: *b\n", "`a` has keys of another map, by `<<`");
        check("---\na: 1\n", r#"{"a":1}"#);
        check("# c\n%YAML 1.1\n---\na: '!!binary x'\n", r#"{"a":"!!binary x"}"#);
    }

    #[test]
    fn tags_of_yaml_count_where_the_value_fits() {
        let check = |text, expected| check(Dialect::Yaml, text, expected);
        check("a: !!binary \"/wAK\"\n", r#"{"a":{"$base64":"/wAK"}}"#);
        check("a: !!binary |\n  /w\n  AK\n", r#"{"a":{"$base64":"/wAK"}}"#);
        check("a: !!binary x?\n", "`a` is marked !!binary, and is not base64");
        check("a: !!str x\nb: !!int 5\nc: !!map {d: !!null }", r#"{"a":"x","b":5,"c":{"d":null}}"#);
        check("a: !!str 5\n", "`a` has a tag");
        check("a: !!set {x}\n", "`a` has a tag");
    }

    #[test]
    fn bytes_come_back_from_every_format_that_holds_them() {
        let value = json!({"a": {"$base64": "/wAK"}, "b": "x\n", "c": {"d": {"$base64": "AA=="}}});
        let fields = render::fields(value.to_string().as_bytes()).unwrap();
        let secrets = [("secret/a".parse().unwrap(), fields)];
        for (format, dialect) in [(Format::Yaml, Dialect::Yaml), (Format::Json, Dialect::Json)] {
            let text = render::render(format, &secrets, &Rules::default()).unwrap().content;
            let read = read(dialect, text.expose(), Backslashes::Refuse).map_err(|why| why.text);
            assert_eq!(read.map(Value::Object), Ok(value.clone()), "{format}");
        }
    }

    #[test]
    fn files_of_another_encoding_are_named() {
        for dialect in [Dialect::Env, Dialect::Json, Dialect::Yaml] {
            let failed = |bytes: &[u8]| read(dialect, bytes, Backslashes::Refuse).unwrap_err();
            let hint = failed(b"\xFF\xFEA\0=\x001\0").hint.unwrap();
            assert!(hint.contains("iconv -f UTF-16 "), "{hint}");
            let fault = failed(b"a: 1\nb: \xE4\n");
            assert!(fault.text.starts_with("line 2: not UTF-8"), "{}", fault.text);
        }
    }

    #[test]
    fn what_sops_encrypted_is_refused() {
        let sops = "SOPS has encrypted this";
        check(Dialect::Json, r#"{"a":"ENC[AES256_GCM,data:x,type:str]","sops":{"mac":"m"}}"#, sops);
        check(Dialect::Yaml, "a: {b: ['ENC[AES256_GCM,data:x]']}\n", sops);
        check(Dialect::Env, "A=1\nsops_mac=x\n", sops);
        check(Dialect::Json, r#"{"sops":"a word"}"#, r#"{"sops":"a word"}"#);
        check(Dialect::Json, "{\"a\":1,\n\"a\":2}", "line 2: `a` is there twice");
    }

    #[test]
    fn dialects_are_told_apart() {
        for (file, text, expected) in [
            ("x.json", "A=1", Dialect::Json),
            ("x.yml", "A=1", Dialect::Yaml),
            ("-", " {\"a\":1}", Dialect::Json),
            ("-", "# c\n\na: 1", Dialect::Yaml),
            ("-", "---\n", Dialect::Yaml),
            ("-", "a:\n  b: 1", Dialect::Yaml),
            ("-", "A=http://x: y", Dialect::Env),
            (".env.master", "export A=1", Dialect::Env),
            ("-", "", Dialect::Env),
        ] {
            assert_eq!(dialect(Path::new(file), text.as_bytes()), expected, "{text:?}");
        }
    }
}
