//! Who may know whom: between crates by their manifests, between layers by the paths in their code.

use crate::tree::{File, code, files, root};
use crate::{check, pass};

/// Crates of this workspace that a crate may depend on.
const CRATES: [(&str, &[&str]); 4] = [
    ("shared", &[]),
    ("vault-server", &["shared"]),
    ("vault-agent", &["shared"]),
    ("tests", &["shared", "vault-server", "vault-agent"]),
];

/// Layers of a crate, and the layers of the same crate that each must not know.
const LAYERS: [(&str, &str, &[&str]); 13] = [
    ("vault-server", "vault", &["http", "cli"]),
    ("vault-server", "store", &["vault", "http", "cli"]),
    ("vault-server", "tls", &["store", "vault", "http", "cli"]),
    ("vault-server", "config", &["store", "vault", "http", "cli"]),
    ("vault-agent", "daemon", &["cli", "owner"]),
    ("vault-agent", "api", &["cli", "daemon", "owner"]),
    ("vault-agent", "owner", &["cli", "daemon"]),
    ("vault-agent", "engine", &["cli", "daemon", "api", "owner", "render"]),
    ("vault-agent", "remote", &["cli", "daemon", "api", "owner", "render", "engine", "state"]),
    ("vault-agent", "state", &["cli", "daemon", "api", "owner", "render", "engine", "remote"]),
    ("vault-agent", "render", &["cli", "daemon", "api", "owner", "engine", "remote", "state"]),
    ("vault-agent", "files", &["cli", "daemon", "api", "owner", "engine", "remote", "state"]),
    ("vault-agent", "identity", &["cli", "daemon", "api", "owner", "engine", "remote"]),
];

/// The only files that know the TLS library: everybody else talks to them.
const TLS_FILES: [&str; 3] =
    ["vault-server/src/tls.rs", "vault-agent/src/remote/tls.rs", "vault-agent/src/cli/tls.rs"];

fn wrong_dependencies(name: &str, allowed: &[&str], manifest: &toml::Table) -> Vec<String> {
    let mut faults = Vec::new();
    for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
        let table = manifest.get(section).and_then(toml::Value::as_table);
        for dependency in table.into_iter().flat_map(toml::Table::keys) {
            let sibling = CRATES.iter().any(|(sibling, _)| sibling == dependency);
            if sibling && !allowed.contains(&dependency.as_str()) {
                faults.push(format!("{name}/Cargo.toml: [{section}] knows `{dependency}`"));
            }
        }
    }
    faults
}

/// Returns the crate and the modules of a source file, e.g. `(vault-server, [http, log])`.
fn place(path: &str) -> Option<(&str, Vec<&str>)> {
    let (krate, rest) = path.split_once("/src/")?;
    let modules = rest.trim_end_matches(".rs").trim_end_matches("/mod").split('/').collect();
    Some((krate, modules))
}

/// Returns the modules at the crate's root that the code names: after `crate::`, or after as many
/// `super::` as lead there.
fn named_roots(code: &str, depth: usize) -> Vec<String> {
    let mut roots = after(code, "crate::");
    roots.extend(after(code, &"super::".repeat(depth)));
    roots
}

/// Returns the identifiers that follow `prefix`, one or the first of each member of a group.
fn after(code: &str, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(members(group)),
            None => found.push(identifier(rest)),
        }
    }
    found
}

/// Returns the first identifier of each member of a `use` group, whose `{` has been read.
fn members(group: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut depth = 1;
    let mut member = String::new();
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            found.push(identifier(member.trim()));
            member.clear();
        } else {
            member.push(c);
        }
        if depth == 0 {
            break;
        }
    }
    found
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn wrong_layers(file: &File) -> Vec<String> {
    let Some((krate, modules)) = place(&file.path) else { return Vec::new() };
    let rule = LAYERS.iter().find(|(of, layer, _)| *of == krate && modules.first() == Some(layer));
    let Some((_, layer, foreign)) = rule else { return Vec::new() };
    let mut roots = named_roots(&code(&file.text), modules.len());
    roots.sort_unstable();
    roots.dedup();
    roots
        .iter()
        .filter(|root| foreign.contains(&root.as_str()))
        .map(|root| format!("{}: `{layer}` must not know `{root}`", file.path))
        .collect()
}

fn stray_tls(file: &File) -> Vec<String> {
    let programs = file.path.starts_with("vault-") && file.path.contains("/src/");
    let programs = programs && !file.path.contains("/tests/");
    let programs = programs && !TLS_FILES.contains(&file.path.as_str());
    let code = code(&file.text);
    let names = ["rustls::", "tokio_rustls::", "use rustls", "use tokio_rustls"];
    match names.iter().find(|name| programs && code.contains(**name)) {
        Some(name) => vec![format!("{}: `{name}` belongs into a tls.rs", file.path)],
        None => Vec::new(),
    }
}

#[test]
fn crates_know_only_what_is_below_them() {
    for (name, allowed) in CRATES {
        let text = std::fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        pass(&wrong_dependencies(name, allowed, &text.parse().unwrap()));
    }

    let sample =
        "[dependencies]\nserde = \"1\"\nshared = {}\n[dev-dependencies]\nvault-agent = {}\n";
    check(
        &wrong_dependencies("vault-server", &["shared"], &sample.parse().unwrap()),
        &["vault-server/Cargo.toml: [dev-dependencies] knows `vault-agent`"],
    );
}

#[test]
fn layers_know_only_what_is_below_them() {
    pass(&files(".rs").iter().flat_map(wrong_layers).collect::<Vec<_>>());

    for (path, text, expected) in [
        ("vault-server/src/store/log.rs", "use crate::http::Answer;", Some("http")),
        ("vault-server/src/store/log.rs", "use crate::{clock, http::Answer};", Some("http")),
        ("vault-server/src/store/log.rs", "use super::super::http;", Some("http")),
        ("vault-server/src/store.rs", "use super::http;", Some("http")),
        ("vault-server/src/store/mod.rs", "fn f() { crate::http::answer() }", Some("http")),
        ("vault-server/src/store/log.rs", "// crate::http reads this\nuse super::http;", None),
        ("vault-server/src/http/log.rs", "use crate::{store, vault};", None),
        (
            "vault-agent/src/render/sh.rs",
            "use crate::{\n    config::Target,\n    state,\n};",
            Some("state"),
        ),
        ("vault-agent/src/engine/read.rs", "use crate::{remote, state};", None),
    ] {
        let found = wrong_layers(&File::sample(path, text));
        let layer = place(path).unwrap().1[0];
        let expected = expected.map(|root| format!("{path}: `{layer}` must not know `{root}`"));
        assert_eq!(found, Vec::from_iter(expected), "{path}: {text}");
    }
}

#[test]
fn every_ruled_layer_exists() {
    let all = files(".rs");
    let missing = LAYERS.iter().filter(|(krate, layer, _)| {
        !all.iter()
            .any(|file| place(&file.path).is_some_and(|(of, m)| of == *krate && m[0] == *layer))
    });
    pass(
        &missing
            .map(|(krate, layer, _)| format!("{krate}: no layer `{layer}`"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn tls_stays_in_its_files() {
    pass(&files(".rs").iter().flat_map(stray_tls).collect::<Vec<_>>());

    let stray = File::sample("vault-server/src/http/mod.rs", "//! a\nuse rustls::ServerConfig;\n");
    check(&stray_tls(&stray), &["vault-server/src/http/mod.rs: `rustls::` belongs into a tls.rs"]);
    assert!(stray_tls(&File::sample(TLS_FILES[0], "use rustls::ServerConfig;")).is_empty());
}
