//! `kv put`, `patch`, `delete`, `undelete`, `destroy`, `rollback`, `metadata put|patch|delete`.

use super::{APP, GONE, WRITTEN, World, envelope, transcript};

fn world() -> World {
    let (app, gone, written) = (envelope(APP), envelope(GONE), envelope(WRITTEN));
    let subkeys = envelope(
        r#"{"subkeys":{"user":null,"password":null,"host":null},"metadata":{"version":3}}"#,
    );
    let conflict = r#"{"errors":["check-and-set parameter did not match the current version"]}"#;
    World::agent(&[
        ("PUT /v1/secret/data/app/db", 200, &written),
        ("PATCH /v1/secret/data/app/db", 200, &written),
        ("GET /v1/secret/data/app/db", 200, &app),
        ("GET /v1/secret/data/app/db?version=2", 200, &app),
        ("GET /v1/secret/data/app/db?version=4", 404, &gone),
        ("GET /v1/secret/subkeys/app/db?depth=1", 200, &subkeys),
        ("PUT /v1/secret/data/quiet", 204, ""),
        ("PUT /v1/secret/data/conflict", 400, conflict),
        ("PATCH /v1/secret/data/gone", 404, &gone),
        ("GET /v1/secret/data/gone", 404, &gone),
        (
            "PATCH /v1/secret/data/old",
            405,
            r#"{"errors":["1 error occurred:\n\t* unsupported operation\n\n"]}"#,
        ),
        ("GET /v1/secret/data/old", 200, &app),
        ("PUT /v1/secret/data/old", 200, &written),
        ("PATCH /v1/secret/data/denied", 403, r#"{"errors":["permission denied"]}"#),
        ("DELETE /v1/secret/data/app/db", 204, ""),
        ("DELETE /v1/secret/metadata/app/db", 204, ""),
        ("PUT /v1/secret/delete/app/db", 204, ""),
        ("PUT /v1/secret/undelete/app/db", 204, ""),
        ("PUT /v1/secret/destroy/app/db", 204, ""),
        ("PUT /v1/secret/metadata/app/db", 204, ""),
        ("PATCH /v1/secret/metadata/app/db", 204, ""),
    ])
}

/// Runs lines and adds the requests that they made.
fn with_requests(world: &World, lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(&transcript(world, &[line]));
        text.push_str(&format!("--- requests\n{}\n\n", world.seen().join("\n")));
    }
    text
}

#[test]
fn put_writes_whole() {
    insta::assert_snapshot!(with_requests(
        &world(),
        &[
            "kv put secret/app/db user=app password=x",
            "kv put -cas=0 -format=json secret/app/db user=app",
            "kv put -mount=secret -cas 3 app/db user=a user=b",
            "kv put -field=version secret/app/db user=app",
            "kv put secret/quiet user=app",
            "kv put -format=json secret/quiet user=app",
            "kv put -cas=-1 secret/conflict user=app",
            "kv put secret/app/db",
            "kv put -format=raw secret/app/db a=b",
            "kv put -cas=x secret/app/db a=b",
        ]
    ));
}

#[test]
fn put_reads_stdin_and_literals() {
    let world = world().stdin("line\n");
    insta::assert_snapshot!(with_requests(
        &world,
        &[
            "kv put secret/app/db a=-",
            "kv put secret/app/db a",
            r"kv put secret/app/db a=\@b -- -c=d"
        ]
    ));
}

#[test]
fn put_warns_people_of_lost_keys() {
    let mut world = world();
    world.tty = true;
    insta::assert_snapshot!(with_requests(
        &world,
        &["kv put secret/app/db user=x", "kv put secret/quiet a=b"]
    ));
}

#[test]
fn put_asks_people_before_keys_are_lost() {
    let check = |answer: &str, line: &str, code: u8, written: bool| {
        let mut world = world().stdin(answer);
        (world.tty, world.asked) = (true, true);
        let ran = world.run(line);
        assert_eq!(ran.exit, code, "{answer:?} {line}: {}", ran.err);
        let puts = world.seen().iter().filter(|request| request.starts_with("PUT")).count();
        assert_eq!(puts > 0, written, "{answer:?} {line}");
        ran.err
    };
    let put = "kv put secret/app/db user=x";
    for no in ["", "\n", "n\n", "what\n"] {
        let told = check(no, put, 1, false);
        assert!(told.contains("will no longer have: host, password\n"), "{told}");
        assert!(told.ends_with("Write it all the same? [y/N]\nnothing was written\n"), "{told}");
    }
    assert!(check("y\n", put, 0, true).contains("[y/N]\nwrote user; removed host, password"));
    for line in [
        "kv put -yes secret/app/db user=x",
        "kv put -non-interactive secret/app/db user=x",
        "kv put secret/app/db user=x password=y host=z",
        "kv put secret/quiet a=b",
    ] {
        let told = check("", line, 0, true);
        assert!(!told.contains("[y/N]"), "{told}");
    }
}

#[test]
fn patch_changes_keys() {
    insta::assert_snapshot!(with_requests(
        &world(),
        &[
            "kv patch secret/app/db user=x -remove-data=password",
            "kv patch -cas=3 -method=patch secret/app/db user=x",
            "kv patch -method=rw secret/app/db user=x -remove-data password",
            "kv patch secret/old user=x",
            "kv patch -method=patch secret/old user=x",
            "kv patch -method=x secret/old user=x",
            "kv patch secret/denied user=x",
            "kv patch secret/nope user=x",
            "kv patch secret/gone user=x",
            "kv patch -method=rw secret/gone user=x",
            "kv patch secret/app/db",
        ]
    ));
}

#[test]
fn versions_are_deleted_and_brought_back() {
    insta::assert_snapshot!(with_requests(
        &world(),
        &[
            "kv delete secret/app/db",
            "kv delete -format=json secret/app/db",
            "kv delete -versions=1,2 -versions=3 secret/app/db",
            "kv delete secret/nope",
            "kv undelete -versions=1 secret/app/db",
            "kv undelete secret/app/db",
            "kv destroy -versions=1 secret/app/db",
            "kv destroy secret/app/db",
            "kv rollback -version=2 secret/app/db",
            "kv rollback -version=4 secret/app/db",
            "kv rollback -version=0 secret/app/db",
            "kv rollback secret/app/db",
            "kv rollback -version=1 secret/nope",
        ]
    ));
}

#[test]
fn metadata_is_set() {
    insta::assert_snapshot!(with_requests(
        &world(),
        &[
            "kv metadata put -max-versions=5 -cas-required -delete-version-after=90m -custom-metadata=a=b secret/app/db",
            "kv metadata put -cas-required=false -delete-version-after=-1s secret/app/db",
            "kv metadata put -delete-version-after=soon secret/app/db",
            "kv metadata patch -custom-metadata=a=b -remove-custom-metadata=c secret/app/db",
            "kv metadata patch secret/nope",
            "kv metadata delete secret/app/db",
        ]
    ));
}
