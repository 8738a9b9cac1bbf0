//! Reads everything back, and compares with Go: `testdata/go-output.json` holds each input with the
//! output of `sigs.k8s.io/yaml` 1.4.0 (empty where it fails, or prints what does not read back),
//! `json.MarshalIndent` and `%v` of Go 1.26.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::super::{go, yaml::yaml};

fn cases() -> Vec<BTreeMap<String, String>> {
    serde_json::from_str(include_str!("../../../testdata/go-output.json")).unwrap()
}

fn read_back(value: &Value) -> Value {
    let text = yaml(value);
    serde_yaml_ng::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text:?}"))
}

/// Compares numbers as such, however many digits a writer gives them.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| is_same(a, b)))
        }
        _ => a == b,
    }
}

#[test]
fn json_and_values_are_gos_byte_for_byte() {
    for case in cases() {
        let value: Value = serde_json::from_str(&case["in"]).unwrap();
        assert_eq!(go::json(&value), case["json"]);
        assert_eq!(go::value(&value), case["v"]);
    }
}

#[test]
fn yaml_reads_back_as_it_was() {
    for case in cases() {
        let value: Value = serde_json::from_str(&case["in"]).unwrap();
        let back = read_back(&value);
        assert!(is_same(&value, &back), "{value}: {back}");
    }
}

/// Go reads YAML 1.1, in which `off` and `12:30:45` are no strings.
#[test]
fn what_go_quotes_is_never_bare() {
    let is_quoted = |text: &str| text.starts_with("k: \"") || text.starts_with("k: '");
    let mut quoted = 0;
    for case in cases().iter().filter(|case| is_quoted(&case["yaml"]) && case["in"].is_ascii()) {
        let ours = yaml(&serde_json::from_str(&case["in"]).unwrap());
        assert!(is_quoted(&ours) || ours.starts_with("k: |"), "{ours}");
        quoted += 1;
    }
    assert!(quoted > 50, "{quoted}");
}

#[test]
fn lines_stand_in_blocks_and_keys_in_order() {
    let token = "x".repeat(200);
    let value = serde_json::json!({
        "b": "one\ntwo\n", "a": [token, "a b ".repeat(30), {"off": 1.5, "n": -1}], "c": {}
    });
    insta::assert_snapshot!(yaml(&value).replace(&token, "xx…"));
}

proptest! {
    #[test]
    fn any_text_reads_back(
        text in any::<String>(),
        name in any::<String>(),
        lines in "[ \t\n\ra:#-]{0,8}",
    ) {
        let value = serde_json::json!({ name: [text, lines.clone()], "k": lines });
        prop_assert_eq!(read_back(&value), value);
    }
}
