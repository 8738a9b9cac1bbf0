//! The text of a master file beside the fields of its secret: what both can hold, and a change of
//! one made in the other, with everything else left as it is. Pure.

use std::collections::{BTreeMap, HashSet};

use shared::hash::Hash;
use shared::plaintext::Plaintext;
use zeroize::Zeroizing;

use machine::binary;
use machine::render::{Field, Text, Value, Variable, is_name, parse};

/// Names and values that both a file and its secret can hold.
pub(super) type View = BTreeMap<String, Plaintext>;

/// Returns what a file holds.
pub(super) fn of_file(variables: &[Variable]) -> View {
    variables.iter().map(|variable| (variable.name.clone(), variable.value.clone())).collect()
}

/// Returns what of a secret a file can hold: texts, numbers and truths under the names of
/// variables. No reader agrees with another on a carriage return.
pub(super) fn of_secret(fields: &[Field]) -> View {
    let held = fields.iter().filter(|field| is_held(field));
    held.filter_map(|field| Some((field.name.clone(), field.value.text()?.as_bytes().into())))
        .collect()
}

fn is_held(field: &Field) -> bool {
    let fits = |text: &str| !text.contains(['\0', '\r']);
    is_name(&field.name) && field.value.text().is_some_and(fits)
}

/// Hashes a view, with a salt so that the hash tells nobody else what it is of.
pub(super) fn digest(salt: &Hash, view: &View) -> Hash {
    let lengths: Vec<[[u8; 8]; 2]> = view
        .iter()
        .map(|(name, value)| [name.len(), value.len()].map(|length| (length as u64).to_be_bytes()))
        .collect();
    let mut parts: Vec<&[u8]> = vec![salt.as_bytes()];
    for ((name, value), [first, second]) in view.iter().zip(&lengths) {
        parts.extend([&first[..], name.as_bytes(), &second[..], value.expose()]);
    }
    Hash::of(&parts)
}

/// Returns the JSON object to publish: the file's variables in their order, numbers and truths that
/// have not changed as they were, and the fields that no file can hold.
pub(super) fn content(variables: &[Variable], current: &[Field]) -> Plaintext {
    let mut out = Text::default();
    out.push("{");
    let mut separator = "";
    let mut member = |name: &str, value: &Value| {
        out.push(separator);
        separator = ",";
        json_string(name, &mut out);
        out.push(":");
        match value {
            Value::Text(text) => json_string(utf8(text), &mut out),
            Value::Scalar(json) | Value::Structure(json) => out.push(utf8(json)),
            Value::Bytes(bytes) => out.push(&binary::json(bytes.expose())),
        }
    };
    for Variable { name, value, .. } in variables {
        let before = current.iter().find(|field| field.name == *name).map(|field| &field.value);
        match before.filter(|before| before.text() == Some(utf8(value))) {
            Some(before) => member(name, before),
            None => member(name, &Value::Text(value.clone())),
        }
    }
    for field in current.iter().filter(|field| !is_held(field)) {
        member(&field.name, &field.value);
    }
    out.push("}");
    out.finish()
}

/// Changes the text of a file to hold `fields`, and nothing else in it: changed values in their
/// places, new names at the end, removed ones with their lines; `None` if what comes out does not
/// read back.
pub(super) fn merged(file: &[u8], variables: &[Variable], fields: &[Field]) -> Option<Plaintext> {
    let text = std::str::from_utf8(file).ok()?;
    let wanted = of_secret(fields);
    let mut out = Text::default();
    let mut copied = 0;
    for variable in variables {
        match wanted.get(&variable.name) {
            Some(value) if *value == variable.value => {}
            Some(value) => {
                out.push(&text[copied..variable.written.start]);
                let before = text[variable.written.clone()].chars().next();
                quoted(utf8(value), before, &mut out);
                copied = variable.written.end;
            }
            None => {
                out.push(&text[copied..variable.entry.start]);
                copied = variable.entry.end;
            }
        }
    }
    out.push(&text[copied..]);
    let there: HashSet<&str> = variables.iter().map(|variable| variable.name.as_str()).collect();
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let export =
        variables.last().is_some_and(|last| text[last.entry.clone()].starts_with("export "));
    let mut whole = file.is_empty() || file.ends_with(b"\n");
    for field in fields {
        let Some(value) = wanted.get(&field.name).filter(|_| !there.contains(&*field.name)) else {
            continue;
        };
        if !std::mem::replace(&mut whole, true) {
            out.push(end);
        }
        out.push(if export { "export " } else { "" });
        out.push(&field.name);
        out.push("=");
        quoted(utf8(value), None, &mut out);
        out.push(end);
    }
    let merged = out.finish();
    let reads_back = parse(merged.expose()).is_ok_and(|read| of_file(&read) == wanted);
    reads_back.then_some(merged)
}

/// Writes a value as it was written before if that can hold it, or in the plainest way that can.
fn quoted(value: &str, before: Option<char>, out: &mut Text) {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./:@%+,=-".contains(&b);
    let bare = value.bytes().all(plain) && !value.starts_with('=');
    let single = !value.contains('\'');
    let double = !value.contains(['"', '\\', '$', '`']);
    match before {
        Some('"') if double => ["\"", value, "\""].into_iter().for_each(|piece| out.push(piece)),
        _ if bare && !matches!(before, Some('\'' | '"')) => out.push(value),
        _ if single => ["'", value, "'"].into_iter().for_each(|piece| out.push(piece)),
        _ => escaped(value, out),
    }
}

