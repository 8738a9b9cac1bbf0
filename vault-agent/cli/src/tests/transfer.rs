//! `import` and `export`.

use super::{APP, GONE, WRITTEN, World, envelope};

const FILE: &str = "# keys\nuser=app\npassword=new\nEMPTY=\n";

fn world() -> World {
    let (app, gone, written) = (envelope(APP), envelope(GONE), envelope(WRITTEN));
    let conflict = r#"{"errors":["check-and-set parameter did not match the current version"]}"#;
    World::agent(&[
        ("GET /v1/secret/data/app", 200, &app),
        ("PUT /v1/secret/data/app", 200, &written),
        ("PUT /v1/secret/data/new", 200, &envelope(&WRITTEN.replace('4', "1"))),
        ("GET /v1/secret/data/gone", 404, &gone),
        ("PUT /v1/secret/data/gone", 200, &written),
        ("PUT /v1/secret/data/raced", 400, conflict),
        ("PUT /v1/secret/data/denied", 403, r#"{"errors":["permission denied"]}"#),
        ("GET /v1/secret/data/spaced", 200, &envelope(&APP.replace("user", "a name"))),
    ])
}

/// Runs one command and shows it with its requests.
fn one(world: &World, args: &[&str]) -> String {
    let dir = world.path().display().to_string();
    let shown = world.run_args(args).shown();
    let line = args.join(" ").replace(&dir, "DIR");
    format!("$ vault {line}\n{shown}--- requests\n{}\n\n", world.seen().join("\n"))
}

#[test]
fn import_counts_and_never_shows_values() {
    let world = world();
    let file = world.file(".env", FILE);
    let json =
        world.file("all.json", r#"{"user":"app","n":12345678901234567890,"deep":{"a":[1]}}"#);
    let same = world.file("same.env", "user=app\n");
    let mut text = String::new();
    for args in [
        &["import", "secret/new", &file][..],
        &["import", "secret/app", &file],
        &["import", "-mount=secret", "app", &json],
        &["import", "secret/app", &same],
        &["import", "--replace", "secret/app", &same],
        &["import", "-format=json", "secret/gone", &same],
    ] {
        text.push_str(&one(&world, args));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn import_tells_whoever_names_the_file_first() {
    let world = world();
    let file = world.file(".env", FILE);
    let turned = world.run_args(&["import", &file, "secret/new"]).shown();
    let hint = "hint: the secret comes first: `vault import secret/new DIR/.env`";
    assert!(turned.contains(hint), "{turned}");
    let neither = world.run_args(&["import", "secret/new", "secret/new"]).shown();
    assert!(!neither.contains("comes first"), "{neither}");
    assert_eq!(world.seen(), [""; 0]);
}

#[test]
fn import_takes_all_or_nothing() {
    let world = world().stdin("{\n\"a\": oops}");
    let broken = world.file(".env", "A=1\nthis is no line\nB=2\n");
    let empty = world.file("empty.env", "# nothing\n");
    let good = world.file("good.env", "A=1\n");
    let mut text = String::new();
    for args in [
        &["import", "secret/new", &broken][..],
        &["import", "secret/new", &empty],
        &["import", "secret/new", "/nope/.env"],
        &["import", "secret/new", "-"],
        &["import", "secret/raced", &good],
        &["import", "secret/denied", &good],
    ] {
        text.push_str(&one(&world, args));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn export_prints_or_replaces() {
    let world = world();
    let out = world.path().join("out.env").display().to_string();
    let mut text = String::new();
    for args in [
        &["export", "secret/app"][..],
        &["export", "--out", &out, "secret/app"],
        &["export", "secret/nope"],
        &["export", "secret/gone"],
        &["export", "secret/spaced"],
        &["export", "-format=ini", "secret/app"],
        &["export"],
    ] {
        text.push_str(&one(&world, args));
    }
    insta::assert_snapshot!(text);
    assert!(std::fs::read_to_string(&out).unwrap().contains("hunter2"));
}
