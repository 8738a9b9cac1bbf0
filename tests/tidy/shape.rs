//! How a source file looks: its size, its first line, its name, and words that may not stand in it.

use crate::crates::manifests;
use crate::tree::{File, code, files, root};
use crate::{check, pass};

/// A file is cut in two before it gets longer.
const LINES: usize = 500;
/// Names that say nothing about what lives there.
const EMPTY_NAMES: [&str; 4] = ["utils", "helpers", "common", "manager"];
/// Stubs, muted tests and silenced lints, and what to do instead. Split, or this file would fail
/// itself.
const WORDS: [(&str, &str); 5] = [
    (concat!("to", "do!("), "write it"),
    (concat!("unimple", "mented!("), "write it"),
    (concat!("#[ign", "ore"), "run the test, or delete it"),
    (concat!("should", "_panic"), "return an error and look at it"),
    (concat!("#[al", "low("), "use `#[expect(lint, reason = \"…\")]`"),
];

fn too_long(file: &File) -> Option<String> {
    let lines = file.text.lines().count();
    (lines > LINES).then(|| format!("{}: {lines} lines, {LINES} at most", file.path))
}

fn without_head(file: &File) -> Option<String> {
    let first = file.text.lines().next().unwrap_or_default();
    (!first.starts_with("//! ")).then(|| format!("{}: does not start with `//! …`", file.path))
}

fn emptily_named(file: &File) -> Option<String> {
    let mut parts = file.path.trim_end_matches(".rs").split('/');
    parts
        .find(|part| EMPTY_NAMES.contains(part))
        .map(|part| format!("{}: `{part}` names nothing: name the thing", file.path))
}

fn banned_words(file: &File) -> Vec<String> {
    let code = code(&file.text);
    let mut faults = Vec::new();
    for (number, line) in code.lines().enumerate() {
        for (word, instead) in WORDS {
            if line.contains(word) {
                faults.push(format!("{}:{}: `{word}`: {instead}", file.path, number + 1));
            }
        }
    }
    faults
}

/// Functions are measured by clippy, so clippy must have been told to, in every crate.
fn unlinted(
    clippy: &str,
    workspace: &toml::Table,
    manifests: &[(&str, toml::Table)],
) -> Vec<String> {
    let mut faults = Vec::new();
    if !clippy.lines().any(|line| line.trim() == "too-many-lines-threshold = 70") {
        faults.push("clippy.toml: too-many-lines-threshold is not 70".to_owned());
    }
    let lints = &workspace["workspace"]["lints"];
    for (tool, lint) in [("clippy", "too_many_lines"), ("rust", "missing_docs")] {
        if lints.get(tool).and_then(|tool| tool.get(lint)).is_none() {
            faults.push(format!("Cargo.toml: lint `{lint}` is off"));
        }
    }
    for (name, manifest) in manifests {
        let inherited = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        if inherited.and_then(toml::Value::as_bool) != Some(true) {
            faults.push(format!("{name}: does not inherit the workspace's lints"));
        }
    }
    faults
}

#[test]
fn files_stay_short() {
    pass(&files(".rs").iter().filter_map(too_long).collect::<Vec<_>>());

    let long = File::sample("shared/src/a.rs", &"x\n".repeat(501));
    check(&Vec::from_iter(too_long(&long)), &["shared/src/a.rs: 501 lines, 500 at most"]);
    assert_eq!(too_long(&File::sample("a.rs", &"x\n".repeat(500))), None);
}

#[test]
fn files_say_what_lives_in_them() {
    pass(&files(".rs").iter().filter_map(without_head).collect::<Vec<_>>());

    for bad in ["", "use std::fmt;\n", "// a\n//! b\n", "//!\n"] {
        let fault = without_head(&File::sample("a.rs", bad));
        check(&Vec::from_iter(fault), &["a.rs: does not start with `//! …`"]);
    }
}

#[test]
fn files_are_named_after_things() {
    pass(&files(".rs").iter().filter_map(emptily_named).collect::<Vec<_>>());

    for bad in ["shared/src/utils.rs", "shared/src/utils/text.rs"] {
        let fault = emptily_named(&File::sample(bad, ""));
        check(&Vec::from_iter(fault), &[&format!("{bad}: `utils` names nothing: name the thing")]);
    }
    assert_eq!(emptily_named(&File::sample("shared/src/commonest.rs", "")), None);
}

#[test]
fn no_stub_no_muted_test_no_silenced_lint() {
    pass(&files(".rs").iter().flat_map(banned_words).collect::<Vec<_>>());

    for (word, instead) in WORDS {
        let sample = File::sample("a.rs", &format!("//! a\n// {word}\n    {word}\n"));
        check(&banned_words(&sample), &[&format!("a.rs:3: `{word}`: {instead}")]);
    }
}

#[test]
fn functions_are_measured_in_every_crate() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let parse = |path: &str| read(path).parse::<toml::Table>().unwrap();
    pass(&unlinted(&read("clippy.toml"), &parse("Cargo.toml"), &manifests()));

    let bare: toml::Table = "[workspace.lints.clippy]\nall = \"warn\"".parse().unwrap();
    check(
        &unlinted("too-many-lines-threshold = 700", &bare, &[("shared", toml::Table::new())]),
        &[
            "clippy.toml: too-many-lines-threshold is not 70",
            "Cargo.toml: lint `too_many_lines` is off",
            "Cargo.toml: lint `missing_docs` is off",
            "shared: does not inherit the workspace's lints",
        ],
    );
}
