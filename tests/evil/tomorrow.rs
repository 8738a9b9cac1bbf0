//! A server of tomorrow: it says more than a machine of today understands, and machines pass over
//! that; and the one thing that they must not pass over, a log of a newer format.

use bytes::Bytes;
use serde_json::{Value, json};
use shared::log::Op;
use shared::wire::v1::log::Frame;
use tests::{admin_key, signed_by_admin, watch};

use crate::acts::{self, SECRET, VALUE};
use crate::scene::{SPARE, Scene};
use crate::server::{Asked, Evil, Reply, Told, line, now};

/// Says what a newer server would beside every frame.
fn more_frames(_: &Told, frames: Vec<Frame>) -> Vec<Bytes> {
    let mut lines = vec![Bytes::from_static(b"\"hello\"\n")];
    for frame in frames {
        lines.push(match &frame {
            Frame::Entry { .. } => {
                let mut newer = serde_json::to_value(&frame).unwrap();
                newer["entry"]["newer"] = json!([1, { "two": 2.5 }]);
                format!("{newer}\n").into()
            }
            Frame::Head(_) | Frame::Genesis(_) | Frame::Beat => line(&frame),
        });
        lines.push(Bytes::from_static(b"{\"tick\":{\"head\":{\"seq\":99}}}\n"));
    }
    lines
}

/// Adds fields to every answer but to a signed head, which is what it is.
fn more_fields(told: &mut Told, asked: &Asked<'_>) -> Option<Reply> {
    if asked.what == "GET /v1/log" || asked.what == "POST /v1/log" {
        return None;
    }
    let (status, mut body) = told.reply(asked);
    if let Ok(Value::Object(mut fields)) = serde_json::from_slice(&body) {
        fields.insert("newer".to_owned(), json!({ "n": 1 }));
        if asked.what == "GET /v1/shares" {
            let over = json!({ "machine": 1, "share": "of_tomorrow", "count": 1, "last": 1 });
            fields.insert("over".to_owned(), json!([over]));
            fields.insert("program".to_owned(), json!("vault-server 0.2.0"));
        }
        body = serde_json::to_vec(&fields).unwrap();
    }
    Some((status, body))
}

#[test]
fn a_newer_server_is_followed_and_written_to() {
    let mut scene = Scene::new();
    let truth = scene.truth.clone();
    let newer = Told { stream: more_frames, answer: more_fields, ..truth };
    let evil = Evil::start(scene.world.address(), newer);
    scene.host.start();
    watch::until(&scene.host.env_file(), |text| text.contains("K=three\n"));
    for ran in acts::writes(&scene.host, &scene.line, SPARE) {
        let _ = ran.ok();
    }
    assert_eq!(scene.host.vault(&["kv", "get", "-field=K", SECRET]).ok().trim_end(), "three");
    let _ = scene.host.vault(&["heal"]).ok();
    assert!(scene.alarms().is_empty(), "{:?}", scene.alarms());
    let status = scene.host.vault(&["status", "-format=json"]);
    let status: Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(status["server_program"]["version"], "vault-server 0.2.0");
    let told = scene.host.vault(&["status"]).err;
    assert!(told.contains("programs of 0.2.0, as on the server (as it says),"), "{told}");
    scene.host.stop();
    drop(evil);
}

#[test]
fn a_log_of_a_newer_format_stops_updates_and_takes_nothing() {
    let mut scene = Scene::new();
    let truth = scene.truth.clone();
    let key = admin_key(&scene.host);
    let evil = Evil::start(scene.world.address(), truth.clone());
    scene.host.start();
    let three = watch::until(&scene.host.env_file(), |text| text.contains("K=three\n"));
    drop(evil);

    let mut raised = truth;
    let last = (raised.last() as u64, raised.hash(raised.last()));
    let op = Op::FormatSet { format: 2 };
    raised.log.push(signed_by_admin(&key, raised.vault, last, now(), vec![op]));
    let _evil = Evil::start(scene.world.address(), raised);
    is_stopped("the log is raised", &scene, &three);
    scene.host.agent.as_mut().unwrap().kill();
    scene.host.start();
    is_stopped("killed and started again", &scene, &three);
    scene.host.stop();
}

/// Checks that the log has stopped, and nothing else.
fn is_stopped(name: &str, scene: &Scene, file: &str) {
    scene.await_alarm(name, "E_UPGRADE");
    let told = scene.host.vault(&["status"]);
    let way = "hint: install the newer programs here";
    assert!(told.code == 2 && told.err.contains(way), "{name}: {}", told.err);
    assert!(told.err.contains("format 2, this program knows 1"), "{name}: {}", told.err);
    assert_eq!(scene.target(), file.as_bytes(), "{name}: the target stays");
    let got = scene.host.vault(&["kv", "get", "-field=K", SECRET]);
    assert_eq!(got.ok().trim_end(), "three", "{name}: from the cache");
    let put = scene.host.vault(&["kv", "put", SECRET, &format!("K={VALUE}")]);
    assert!(put.code != 0 && put.err.contains("E_UPGRADE"), "{name}: {}", put.err);
}
