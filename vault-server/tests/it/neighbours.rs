//! Programs of other versions: what a newer machine adds is passed over, and a log that only a
//! newer server can judge is left as it is.

use hyper::{Method, StatusCode};
use rusqlite::Connection;
use serde_json::{Value, json};
use shared::hash::Hash;
use shared::log::Op;
use shared::signed::Purpose;
use shared::wire::v1::audit::AccessRequest;
use shared::wire::v1::log::{AppendRequest, HealRequest};
use shared::wire::v1::shares::SharesReply;
use shared::wire::v1::{ACCESS, AUDIT, HEAL, LOG, REPORT, SHARES, TARGETS};

use crate::client::{parse, refused};
use crate::world::{Running, World, post};

/// Writes a body as a machine of tomorrow does.
fn newer(body: &impl serde::Serialize) -> Value {
    let mut body = serde_json::to_value(body).unwrap();
    body["newer"] = json!({ "n": [1, 2.5], "deep": { "er": null } });
    body
}

#[tokio::test]
async fn what_a_newer_machine_adds_is_passed_over() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let (op, _) = world.put("secret/a", "one");
    let blob = op.blob().unwrap();
    let (op, bytes) = world.put("secret/a", "one");
    assert_ne!(op.blob(), Some(blob));
    let envelope = world.by_first(vec![op]);
    let blobs = vec![shared::wire::v1::blob::Inline(bytes)];
    let append = newer(&AppendRequest { envelope: envelope.clone(), blobs, code: None });
    let (status, body) = client.post(LOG, &append).await;
    assert_eq!(status, StatusCode::CREATED, "{body:?}");
    shared::log::apply(&mut world.state, &envelope).unwrap();
    world.heads.push(parse(&body));

    let report = world.report(&world.first, &world.seen(&world.first, 1));
    let access = AccessRequest { run: Hash::of(&[b"run"]), first: 1, reads: Vec::new() };
    let heal = HealRequest::default();
    for (route, body) in [(REPORT, newer(&report)), (ACCESS, newer(&access)), (HEAL, newer(&heal))]
    {
        let (status, body) = client.post(route, &body).await;
        assert_eq!(status, StatusCode::OK, "{route}: {body:?}");
    }
    for query in
        [format!("{LOG}?after=0"), format!("{TARGETS}?after=0"), format!("{AUDIT}?limit=9")]
    {
        let (status, body) = client.get(&format!("{query}&newer=1")).await;
        assert_eq!(status, StatusCode::OK, "{query}: {body:?}");
    }
    // A route that it does not know is no secret and no failure.
    let unknown = client.call(Method::POST, "/v1/of-tomorrow", "{}".into()).await;
    assert_eq!(refused(unknown), (404, "not_found".to_owned()));
    let unknown = client.call(Method::DELETE, REPORT, "{}".into()).await;
    assert_eq!(refused(unknown), (405, "method_not_allowed".to_owned()));
}

#[tokio::test]
async fn a_server_names_its_program() {
    let world = World::new().await;
    let client = world.client(&world.first).await;
    let said: SharesReply = client.fetch(SHARES).await;
    let program = said.program.unwrap().to_string();
    assert_eq!(program, format!("vault-server {}", host::version::own()));
    assert_eq!(said.replaced, None, "nobody has noted which file this is");
}

#[tokio::test]
async fn a_format_that_it_does_not_know_is_refused_and_one_that_is_there_stops_it() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    world.write(&client, "secret/a", "one").await;
    let raise = world.by_admin(vec![Op::FormatSet { format: 2 }]);
    let answer = post(&client, &raise, vec![]).await;
    assert_eq!(refused(answer), (422, "E_UPGRADE".to_owned()));
    world.write(&client, "secret/a", "two").await;

    let file = world.config.data.join("vault.db");
    let raise = world.by_admin(vec![Op::FormatSet { format: 2 }]);
    let hash = raise.hash(Purpose::Entry(world.state.vault()));
    let seq = i64::try_from(world.state.seq() + 1).unwrap();
    world.server.stop().await;
    // As a newer server has left it.
    let conn = Connection::open(&file).unwrap();
    let insert = "INSERT INTO log (seq, hash, by, body, sig) VALUES (?1, ?2, ?3, ?4, ?5)";
    let (by, sig) = (raise.by.to_string(), raise.sig.as_bytes());
    conn.execute(insert, (seq, hash.as_bytes(), by, &raise.body, sig)).unwrap();
    drop(conn);
    let before = std::fs::read(&file).unwrap();
    let fault = Running::start(world.config.clone()).await.fault().await;
    let told = format!(
        "entry {seq} of the log was written for a newer program (E_UPGRADE: format 2, this program \
         knows 1)"
    );
    assert!(fault.ends_with(&told), "{fault}");
    assert_eq!(std::fs::read(&file).unwrap(), before, "nothing is changed");

    let conn = Connection::open(&file).unwrap();
    conn.execute("DELETE FROM log WHERE seq = ?1", [seq]).unwrap();
    drop(conn);
    world.server = Running::start(world.config.clone()).await;
    let client = world.client(&world.first).await;
    world.write(&client, "secret/a", "three").await;
}