/// Writes a value that holds a single quote in double quotes, with the escapes that shells undo
/// too; Node has no form for it at all.
fn escaped(value: &str, out: &mut Text) {
    out.push("\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            out.push("\\");
        }
        out.push_char(c);
    }
    out.push("\"");
}

fn json_string(text: &str, out: &mut Text) {
    // A string always serializes.
    let json = Zeroizing::new(serde_json::to_string(text).unwrap_or_default());
    out.push(&json);
}

fn utf8(bytes: &Plaintext) -> &str {
    std::str::from_utf8(bytes.expose()).expect("values come out of JSON strings and UTF-8 files")
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::render::fields;

    fn merge(file: &str, json: &str) -> String {
        let variables = parse(file.as_bytes()).unwrap();
        let fields = fields(json.as_bytes()).unwrap();
        let merged = merged(file.as_bytes(), &variables, &fields).expect("reads back");
        String::from_utf8(merged.expose().to_vec()).unwrap()
    }

    const FILE: &str = "# Keys of the lab\n\nOPENAI=sk-1   # Jonas'\nexport STRIPE='a b'\n\n# gone soon\nOLD=x\nTEXT=\"one\"\n";

    #[test]
    fn a_change_made_elsewhere_touches_its_own_line_only() {
        let same = r#"{"OPENAI":"sk-1","STRIPE":"a b","OLD":"x","TEXT":"one"}"#;
        assert_eq!(merge(FILE, same), FILE);
        let changed = r#"{"OPENAI":"sk-2","STRIPE":"c d","TEXT":"tw$o","NEW":"it's","N":5}"#;
        assert_eq!(
            merge(FILE, changed),
            "# Keys of the lab\n\nOPENAI=sk-2   # Jonas'\nexport STRIPE='c d'\n\n# gone soon\nTEXT='tw$o'\nNEW=\"it's\"\nN=5\n"
        );
    }

    #[test]
    fn line_ends_and_quotes_stay_what_they_are() {
        assert_eq!(
            merge("\u{FEFF}A=1\r\nB=2", r#"{"A":"x y","B":"2","C":"3"}"#),
            "\u{FEFF}A='x y'\r\nB=2\r\nC=3\r\n"
        );
        assert_eq!(merge("A=\nB= # c\n", r#"{"A":"1","B":"2"}"#), "A=1\nB=2 # c\n");
        assert_eq!(merge("A='x'\n", r#"{"A":"it's"}"#), "A=\"it's\"\n");
        assert_eq!(merge("A='x'\n", r#"{"A":"y"}"#), "A='y'\n");
        assert_eq!(merge("A=\"x\"\n", r#"{"A":"it's\n"}"#), "A=\"it's\n\"\n");
        assert_eq!(merge("A=\"x\"\n", r#"{"A":"C:\\temp"}"#), "A='C:\\temp'\n");
        assert_eq!(merge("A=1\n", r#"{"A":"one\ntwo"}"#), "A='one\ntwo'\n");
        assert_eq!(merge("A='one\ntwo'\nB=1\n", r#"{"B":"1"}"#), "B=1\n");
        assert_eq!(merge("export A=1\n", r#"{"A":"1","B":"2"}"#), "export A=1\nexport B=2\n");
    }

    #[test]
    fn what_a_file_cannot_hold_stays_in_the_vault() {
        let json = r#"{"A":"1","N":1.50,"a-b":"x","L":[1,{"k":"v"}],"NUL":"\u0000","CR":"a\rb"}"#;
        assert_eq!(merge("A=1\n", json), "A=1\nN=1.50\n");
        let current = fields(json.as_bytes()).unwrap();
        let edited = parse(b"N=1.50\nA=2\nB='\"'\n").unwrap();
        let content = content(&edited, &current);
        assert_eq!(
            std::str::from_utf8(content.expose()).unwrap(),
            r#"{"N":1.50,"A":"2","B":"\"","a-b":"x","L":[1,{"k":"v"}],"NUL":"\u0000","CR":"a\rb"}"#
        );
        let read = fields(content.expose()).unwrap();
        assert_eq!(of_secret(&read), of_file(&edited));
    }

    #[test]
    fn a_digest_tells_contents_apart() {
        let digest = |file: &str| digest(&Hash::ZERO, &of_file(&parse(file.as_bytes()).unwrap()));
        assert_eq!(digest("A=1\nB=2\n"), digest("# c\nB='2'\nA=1 # d\n"));
        for other in ["", "A=1\n", "A=1\nB=3\n", "A=1\nB=2\nC=\n", "A=1B\n2=", "AB=12\n"] {
            if let Ok(read) = parse(other.as_bytes()) {
                let other = super::digest(&Hash::ZERO, &of_file(&read));
                assert_ne!(digest("A=1\nB=2\n"), other);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn every_value_reads_back(
            values in proptest::collection::vec(
                proptest::collection::vec(proptest::sample::select("aZ0AB '\"\\$`#=;({~\n\tä€".chars().collect::<Vec<_>>()), 0..12),
                4,
            ),
            file in proptest::sample::select(vec!["", "A=1", "A='1'\r\nB=\"2\" # c\r\n", "C= # c\nexport D=`x`\n"]),
        ) {
            let variables = parse(file.as_bytes()).unwrap();
            let fields: Vec<Field> = ["A", "B", "C", "D"].iter().zip(&values).map(|(name, value)| Field {
                name: (*name).to_owned(),
                value: Value::Text(value.iter().collect::<String>().as_bytes().into()),
            }).collect();
            let merged = merged(file.as_bytes(), &variables, &fields);
            proptest::prop_assert!(merged.is_some());
        }
    }
}
