//! Every key of both configuration files stands in the reference. The keys are the fields of the
//! structs that serde reads, so that none can be added without its line.

use crate::tree::{File, code, files, root};
use crate::{check, pass};

/// The files that hold the structs; what lies below a folder of the same name counts too.
const HOMES: [&str; 2] = ["vault-server/src/config", "vault-agent/machine/src/config"];

/// Returns the fields of every struct in a file that derives `Deserialize`.
fn fields(file: &File) -> Vec<String> {
    let (mut found, mut derives, mut inside, mut skipped) = (Vec::new(), false, false, false);
    for line in code(&file.text).lines() {
        let line = line.trim();
        if line == "#[serde(skip)]" {
            skipped = true;
        } else if line.starts_with("#[derive(") {
            derives = line.contains("Deserialize");
        } else if derives && line.contains("struct ") && line.ends_with('{') {
            (inside, derives) = (true, false);
        } else if line == "}" {
            inside = false;
        } else if line.contains("enum ") || line.contains("struct ") {
            derives = false;
        } else if let (true, Some((name, _))) = (inside, line.split_once(": ")) {
            let name = name.trim_start_matches("pub ");
            if !skipped && name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                found.push(name.to_owned());
            }
            skipped = false;
        }
    }
    found
}

/// Returns the keys that no row of the reference is about.
fn undocumented(keys: &[String], reference: &str) -> Vec<String> {
    let documented = |key: &str| {
        [format!("`{key}`"), format!(".{key}`"), format!("[{key}]")]
            .iter()
            .any(|shown| reference.contains(shown.as_str()))
    };
    let absent = keys.iter().filter(|key| !documented(key));
    absent.map(|key| format!("`{key}`: not in reference/config.md")).collect()
}

#[test]
fn every_configuration_key_is_in_the_reference() {
    let reference = std::fs::read_to_string(root().join("docs/src/reference/config.md")).unwrap();
    for home in HOMES {
        let homes = files(".rs").into_iter().filter(|file| {
            let tests = file.path.ends_with("tests.rs");
            !tests && file.path.strip_prefix(home).is_some_and(|rest| rest.starts_with(['.', '/']))
        });
        let mut keys: Vec<String> = homes.flat_map(|file| fields(&file)).collect();
        keys.sort_unstable();
        keys.dedup();
        // Tables are named in the headings by their names in the file.
        keys.retain(|key| !["log", "limits", "audit", "backup"].contains(&key.as_str()));
        assert!(keys.len() > 8, "{home}: only {} keys found", keys.len());
        pass(&undocumented(&keys, &reference));
    }
}

#[test]
fn keys_are_the_fields_that_serde_reads() {
    let sample = File::sample(
        "a.rs",
        "#[derive(Debug, Deserialize)]\n#[serde(default)]\npub struct A {\n    /// x: y\n    \
         #[serde(default = \"f\")]\n    pub listen: u16,\n    retries: Option<u32>,\n    #[serde(skip)]\n    own: u8,\n}\n\
         #[derive(Debug)]\nstruct B {\n    hidden: u8,\n}\n",
    );
    assert_eq!(fields(&sample), ["listen", "retries"]);
    check(
        &undocumented(&fields(&sample), "| `listen` | `retry` |"),
        &["`retries`: not in reference/config.md"],
    );
}
