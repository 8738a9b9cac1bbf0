//! Who is let in, what he may do, what is written down of it, and what works without the server.

use std::path::Path;

use axum::body::Body;
use axum::http::Request;

use super::World;
use crate::api::caller::{Gate, Peer};
use crate::api::context::Api;
use crate::api::envelope::ApiAnswer;
use crate::api::route::answer;
use crate::api::tokens::Tokens;
use crate::engine::Engine;
use crate::engine::tests::Lone;
use machine::config::{self, Allow};
use machine::paths::Paths;

#[tokio::test]
async fn loopback_callers_show_the_token() {
    let w = World::on_loopback().await;
    let token = w.token();
    let read = "GET /v1/secret/metadata?list=true";
    w.are(
        r##"
            GET /v1/secret/metadata?list=true => 403 "permission denied"
            GET /v1/nowhere/x => 403 "permission denied"
            GET /v1/auth/token/lookup-self => 403 "permission denied"
            GET /v1/sys/health => 200 {}
            GET /v1/sys/seal-status => 200 {}
            GET /v1/sys/leader => 200 {}
            GET /v1/sys/init => 200 {}
            GET /v1/sys/internal/ui/mounts => 200 {"data":{"auth":{},"secret":{}}}
            GET /v1/sys/internal/ui/mounts/secret => 403 "permission denied"
        "##,
    )
    .await;
    for (name, value, status) in [
        ("x-vault-token", "wrong", 403),
        ("x-vault-token", &*token, 404),
        ("authorization", &format!("Bearer {token}"), 404),
        ("authorization", &format!("Basic {token}"), 403),
    ] {
        assert_eq!(w.with(name, value, read, "").await.0, status, "{name}: {value}");
    }
}

