//! Everything that the API does to versions, settings and mounts on one host is so on the other
//! hosts, and stays so over restarts of agents and server.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use tests::{Host, World, bins, watch};

/// Status and body of an answer, without what no two answers have in common.
type Answer = (u16, Value);

/// Sends `METHOD PATH` to a host's API on its socket.
fn ask(host: &Host, request: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (method, path) = request.split_once(' ').unwrap();
    let length = body.len();
    let text = format!(
        "{method} /v1/{path} HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/merge-patch+json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    let mut stream = UnixStream::connect(host.state().join("agent.sock")).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut body: Value = serde_json::from_str(body).unwrap_or_default();
    let _ = body.as_object_mut().and_then(|body| body.remove("request_id"));
    (head[9..12].parse().unwrap(), body)
}

/// Makes a change that has to be answered with `status`.
fn change(host: &Host, request: &str, body: &Value, status: u16) {
    let (got, text) = ask(host, request, body);
    assert_eq!(got, status, "{request} {body}: {text}");
}

fn get(host: &Host, path: &str) -> Answer {
    ask(host, &format!("GET {path}"), &Value::Null)
}

/// Returns what `a` answers, once `b` answers the same.
fn both(a: &Host, b: &Host, path: &str) -> Answer {
    let expected = get(a, path);
    watch::poll(&format!("{} answers {path} as {}", b.name, a.name), || {
        (get(b, path) == expected).then_some(())
    });
    expected
}

const PUT: &str = "POST secret/data/a";

/// Versions that are pruned, deleted, undeleted, destroyed.
fn versions(a: &Host, b: &Host) {
    change(a, "POST secret/metadata/a", &json!({"max_versions": 3}), 204);
    for n in 1..=5 {
        change(a, PUT, &json!({"data": {"n": n}}), 200);
    }
    let (_, all) = both(a, b, "secret/metadata/a");
    assert_eq!(all["data"]["oldest_version"], 3);
    assert_eq!(both(a, b, "secret/data/a?version=2"), (404, json!({"errors": []})));
    change(a, "DELETE secret/data/a", &Value::Null, 204);
    let (status, gone) = both(a, b, "secret/data/a");
    assert_eq!((status, &gone["data"]["data"]), (404, &Value::Null));
    assert_eq!(gone["data"]["metadata"]["version"], 5);
    change(a, "POST secret/undelete/a", &json!({"versions": [5]}), 204);
    assert_eq!(both(a, b, "secret/data/a").1["data"]["data"]["n"], 5);
    change(a, "POST secret/delete/a", &json!({"versions": [3, 4]}), 204);
    assert_eq!(both(a, b, "secret/data/a?version=3").0, 404);
    change(a, "POST secret/destroy/a", &json!({"versions": [4]}), 204);
    change(a, "POST secret/undelete/a", &json!({"versions": [3, 4]}), 204);
    assert_eq!(both(a, b, "secret/data/a?version=3").0, 200);
    let (status, destroyed) = both(a, b, "secret/data/a?version=4");
    assert_eq!((status, &destroyed["data"]["metadata"]["destroyed"]), (404, &json!(true)));
    assert_eq!(both(a, b, "secret/subkeys/a").1["data"]["subkeys"], json!({"n": null}));
}

/// Check-and-set that a secret or its mount asks for, on whichever host the writer is.
fn check_and_set(a: &Host, b: &Host) {
    let missing = json!({"errors": ["check-and-set parameter required for this call"]});
    let wrong = json!({"errors": ["check-and-set parameter did not match the current version"]});
    change(a, "POST secret/metadata/a", &json!({"cas_required": true}), 204);
    both(a, b, "secret/metadata/a");
    for host in [a, b] {
        let write = |cas: Value| ask(host, PUT, &json!({"data": {}, "options": cas}));
        assert_eq!(write(json!({})), (400, missing.clone()), "{}", host.name);
        assert_eq!(write(json!({"cas": 1})), (400, wrong.clone()), "{}", host.name);
    }
    change(b, PUT, &json!({"data": {"n": 6}, "options": {"cas": 5}}), 200);
    both(b, a, "secret/data/a");
    change(a, "PATCH secret/metadata/a", &json!({"cas_required": false}), 204);
    both(a, b, "secret/metadata/a");
    change(b, PUT, &json!({"data": {"n": 7}}), 200);
    both(b, a, "secret/data/a");
}

/// Custom metadata, replaced and merged.
fn custom(a: &Host, b: &Host) {
    let set = json!({"custom_metadata": {"owner": "jonas", "place": "rack 2"}});
    change(a, "POST secret/metadata/a", &set, 204);
    both(a, b, "secret/metadata/a");
    let patch = json!({"custom_metadata": {"place": null, "ticket": "17"}});
    change(b, "PATCH secret/metadata/a", &patch, 204);
    let (_, data) = both(b, a, "secret/data/a");
    let custom = &data["data"]["metadata"]["custom_metadata"];
    assert_eq!(custom, &json!({"owner": "jonas", "ticket": "17"}));
}

/// Versions that delete themselves in time, on every host.
fn passing_of_time(a: &Host, b: &Host) {
    change(a, "POST secret/metadata/t", &json!({"delete_version_after": "2s"}), 204);
    change(a, "POST secret/data/t", &json!({"data": {"k": "v"}}), 200);
    for host in [a, b] {
        watch::poll("the version has deleted itself", || {
            let (status, body) = get(host, "secret/data/t");
            let dated = body["data"]["metadata"]["deletion_time"] != "";
            (status == 404 && dated && body["data"]["data"].is_null()).then_some(())
        });
    }
    assert_eq!(both(a, b, "secret/metadata/t").1["data"]["delete_version_after"], "2s");
    change(a, "POST secret/metadata/t", &json!({"delete_version_after": "1h"}), 204);
    change(b, "POST secret/undelete/t", &json!({"versions": [1]}), 204);
    assert_eq!(both(b, a, "secret/data/t").1["data"]["data"]["k"], "v");
}

/// A secret that is dropped goes on counting where it was; mounts come, are set up, and go.
fn dropping(a: &Host, b: &Host) {
    change(a, "POST secret/data/d", &json!({"data": {"k": 1}}), 200);
    both(a, b, "secret/data/d");
    change(a, "DELETE secret/metadata/d", &Value::Null, 204);
    assert_eq!(both(a, b, "secret/metadata/d"), (404, json!({"errors": []})));
    change(b, "POST secret/data/d", &json!({"data": {"k": 2}}), 200);
    assert_eq!(both(b, a, "secret/data/d").1["data"]["metadata"]["version"], 2);

    change(a, "POST sys/mounts/team", &json!({"type": "kv-v2"}), 204);
    let config = json!({"max_versions": 2, "cas_required": true, "delete_version_after": "90m"});
    change(a, "POST team/config", &config, 204);
    let (_, seen) = both(a, b, "team/config");
    assert_eq!(seen["data"]["delete_version_after"], "1h30m0s");
    assert_eq!(ask(b, "POST team/data/x", &json!({"data": {}})).0, 400);
    change(b, "POST team/data/x", &json!({"data": {}, "options": {"cas": 0}}), 200);
    both(b, a, "team/data/x");
    change(a, "POST sys/mounts/old", &json!({"type": "kv-v2"}), 204);
    change(a, "POST old/data/x", &json!({"data": {}}), 200);
    both(a, b, "old/data/x");
    change(a, "DELETE sys/mounts/old", &Value::Null, 204);
    let (status, refused) = both(a, b, "old/data/x");
    let words = "no handler for route \"old/data/x\". route entry not found.";
    assert_eq!((status, refused), (404, json!({"errors": [words]})));
}

const PATHS: &[&str] = &[
    "secret/metadata?list=true",
    "secret/metadata/a",
    "secret/data/a",
    "secret/data/a?version=5",
    "secret/data/a?version=4",
    "secret/subkeys/a",
    "secret/metadata/t",
    "secret/data/t",
    "secret/metadata/d",
    "secret/data/d",
    "team/config",
    "team/metadata/x",
    "team/data/x",
    "old/data/x",
    "sys/mounts",
];

#[test]
fn metadata_is_the_same_on_every_host_and_outlives_restarts() {
    let mut world = World::new(bins!());
    let mut a = world.owner("a");
    let mut b = world.machine(&a, "b", &["*"]);
    let _ = a.vault(&["access", "set", "b", "--read", "*", "--write", "*", "--yes"]).ok();
    watch::poll("b may write", || {
        (ask(&b, "POST secret/data/first", &json!({"data": {}})).0 == 200).then_some(())
    });
    versions(&a, &b);
    check_and_set(&a, &b);
    custom(&a, &b);
    passing_of_time(&a, &b);
    dropping(&a, &b);

    let before: Vec<Answer> = PATHS.iter().map(|path| both(&a, &b, path)).collect();
    a.stop();
    b.stop();
    assert!(world.server.take().unwrap().stop());
    // First from what is on their disks, where old versions' content is not; then with the server.
    for host in [&mut a, &mut b] {
        host.start();
        let held = PATHS.iter().zip(&before).filter(|(path, _)| !path.ends_with("version=5"));
        for (path, before) in held {
            assert_eq!(&get(host, path), before, "{path} on {} alone", host.name);
        }
    }
    world.start();
    for host in [&a, &b] {
        for (path, before) in PATHS.iter().zip(&before) {
            watch::poll(&format!("{path} on {} as before", host.name), || {
                (&get(host, path) == before).then_some(())
            });
        }
    }
    watch::poll("writes go on", || {
        let write = json!({"data": {"n": 8}, "options": {"cas": 7}});
        (ask(&b, PUT, &write).0 == 200).then_some(())
    });
    assert_eq!(both(&b, &a, "secret/data/a").1["data"]["metadata"]["version"], 8);
}
