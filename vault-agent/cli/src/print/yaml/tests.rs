//! Compares with what Go printed: `testdata/go-output.json` holds each input with the output of `sigs.k8s.io/yaml`
//! 1.4.0 (empty where it fails, or prints what does not read back), `json.MarshalIndent` and `%v` of Go 1.26.

use serde_json::Value;

use super::super::{go, yaml::yaml};

#[test]
fn output_is_gos_byte_for_byte() {
    let cases: Vec<std::collections::BTreeMap<String, String>> =
        serde_json::from_str(include_str!("../../../testdata/go-output.json")).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let value: Value = serde_json::from_str(&case["in"]).unwrap();
        for (name, ours) in
            [("yaml", yaml(&value)), ("json", go::json(&value)), ("v", go::value(&value))]
        {
            if ours != case[name] && !case[name].is_empty() {
                wrong.push(format!(
                    "{name} of {}\n go  {:?}\n ours {ours:?}",
                    case["in"], case[name]
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