#[tokio::test]
async fn loopback_may_be_trusted() {
    let w = World::on_trusted_loopback().await;
    w.are(r#"GET /v1/auth/token/lookup-self => 200 {"data":{"id":""}}"#).await;
    for (name, value) in [("x-vault-token", "any"), ("authorization", "Bearer any")] {
        assert_eq!(w.with(name, value, "LIST /v1/secret/metadata", "").await.0, 404, "{name}");
    }
}

#[tokio::test]
async fn wrong_tokens_are_slow() {
    let w = World::on_loopback().await;
    let start = std::time::Instant::now();
    let (status, _) = w.with("x-vault-token", "wrong", "GET /v1/secret/data/x", "").await;
    assert!(status == 403 && start.elapsed().as_millis() >= 250);
}

#[tokio::test]
async fn strangers_on_the_socket_need_a_token() {
    let owner = World::new().await;
    let token = owner.make_token(r#"{"path":"secret/app/"}"#).await;
    let stranger = owner.as_stranger();
    let read = "GET /v1/secret/data/app/x";
    stranger.are(r#"GET /v1/secret/data/app/x => 403 "permission denied""#).await;
    stranger.are(r#"GET /v1/sys/health => 200 {}"#).await;
    assert_eq!(stranger.with("x-vault-token", &token, read, "").await.0, 404);
    assert_eq!(owner.with("x-vault-token", "vltp.ended", read, "").await.0, 403);
}

#[test]
fn only_users_and_groups_of_this_host_are_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let open = |allow: Allow| {
        let options = config::Api { allow: vec![allow], ..config::Api::default() };
        Gate::open(&options, Path::new("/"), Tokens::open(folder.path()).unwrap())
    };
    let user = open(Allow::User("no-such-user".to_owned()));
    assert_eq!(user.unknown, ["user `no-such-user`, who does not exist"]);
    let group = open(Allow::Group("no-such-group".to_owned()));
    assert_eq!(group.unknown, ["group `@no-such-group`, which does not exist"]);
    for gate in [user, group] {
        assert!(!gate.is_shared() && matches!(gate.peer(None, 7, 7), Peer::Stranger(_)));
    }
    let gate = open(Allow::Group("54321".to_owned()));
    assert!(gate.unknown.is_empty());
    assert!(gate.is_shared());
    for (uid, gid, stranger) in [(0, 7, false), (7, 54321, false), (7, 7, true)] {
        let peer = gate.peer(None, uid, gid);
        assert_eq!(matches!(peer, Peer::Stranger(_)), stranger, "{uid} {gid}");
    }
}

#[tokio::test]
async fn web_pages_are_refused() {
    let w = World::on_loopback().await;
    let health = "GET /v1/sys/health";
    for (name, value, status) in [
        ("origin", "http://localhost", 403),
        ("origin", "null", 403),
        ("host", "evil.example", 403),
        ("host", "evil.example:8200", 403),
        ("host", "127.0.0.1:8200", 200),
        ("host", "localhost:8200", 200),
        ("host", "[::1]:8200", 200),
        ("sec-fetch-mode", "cors", 200),
        ("x-vault-namespace", "", 200),
    ] {
        assert_eq!(w.with(name, value, health, "").await.0, status, "{name}: {value}");
    }
    let w = World::new().await;
    assert_eq!(w.with("origin", "http://x", health, "").await.0, 403);
    assert_eq!(w.with("host", "whatever", health, "").await.0, 200);
}

#[tokio::test]
async fn tokens_for_programs_reach_as_far_as_they_say() {
    let w = World::new().await;
    for path in ["app/x", "other/x"] {
        w.is(&format!("POST /v1/secret/data/{path}"), r#"{"data":{"k":1}}"#, 200, "{}").await;
    }
    let make = "POST /v1/auth/token/create";
    w.are(
        r##"
            POST /v1/auth/token/create {"path":"secret/app/","capabilities":["sudo"]} => 400 "*"
            POST /v1/auth/token/create {"path":"secret/app/","ttl":"-1h"} => 400 "*"
        "##,
    )
    .await;
    let reader = w.make_token(r#"{"path":"secret/app/","ttl":"1h","display_name":"web"}"#).await;
    let both = r#"{"path":["secret/app/","secret/new"],"capabilities":["read","write"]}"#;
    let writer = w.make_token(both).await;
    for (request, body, as_reader, as_writer) in [
        ("GET /v1/secret/data/app/x", "", 200, 200),
        ("GET /v1/secret/metadata/app/x", "", 200, 200),
        ("GET /v1/secret/data/other/x", "", 403, 403),
        ("LIST /v1/secret/metadata/app", "", 200, 200),
        ("LIST /v1/secret/metadata", "", 403, 403),
        ("POST /v1/secret/data/app/x", r#"{"data":{}}"#, 403, 200),
        ("POST /v1/secret/data/new", r#"{"data":{}}"#, 403, 200),
        ("POST /v1/secret/data/other/x", r#"{"data":{}}"#, 403, 403),
        ("POST /v1/secret/config", "{}", 403, 403),
        ("POST /v1/sys/mounts/x", r#"{"type":"kv"}"#, 403, 403),
        (make, r#"{"path":"*"}"#, 403, 403),
        ("LIST /v1/auth/token/accessors", "", 403, 403),
        ("GET /v1/agent/status", "", 403, 403),
        ("GET /v1/auth/token/lookup-self", "", 200, 200),
    ] {
        assert_eq!(w.with("x-vault-token", &reader, request, body).await.0, as_reader, "{request}");
        assert_eq!(w.with("x-vault-token", &writer, request, body).await.0, as_writer, "{request}");
    }
    let lookup = "GET /v1/auth/token/lookup-self";
    let (_, text) = w.with("x-vault-token", &reader, lookup, "").await;
    assert!(text.contains(r#""display_name":"web""#), "{text}");
    assert!(text.contains(r#""creation_ttl":3600"#), "{text}");
    w.are(&format!(
        r##"
            LIST /v1/auth/token/accessors => 200 {{"data":{{"keys":["*","*"]}}}}
            POST /v1/auth/token/lookup {{"token":"{reader}"}} => 200 {{"data":{{"display_name":"web"}}}}
            POST /v1/auth/token/revoke {{"token":"{reader}"}} => 204
            POST /v1/auth/token/lookup {{"token":"{reader}"}} => 403 "bad token"
            POST /v1/auth/token/lookup => 200 {{"data":{{"policies":["machine"]}}}}
        "##
    ))
    .await;
    let revoke = "POST /v1/auth/token/revoke-self";
    assert_eq!(w.with("x-vault-token", &writer, revoke, "").await.0, 204);
    w.are(r#"LIST /v1/auth/token/accessors => 404 []"#).await;
}

#[tokio::test]
async fn a_child_token_has_its_parents_rights_and_time() {
    let w = World::new().await;
    w.is("POST /v1/secret/data/app/x", r#"{"data":{"k":1}}"#, 200, "{}").await;
    let create = "POST /v1/auth/token/create";
    let made = |text: &str| -> (String, serde_json::Value) {
        let answer: serde_json::Value = serde_json::from_str(text).unwrap();
        (answer["auth"]["client_token"].as_str().unwrap().to_owned(), answer)
    };
    let limited = r#"{"path":"secret/app/","ttl":"1h"}"#;
    let parent = w.make_token(limited).await;
    let (status, text) = w.with("x-vault-token", &parent, create, r#"{"ttl":"24h"}"#).await;
    assert_eq!(status, 200, "{text}");
    let (child, answer) = made(&text);
    let left = answer["auth"]["lease_duration"].as_u64().unwrap();
    assert!((3590..=3600).contains(&left), "{text}");
    assert_eq!(answer["auth"]["orphan"], false);
    for (request, body, status) in [
        ("GET /v1/secret/data/app/x", "", 200),
        ("POST /v1/secret/data/app/x", r#"{"data":{}}"#, 403),
        ("GET /v1/secret/data/other", "", 403),
        (create, r#"{"path":"secret/app/x"}"#, 200),
        (create, r#"{"path":"secret/apple"}"#, 403),
        (create, r#"{"path":["secret/app/x","*"]}"#, 403),
        (create, r#"{"capabilities":["write"]}"#, 403),
        (create, r#"{"no_parent":true}"#, 400),
        (
            create,
            r#"{"explicit_max_ttl":"10s","policies":["token","default"],"meta":{"a":"b"}}"#,
            200,
        ),
    ] {
        let (got, text) = w.with("x-vault-token", &child, request, body).await;
        assert_eq!(got, status, "{request} {body}: {text}");
    }
    w.are(
        r##"
            POST /v1/auth/token/create {"num_uses":1} => 400 "*"
            POST /v1/auth/token/create {"period":"1h"} => 400 "*"
            POST /v1/auth/token/create {"type":"batch"} => 400 "*"
            POST /v1/auth/token/create {"id":"mine"} => 400 "*"
            POST /v1/auth/token/create {"policies":["admins"]} => 400 "*"
        "##,
    )
    .await;
    let revoke = "POST /v1/auth/token/revoke-self";
    assert_eq!(w.with("x-vault-token", &parent, revoke, "").await.0, 204);
    let read = "GET /v1/secret/data/app/x";
    assert_eq!(w.with("x-vault-token", &child, read, "").await.0, 403);
}

/// What the provider of Terraform sends, in its order: `provider/meta.go` of
/// terraform-provider-vault, then a data source and a resource of KV v2.
#[tokio::test]
async fn terraforms_provider_works_with_its_child_token() {
    let w = World::on_loopback().await;
    let token = w.token();
    let send = async |token: &str, request: &str, body: &str, expected: u16| {
        let (status, text) = w.with("x-vault-token", token, request, body).await;
        assert_eq!(status, expected, "{request}: {text}");
        serde_json::from_str::<serde_json::Value>(&text).unwrap_or_default()
    };
    send(&token, "GET /v1/auth/token/lookup-self", "", 200).await;
    let wish = concat!(
        r#"{"ttl":"1200s","explicit_max_ttl":"1200s","period":"","display_name":"terraform","#,
        r#""num_uses":0,"renewable":false,"type":"","entity_alias":""}"#,
    );
    let made = send(&token, "PUT /v1/auth/token/create", wish, 200).await;
    assert_eq!(made["auth"]["lease_duration"], 1200);
    assert_eq!(made["auth"]["renewable"], false);
    assert!(made["auth"]["policies"][0].is_string());
    let child = made["auth"]["client_token"].as_str().unwrap();
    let seal = send(child, "GET /v1/sys/seal-status", "", 200).await;
    let version = seal["version"].as_str().unwrap();
    let numbers = version.split('+').next().unwrap().split('.');
    assert_eq!(numbers.map(|part| part.parse::<u32>().is_ok()).collect::<Vec<_>>(), [true; 3]);
    let mount = concat!(
        r#"{"type":"kv-v2","description":"","config":{"default_lease_ttl":"0s","#,
        r#""max_lease_ttl":"0s"},"local":false,"options":null}"#,
    );
    send(child, "POST /v1/sys/mounts/terraform", mount, 204).await;
    send(child, "GET /v1/sys/mounts/terraform", "", 200).await;
    send(child, "PUT /v1/terraform/config", r#"{"max_versions":5}"#, 204).await;
    let data = r#"{"data":{"zip":"zap"},"options":{"cas":0}}"#;
    send(child, "PUT /v1/terraform/data/app", data, 200).await;
    let read = send(child, "GET /v1/terraform/data/app", "", 200).await;
    assert_eq!(read["data"]["data"]["zip"], "zap");
    send(child, "GET /v1/terraform/metadata/app", "", 200).await;
    send(child, "DELETE /v1/terraform/metadata/app", "", 204).await;
    let itself = send(child, "GET /v1/auth/token/lookup-self", "", 200).await;
    assert_eq!(itself["data"]["display_name"], "terraform");
    send(child, "PUT /v1/auth/token/revoke-self", "", 204).await;
    send(child, "GET /v1/terraform/data/app", "", 403).await;
}

#[tokio::test]
async fn an_answer_that_was_to_be_wrapped_is_none() {
    let w = World::new().await;
    w.is("POST /v1/secret/data/x", r#"{"data":{"k":"open"}}"#, 200, "{}").await;
    let read = "GET /v1/secret/data/x";
    for (ttl, expected) in [("60s", 400), ("60", 400), ("0", 200), ("0s", 200), ("", 200)] {
        let (status, text) = w.with("X-Vault-Wrap-TTL", ttl, read, "").await;
        assert_eq!((status, text.contains("open")), (expected, expected == 200), "{ttl}: {text}");
    }
    let (_, text) = w.with("x-vault-wrap-ttl", "1h", "POST /v1/auth/token/create", "{}").await;
    assert!(text.contains("not wrapped") && !text.contains("client_token"), "{text}");
}

#[tokio::test]
async fn a_machine_with_other_keys_is_told_why_it_may_nothing() {
    let w = World::with_grants(&[], &[]).await;
    w.substitute();
    for request in ["GET /v1/secret/data/app/x", "PUT /v1/secret/data/app/x"] {
        let (status, text) = w.text(request, r#"{"data":{}}"#).await;
        assert_eq!(status, 403, "{text}");
        assert!(text.contains("permission denied: E_JOIN_SUBSTITUTED: the vault does"), "{text}");
        assert!(text.contains("hint: `vault status`"), "{text}");
    }
}

#[tokio::test]
async fn a_machine_does_what_its_grants_say() {
    let w = World::with_grants(&["secret/app/"], &["secret/app/own"]).await;
    w.are(
        r##"
            GET /v1/secret/data/app/x => 404 []
            GET /v1/secret/data/home/x => 403 "permission denied*"
            GET /v1/secret/metadata/home/x => 403 "permission denied*"
            GET /v1/secret/subkeys/home/x => 403 "permission denied*"
            LIST /v1/secret/metadata => 404 []
            POST /v1/secret/data/app/own {"data":{}} => 200 {}
            LIST /v1/secret/metadata => 200 {"data":{"keys":["app/"]}}
            POST /v1/secret/data/app/x {"data":{}} => 403 "permission denied*"
            PATCH /v1/secret/data/app/x {"data":{}} => 403 "permission denied*"
            DELETE /v1/secret/data/app/x => 403 "permission denied*"
            POST /v1/secret/delete/app/x {"versions":[1]} => 403 "permission denied*"
            POST /v1/secret/undelete/app/x {"versions":[1]} => 403 "permission denied*"
            POST /v1/secret/destroy/app/x {"versions":[1]} => 403 "permission denied*"
            POST /v1/secret/metadata/app/x {"max_versions":1} => 403 "permission denied*"
            PATCH /v1/secret/metadata/app/x {"max_versions":1} => 403 "permission denied*"
            DELETE /v1/secret/metadata/app/x => 403 "permission denied*"
            POST /v1/secret/config {"max_versions":1} => 403 "permission denied"
            POST /v1/sys/mounts/new {"type":"kv"} => 403 "permission denied"
            GET /v1/agent/audit => 403 "this machine has no read grant on `sys/audit`*"
        "##,
    )
    .await;
    let told = async |request| {
        let (_, text) = w.text(request, r#"{"data":{}}"#).await;
        let text = text.trim_end().trim_end_matches("\"]}");
        text.split("where the admin key is: ").nth(1).unwrap_or_default().to_owned()
    };
    // All that it has, and the one that it lacks.
    assert_eq!(
        told("GET /v1/secret/data/home/x").await,
        "`vault access set here --read secret/app/,secret/home/x --write secret/app/own`"
    );
    assert_eq!(
        told("PUT /v1/secret/data/app/x").await,
        "`vault access set here --read secret/app/ --write secret/app/own,secret/app/x`"
    );
}

#[tokio::test]
async fn an_audit_log_that_cannot_be_reached_is_told_with_what_works_without_it() {
    let w = World::new().await;
    w.lose_server().await;
    for path in ["/v1/agent/audit", "/v1/agent/audit/verify"] {
        let (status, text) = w.text(&format!("GET {path}"), "").await;
        assert_eq!(status, 502, "{text}");
        assert!(
            text.contains("the audit log lives on the server, which cannot be asked: "),
            "{text}"
        );
        let address = w.engine().status().server.unwrap();
        assert!(text.contains(&address), "{address}: {text}");
        assert!(text.contains("\\nhint: `vault status` says since when; `vault kv get`"), "{text}");
    }
}

#[tokio::test]
async fn reads_are_written_down_before_they_are_answered() {
    let w = World::with_grants(&["secret/app/"], &["secret/app/"]).await;
    w.are(r#"POST /v1/secret/data/app/x {"data":{}} => 200 {}"#).await;
    for (request, line) in [
        ("GET /v1/secret/data/app/x", "local_read secret/app/x 1 ok"),
        ("GET /v1/secret/data/app/x?version=7", "local_read secret/app/x 7 missing"),
        ("GET /v1/secret/subkeys/app/x", "local_subkeys secret/app/x 1 ok"),
        ("GET /v1/secret/metadata/app/x", "local_metadata secret/app/x 0 ok"),
        ("GET /v1/secret/data/home/x", "local_read secret/home/x 0 denied"),
        ("DELETE /v1/secret/data/home/x", "local_delete secret/home/x 0 denied"),
        ("LIST /v1/secret/metadata", "local_list secret/* 0 ok"),
        ("LIST /v1/secret/metadata/none", "local_list secret/none/* 0 missing"),
    ] {
        w.text(request, "").await;
        let (last, who) = w.last_access().await;
        assert_eq!(last, line, "{request}");
        assert!(who.contains(&format!("[{}] uid ", std::process::id())), "{who}");
    }
    let w = World::on_loopback().await;
    w.are(r#"GET /v1/secret/data/app/x => 403 {}"#).await;
    assert_eq!(w.last_access().await.0, "local_read secret/app/x 0 denied");
}

#[tokio::test]
async fn without_the_server_reads_go_on_and_writes_fail_at_once() {
    let w = World::new().await;
    w.are(r#"POST /v1/secret/data/x {"data":{"k":1}} => 200 {}"#).await;
    let read = w.answer("GET", "/v1/secret/data/x", &[], "").await;
    assert!(!read.headers().contains_key("x-vault-cache-age"));
    w.lose_server().await;
    for path in ["data/x", "metadata/x", "metadata?list=true", "subkeys/x"] {
        let read = w.answer("GET", &format!("/v1/secret/{path}"), &[], "").await;
        assert_eq!(read.status(), 200, "{path}");
        assert!(read.headers()["x-vault-cache-age"].to_str().unwrap().parse::<u64>().unwrap() < 60);
    }
    for (request, body) in [
        ("POST /v1/secret/data/x", r#"{"data":{}}"#),
        ("PATCH /v1/secret/data/x", r#"{"data":{}}"#),
        ("DELETE /v1/secret/data/x", ""),
        ("POST /v1/secret/metadata/x", r#"{"max_versions":1}"#),
        ("POST /v1/secret/config", r#"{"max_versions":1}"#),
    ] {
        let (method, path) = request.split_once(' ').unwrap();
        let refused = w.answer(method, path, &[], body).await;
        assert_eq!(refused.status(), 503, "{request}");
        assert_eq!(refused.headers()["retry-after"], "0", "{request}");
        let (_, text) = w.text(request, body).await;
        assert!(text.contains("the server cannot be reached: "), "{text}");
    }
    w.are(
        r##"
            GET /v1/sys/health => 200 {"sealed":false}
            GET /v1/agent/status => 200 {"online":false}
        "##,
    )
    .await;
}

#[tokio::test]
async fn without_an_agent_the_same_api_answers_in_process() {
    async fn ask(engine: Engine, paths: &Paths, method: &str, body: &'static str) -> ApiAnswer {
        let api = Api::open(engine, paths, &config::Api::default(), None).unwrap();
        let request = Request::builder().method(method).uri("/v1/secret/data/x");
        answer(&api, &Peer::inside(), request.body(Body::from(body)).unwrap()).await
    }
    let mut lone = Lone::new("here", &["*"], &["*"]).await;
    let put = r#"{"data":{"k":1}}"#;
    assert_eq!(ask(lone.engine(), &lone.paths(), "POST", put).await.status(), 200);
    let paths = lone.stop().await;

    let engine = Engine::open(&paths).unwrap();
    engine.connect_once(&[]).await.unwrap();
    let read = ask(engine.clone(), &paths, "GET", "").await;
    assert!(read.status() == 200 && !read.headers().contains_key("x-vault-cache-age"));
    assert_eq!(ask(engine, &paths, "POST", put).await.status(), 200);
}

#[tokio::test]
async fn writes_are_written_down_with_their_process_before_they_are_answered() {
    let w = World::with_grants(&["secret/app/"], &["secret/app/"]).await;
    for (request, body, line) in [
        ("POST /v1/secret/data/app/x", r#"{"data":{"a":"b"}}"#, "local_put secret/app/x 1 ok"),
        ("PUT /v1/secret/data/app/x", r#"{"data":{}}"#, "local_put secret/app/x 2 ok"),
        (
            "POST /v1/secret/metadata/app/x",
            r#"{"max_versions":3}"#,
            "local_meta_set secret/app/x 0 ok",
        ),
        ("DELETE /v1/secret/data/app/x", "", "local_delete secret/app/x 2 ok"),
        (
            "POST /v1/secret/undelete/app/x",
            r#"{"versions":[2]}"#,
            "local_undelete secret/app/x 2 ok",
        ),
        ("DELETE /v1/secret/metadata/app/x", "", "local_forget secret/app/x 0 ok"),
    ] {
        w.text(request, body).await;
        let (last, who) = w.last_access().await;
        assert_eq!(last, line, "{request}");
        assert!(who.contains(&format!("[{}] uid ", std::process::id())), "{who}");
    }
}
