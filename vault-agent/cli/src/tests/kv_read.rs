//! `kv get`, `kv list`, `kv metadata get`.

use super::{APP, GONE, World, envelope, transcript};

const ODD: &str = concat!(
    r#"{"data":{"big":12345678901234567890,"empty":"","lines":"a\nb","list":["x",1,null],"#,
    r#""map":{"b":"<&>","a":true},"ttl":5400,"data":"field"},"metadata":{"#,
    r#""created_time":"2026-08-22T10:00:00Z","custom_metadata":{"team":"core"},"#,
    r#""deletion_time":"","destroyed":false,"version":1}}"#,
);

fn world() -> World {
    let (app, gone, odd) = (envelope(APP), envelope(GONE), envelope(ODD));
    let warned = r#"{"errors":null,"request_id":"x","data":null,"warnings":["Invalid path for a versioned K/V secrets engine."]}"#;
    let list = envelope(r#"{"keys":["b","app/","a"]}"#);
    let metadata = envelope(concat!(
        r#"{"cas_required":false,"created_time":"2026-08-22T10:00:00Z","#,
        r#""current_version":10,"custom_metadata":null,"delete_version_after":"0s","#,
        r#""max_versions":0,"oldest_version":0,"updated_time":"2026-08-22T11:00:00Z","#,
        r#""versions":{"10":{"created_time":"2026-08-22T11:00:00Z","deletion_time":"","#,
        r#""destroyed":false},"9":{"created_time":"2026-08-22T10:00:00Z","#,
        r#""deletion_time":"2026-08-22T10:30:00Z","destroyed":true}}}"#,
    ));
    let cached = format!("cached:{app}");
    World::agent(&[
        ("GET /v1/secret/data/app/db", 200, &app),
        ("GET /v1/secret/data/app/db?version=3", 200, &app),
        ("GET /v1/secret/data/gone", 404, &gone),
        ("GET /v1/secret/data/odd", 200, &odd),
        ("GET /v1/secret/data/warned", 404, warned),
        ("GET /v1/secret/data/cached", 200, &cached),
        ("GET /v1/secret/data/denied", 403, r#"{"errors":["permission denied"]}"#),
        ("GET /v1/secret/data/two", 400, r#"{"errors":["one","two"]}"#),
        ("GET /v1/secret/data/html", 502, "<html>bad gateway</html>"),
        ("GET /v1/secret/data/broken", 200, "{"),
        ("GET /v1/secret/data/a%20b/%C3%A4%3F+1", 200, &app),
        ("GET /v1/secret/metadata?list=true", 200, &list),
        ("GET /v1/secret/metadata/app?list=true", 200, &list),
        ("GET /v1/secret/metadata/hollow?list=true", 200, &envelope("{}")),
        ("GET /v1/secret/metadata/app/db", 200, &metadata),
    ])
}

#[test]
fn get_prints_a_table() {
    insta::assert_snapshot!(transcript(
        &world(),
        &[
            "kv get secret/app/db",
            "kv get -mount=secret app/db",
            "kv get secret/app/db -version=3",
            "kv get secret/odd",
        ]
    ));
}

#[test]
fn get_prints_json_and_yaml() {
    insta::assert_snapshot!(transcript(
        &world(),
        &[
            "kv get -format=json secret/app/db",
            "kv get secret/odd --format json",
            "-format=yaml kv get secret/odd",
            "kv get -format=xml secret/odd",
            "kv get -format=raw secret/odd",
            "kv get -format=pretty secret/odd",
        ]
    ));
}

#[test]
fn get_prints_one_field() {
    insta::assert_snapshot!(transcript(
        &world(),
        &[
            "kv get -field=password secret/app/db",
            "kv get -field=data secret/app/db",
            "kv get -field=data secret/odd",
            "kv get -field=big secret/odd",
            "kv get -field=map secret/odd",
            "kv get -field=list -format=json secret/odd",
            "kv get -field=map -format=yaml secret/odd",
            "kv get -field=user -format=raw secret/app/db",
            "kv get -field=nope secret/app/db",
            "kv get -field=password secret/gone",
        ]
    ));
}

#[test]
fn a_field_ends_in_a_line_end_for_people_only() {
    let mut world = world();
    assert_eq!(world.run("kv get -field=user secret/app/db").out, "app");
    world.tty = true;
    assert_eq!(world.run("kv get -field=user secret/app/db").out, "app\n");
}

#[test]
fn get_says_what_is_wrong() {
    insta::assert_snapshot!(transcript(
        &world(),
        &[
            "kv get secret/nope",
            "kv get secret/data/app/db",
            "kv get secret/gone",
            "kv get -format=json secret/gone",
            "kv get secret/warned",
            "kv get secret/denied",
            "kv get secret/two",
            "kv get secret/html",
            "kv get secret/broken",
        ]
    ));
}

#[test]
fn several_secrets_are_read_at_once() {
    insta::assert_snapshot!(transcript(
        &world(),
        &[
            "kv get secret/app/db secret/odd",
            "kv get -format=json secret/app/db secret/odd",
            "kv get -field=user secret/odd secret/app/db",
            "kv get secret/app/db secret/nope",
            "kv get -format=env secret/app/db",
            "kv get -format=env secret/app/db secret/odd",
            "kv list -format=env secret",
        ]
    ));
}

#[test]
fn an_answer_that_is_too_old_is_refused() {
    insta::assert_snapshot!(transcript(
        &world(),
        &[
            "kv get -max-age=3h -field=user secret/cached",
            "kv get -max-age=2h -field=user secret/cached",
            "kv get -max-age=0 -field=user secret/app/db",
            "kv get -max-age=soon secret/app/db",
            "kv get -offline -field=user secret/cached",
        ]
    ));
}

#[test]
fn names_that_look_alike_are_named() {
    let keys = envelope(r#"{"keys":["api-keys","db/","telegram"]}"#);
    let world = World::agent(&[
        ("GET /v1/secret/metadata?list=true", 200, &keys),
        ("GET /v1/secret/metadata/db?list=true", 200, &envelope(r#"{"keys":["main"]}"#)),
    ]);
    insta::assert_snapshot!(transcript(
        &world,
        &[
            "kv get secret/api_keys",
            "kv get secret/db",
            "kv get secret/db/mian",
            "kv get secret/bd/main",
            "kv get secret/dbb/mian",
            "kv get secret/telegramm/bot",
            "kv get secret/zzz",
            "kv list secret/dbs",
        ]
    ));
}

#[test]
fn get_asks_once() {
    let world = world();
    for line in ["kv get secret/app/db", "kv get secret/gone", "kv get secret/denied"] {
        world.run(line);
        assert_eq!(world.seen().len(), 1, "{line}");
    }
    // Names that look alike are asked for only after a miss.
    world.run("kv get secret/nope");
    assert_eq!(world.seen(), ["GET /v1/secret/data/nope", "GET /v1/secret/metadata?list=true"]);
}

#[test]
fn odd_paths_are_encoded_as_go_does() {
    let world = world();
    assert_eq!(world.run_args(&["kv", "get", "-field=user", "/secret/a b/ä?+1/"]).out, "app");
}

#[test]
fn an_answer_from_the_cache_says_its_age() {
    let run = world().run("kv get -field=user secret/cached");
    assert_eq!((run.exit, run.out.as_str()), (0, "app"));
    assert_eq!(run.err, "answered from the cache, 2 h old: not connected to the server\n");
}

#[test]
fn list_prints_names() {
    insta::assert_snapshot!(transcript(
        &world(),
        &[
            "kv list secret",
            "kv list -mount=secret",
            "kv list secret/app/",
            "kv list -format=json secret",
            "kv list -format=yaml secret",
            "kv list secret/nope",
            "kv list -format=json secret/nope",
            "kv list secret/hollow",
        ]
    ));
}

#[test]
fn metadata_get_prints_versions() {
    insta::assert_snapshot!(transcript(
        &world(),
        &[
            "kv metadata get secret/app/db",
            "kv metadata get -field=current_version secret/app/db",
            "kv metadata get -format=json secret/app/db",
            "kv metadata get secret/nope",
        ]
    ));
}
