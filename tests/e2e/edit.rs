//! `vault kv edit` on a terminal, while somebody else writes the same secret.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use tests::{Host, Ran, World, bins, run};

const SECRET: &str = "secret/app";

/// An editor that changes `mine`, and the first time lets somebody else write `theirs` meanwhile.
fn editor(host: &Host, theirs: &str) -> PathBuf {
    let file = host.dir.join("editor");
    let script = format!(
        "#!/bin/sh\nset -e\nif [ ! -e {home}/edited ]; then\n  : >{home}/edited\n\
         \x20 {vault} kv patch {SECRET} {theirs} >/dev/null\nfi\n\
         sed -i 's/\"mine\": \"[^\"]*\"/\"mine\": \"edited\"/' \"$1\"\n",
        home = host.dir.display(),
        vault = host.bins.vault,
    );
    let mut options = OpenOptions::new();
    let mut out = options.write(true).create_new(true).mode(0o755).open(&file).unwrap();
    out.write_all(script.as_bytes()).unwrap();
    file
}

/// Edits the secret on a terminal of its own and types `answers`.
fn edit(theirs: &str, answers: &str) -> (Ran, Value) {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", SECRET, "mine=a", "other=b"]).ok();
    let mut command = host.command("script");
    let line = format!("{} kv edit {SECRET}", host.bins.vault);
    command.args(["-qec", &line, "/dev/null"]).env("EDITOR", editor(&host, theirs));
    command.env("SHELL", "/bin/sh").env("XDG_RUNTIME_DIR", &host.dir);
    let ran = run(&mut command, answers);
    let text = host.vault(&["kv", "get", "-format=json", SECRET]).ok();
    let secret: Value = serde_json::from_str(&text).unwrap();
    (ran, secret["data"].clone())
}

#[test]
fn edits_of_different_keys_are_merged() {
    let (ran, secret) = edit("other=c", "m\n");
    assert_eq!(ran.code, 0, "{}", ran.out);
    assert!(ran.out.contains("version 2 after 1, keys: other"), "{}", ran.out);
    assert_eq!(secret["data"], json!({"mine": "edited", "other": "c"}));
    assert_eq!(secret["metadata"]["version"], 3);
}

#[test]
fn an_edit_overwrites_when_told_to() {
    let (ran, secret) = edit("mine=c", "o\n");
    assert_eq!(ran.code, 0, "{}", ran.out);
    assert!(ran.out.contains("cannot be merged"), "{}", ran.out);
    assert_eq!(secret["data"], json!({"mine": "edited", "other": "b"}));
}

#[test]
fn a_secret_is_edited_as_variables_or_json_with_its_characters_as_they_are() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    for (format, secret) in [("env", "secret/env"), ("table", "secret/json")] {
        let _ = host.vault(&["kv", "put", secret, "mine=<a & b>", "other=b"]).ok();
        let mut command = host.command(host.bins.vault);
        command.args(["kv", "edit", "-format", format, secret]);
        command.env("XDG_RUNTIME_DIR", &host.dir);
        let ran = run(command.env("EDITOR", "sed -i 's/<a & b>/<c \\& d>/'"), "");
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(ran.out.contains("version            2"), "{format}: {}", ran.out);
        assert_eq!(host.vault(&["kv", "get", "-field=mine", secret]).ok(), "<c & d>", "{format}");
    }
}

#[test]
fn an_edit_goes_on_or_is_kept() {
    let (ran, secret) = edit("other=c", "e\n");
    assert_eq!(ran.code, 0, "{}", ran.out);
    assert_eq!(secret["data"], json!({"mine": "edited", "other": "b"}), "the text as it stands");
    let (ran, secret) = edit("other=c", "nonsense\nq\n");
    assert_eq!(ran.code, 2, "{}", ran.out);
    let (_, kept) = ran.out.split_once("your text is kept in `").unwrap();
    let kept = PathBuf::from(kept.split('`').next().unwrap());
    assert!(std::fs::read_to_string(&kept).unwrap().contains("edited"));
    std::fs::remove_dir_all(kept.parent().unwrap()).unwrap();
    assert_eq!(secret["data"], json!({"mine": "a", "other": "c"}));
    assert_eq!(secret["metadata"]["version"], 2);
}
