//! `kv list -r`, `find`, `history`, `diff`, `cp`, `mv`, `edit`, `enable-versioning`.

use super::{APP, GONE, WRITTEN, World, envelope, transcript};

const VERSIONS: &str = concat!(
    r#"{"cas_required":false,"created_time":"2026-08-22T10:00:00Z","current_version":4,"#,
    r#""custom_metadata":{"team":"core"},"delete_version_after":"0s","max_versions":0,"#,
    r#""oldest_version":0,"updated_time":"2026-08-22T11:00:00Z","versions":{"2":{"#,
    r#""created_time":"2026-08-22T09:00:00Z","deletion_time":"","destroyed":true},"3":{"#,
    r#""created_time":"2026-08-22T10:00:00Z","deletion_time":"2026-08-22T10:30:00Z","#,
    r#""destroyed":false},"4":{"created_time":"2026-08-22T11:00:00Z","#,
    r#""deletion_time":"2027-08-22T10:30:00Z","destroyed":false}}}"#,
);

fn world() -> World {
    let (app, gone) = (envelope(APP), envelope(GONE));
    let new =
        envelope(&APP.replace("hunter2", "hunter3").replace("\"version\":3", "\"version\":4"));
    let subkeys = envelope(r#"{"subkeys":{"user":null,"password":null},"metadata":{"version":3}}"#);
    let conflict = r#"{"errors":["check-and-set parameter did not match the current version"]}"#;
    World::agent(&[
        ("GET /v1/secret/metadata?list=true", 200, &envelope(r#"{"keys":["app/","top"]}"#)),
        ("GET /v1/secret/metadata/app?list=true", 200, &envelope(r#"{"keys":["db","x/"]}"#)),
        ("GET /v1/secret/metadata/app/x?list=true", 200, &envelope(r#"{"keys":["smtp"]}"#)),
        (
            "GET /v1/sys/internal/ui/mounts",
            200,
            &envelope(
                r#"{"auth":{},"secret":{"secret/":{"type":"kv","options":{"version":"2"}},"old/":{"type":"kv","options":null}}}"#,
            ),
        ),
        ("GET /v1/secret/subkeys/app/db?depth=1", 200, &subkeys),
        ("GET /v1/secret/subkeys/top?depth=1", 403, r#"{"errors":["permission denied"]}"#),
        ("GET /v1/secret/metadata/app/db", 200, &envelope(VERSIONS)),
        ("GET /v1/secret/data/app/db", 200, &new),
        ("GET /v1/secret/data/app/db?version=4", 200, &new),
        ("GET /v1/secret/data/app/db?version=3", 404, &gone),
        ("GET /v1/secret/data/app/db?version=2", 200, &app),
        ("GET /v1/secret/data/gone", 404, &gone),
        ("PUT /v1/secret/data/copy", 200, &envelope(WRITTEN)),
        ("PUT /v1/secret/data/taken", 400, conflict),
        ("GET /v1/secret/metadata/taken", 200, &envelope(VERSIONS)),
        ("PUT /v1/secret/data/app/db", 200, &envelope(WRITTEN)),
        ("POST /v1/sys/mounts/old/tune", 204, ""),
    ])
}

#[test]
fn folders_are_walked() {
    insta::assert_snapshot!(transcript(
        &world(),
        &[
            "kv list -r secret",
            "kv list -r -format=json secret/app",
            "kv list -recursive -mount=secret",
            "kv find smtp",
            "kv find -format=json SECRET/*/d?",
            "kv find -keys password secret/app/",
            "kv find -keys -format=json -mount=secret s",
            "kv find nothing",
        ]
    ));
}

#[test]
fn versions_are_told_and_compared() {
    insta::assert_snapshot!(transcript(
        &world(),
        &[
            "kv history secret/app/db",
            "kv history -format=json secret/app/db",
            "kv history secret/app/bd",
            "kv diff secret/app/db",
            "kv diff -version=2 secret/app/db -show",
            "kv diff -version=2 -version=4 -format=json secret/app/db",
            "kv diff -version=2 -version=2 secret/app/db",
            "kv diff -version=3 secret/app/db",
            "kv diff -version=9 secret/app/db",
        ]
    ));
}

#[test]
fn who_wrote_a_version_is_told_by_our_own_agent_alone() {
    let machines = ["machine:vps", "machine:rtx1080", "admin:jonas"];
    let by = |(by, ver): (&str, u64)| serde_json::json!({ "ver": ver, "by": by });
    let writers: Vec<_> = machines.into_iter().zip([1, 2, 4]).map(by).collect();
    let writers = serde_json::to_string(&writers).unwrap();
    let answers = [
        ("GET /v1/secret/metadata/app/db", 200, &*envelope(VERSIONS)),
        ("GET /v1/agent/writers?path=secret%2Fapp%2Fdb", 200, &*writers),
    ];
    let world = World::agent(&answers);
    let own = ["kv history secret/app/db", "kv history -format=json secret/app/db"];
    insta::assert_snapshot!(transcript(&world, &own));
    // Named by an address of this machine it is the same agent.
    assert!(World::agent(&answers).foreign().run(own[0]).out.contains("BY"));
    // An agent that does not tell costs the column, one that fails the answer.
    for (status, exit) in [(403, 0), (404, 0), (500, 2)] {
        let world = World::agent(&[
            answers[0],
            ("GET /v1/agent/writers?path=secret%2Fapp%2Fdb", status, "{}"),
        ]);
        let run = world.run(own[0]);
        assert_eq!((run.exit, run.out.contains("BY")), (exit, false), "{status}: {}", run.err);
    }
}

#[test]
fn a_key_for_a_path_and_a_path_that_is_nearly_right_get_a_hint() {
    let world = world();
    let key = world.run("kv get secret/app/db password");
    assert!(key.exit == 2 && key.out.is_empty(), "{}", key.out);
    let hint = "\nhint: a key is no path: `vault kv get -field=password secret/app/db`\n";
    assert!(key.err.ends_with(hint), "{}", key.err);
    assert!(!world.run("kv get secret/app/db nothing").err.contains("a key is no path"));
    let listed = world.run("kv list secret/app/db");
    let hint =
        "\nhint: `secret/app/db` is a secret, not a folder: try `vault kv get secret/app/db`\n";
    assert!(listed.exit == 2 && listed.err.ends_with(hint), "{}", listed.err);
    // What is changed is there: a new secret beside it is hardly meant.
    let patched = world.run("kv patch secret/app/dbb a=1");
    let hint = "\nhint: did you mean `secret/app/db`? `vault kv put secret/app/dbb …` makes a new \
                secret\n";
    assert!(patched.exit == 2 && patched.err.ends_with(hint), "{}", patched.err);
}

#[test]
fn secrets_are_copied() {
    let world = world();
    let mut text = transcript(
        &world,
        &[
            "kv cp secret/app/db secret/copy",
            "kv cp secret/app/db secret/taken",
            "kv cp secret/app/db secret/app/db",
            "kv cp secret/nope secret/copy",
            "kv cp secret/nope/ secret/copy/",
            "kv mv secret/app/db secret/b",
            "kv enable-versioning old",
        ],
    );
    text.push_str(&world.seen().join("\n"));
    insta::assert_snapshot!(text);
}

fn editing(script: &str) -> World {
    let world = world();
    let file = world.file("editor", script);
    world.env("EDITOR", &format!("sh {file}"))
}

#[test]
fn an_edit_is_written_with_cas() {
    let world = editing(
        "sed -i s/hunter3/hunter4/ \"$1\"; ls -l \"$1\" | cut -c1-10 > \"$0.mode\"; dirname \"$1\" > \"$0.dir\"",
    );
    let run = world.run("kv edit secret/app/db");
    assert_eq!((run.exit, run.err.as_str()), (0, ""));
    let put = r#"PUT /v1/secret/data/app/db {"data":{"password":"hunter4","user":"app"},"options":{"cas":4}}"#;
    assert_eq!(world.seen(), ["GET /v1/secret/data/app/db", put]);
    let left = |name: &str| std::fs::read_to_string(world.path().join(name)).unwrap();
    assert_eq!(left("editor.mode"), "-rw-------\n");
    let folder = left("editor.dir");
    assert!(folder.starts_with("/dev/shm/vault-edit-") || folder.contains("/vault-edit-"));
    assert!(!std::path::Path::new(folder.trim()).exists());
}

#[test]
fn an_edit_that_changes_nothing_writes_nothing() {
    let world = editing("true");
    let run = world.run("kv edit -format=env secret/app/db");
    assert_eq!((run.exit, run.err.as_str()), (0, "nothing was changed\n"));
    assert_eq!(world.seen(), ["GET /v1/secret/data/app/db"]);
}

/// Runs an edit that goes wrong; returns what was said, with the kept file's text in place of its
/// name.
fn kept(world: &World, line: &str) -> String {
    let run = world.run(line);
    assert_eq!(run.out, "");
    let file = run.err.split('`').nth(1).unwrap().to_owned();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_dir_all(std::path::Path::new(&file).parent().unwrap()).unwrap();
    format!("exit {}\n{}--- kept\n{text}\n", run.exit, run.err.replace(&file, "FILE"))
}

#[test]
fn an_edit_is_kept_when_something_goes_wrong() {
    let mut text = kept(&editing("echo half > \"$1\"; exit 3"), "kv edit secret/app/db");
    text.push_str(&kept(&editing("echo '{' > \"$1\""), "kv edit secret/app/db"));
    text.push_str(&kept(&editing("echo '{\"a\":\"b\"}' > \"$1\""), "kv edit secret/taken"));
    insta::assert_snapshot!(text);
}
