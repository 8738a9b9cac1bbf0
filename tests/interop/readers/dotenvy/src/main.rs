//! Reads files with dotenvy: prints one line of JSON for each.

use std::collections::BTreeMap;

use serde_json::json;

fn main() {
    for file in std::env::args().skip(1) {
        let values = dotenvy::from_path_iter(&file)
            .and_then(|read| read.collect::<Result<BTreeMap<String, String>, _>>());
        let line = match values {
            Ok(values) => json!({ "file": file, "values": values }),
            Err(error) => json!({ "file": file, "error": error.to_string() }),
        };
        println!("{line}");
    }
}
