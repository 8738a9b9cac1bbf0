//! An agent that wants to hear why is not taken for one that has nothing to show.

use serde_json::json;

use super::{World, envelope};

#[test]
fn a_reason_that_is_wanted_is_asked_for_and_nothing_is_said_to_be_missing() {
    let wanted = "a reason is wanted of `claude-code`, and none was given\nhint: say why";
    let wanted = json!({ "errors": [wanted] }).to_string();
    let mounts = json!({ "secret": { "secret/": { "options": { "version": "2" } } } });
    let version = json!({ "created_time": "2026-08-22T10:00:00Z", "deletion_time": "" });
    let versions = json!({ "current_version": 1, "versions": { "1": version } });
    let answers = |status, body: &str| {
        World::agent(&[
            ("GET /v1/sys/internal/ui/mounts", 200, &envelope(&mounts.to_string())),
            ("GET /v1/secret/metadata?list=true", 200, &envelope(r#"{"keys":["app"]}"#)),
            ("GET /v1/secret/metadata/app", 200, &envelope(&versions.to_string())),
            ("GET /v1/secret/subkeys/app?depth=1", status, body),
            ("GET /v1/agent/past?path=secret%2Fapp", status, body),
            ("GET /v1/secret/data/app", status, body),
        ])
    };
    let (world, denied) =
        (answers(403, &wanted), answers(403, r#"{"errors":["permission denied"]}"#));
    let file = world.file("searched", "nothing");
    for line in ["kv find -keys BOT", "kv history secret/app", &format!("scan {file}")] {
        let ran = world.run(line);
        assert_eq!((ran.exit, &*ran.out), (2, ""), "{line}: {}", ran.err);
        let is_passed_on = ran.err.contains("* a reason is wanted of `claude-code`")
            && ran.err.ends_with("hint: say why\n");
        assert!(is_passed_on && !ran.err.contains("nothing is called"), "{line}: {}", ran.err);
    }
    // One who may not read it is told what there is for them.
    assert!(denied.run("kv find -keys BOT").err.contains("nothing is called `BOT`"));
    assert_eq!(denied.run("kv history secret/app").exit, 0);
}
