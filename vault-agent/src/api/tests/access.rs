//! Who is let in, what he may do, what is written down of it, and what works without the server.

use super::World;

#[tokio::test]
async fn loopback_callers_show_the_token() {
    let w = World::on_loopback().await;
    let token = w.token();
    let read = "GET /v1/secret/metadata?list=true";
    let denied = r#"{"errors":["permission denied"]}"#;
    w.is(read, "", 403, denied).await;
    w.is("GET /v1/nowhere/x", "", 403, denied).await;
    w.is("GET /v1/auth/token/lookup-self", "", 403, denied).await;
    for open in
        ["sys/health", "sys/seal-status", "sys/leader", "sys/init", "sys/internal/ui/mounts"]
    {
        w.is(&format!("GET /v1/{open}"), "", 200, "{}").await;
    }
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
async fn wrong_tokens_are_slow() {
    let w = World::on_loopback().await;
    let start = std::time::Instant::now();
    let (status, _) = w.with("x-vault-token", "wrong", "GET /v1/secret/data/x", "").await;
    assert!(status == 403 && start.elapsed().as_millis() >= 250);
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
    w.is(make, "{}", 400, r#"{"errors":["*"]}"#).await;
    w.is(make, r#"{"path":"secret/app/","capabilities":["sudo"]}"#, 400, r#"{"errors":["*"]}"#)
        .await;
    w.is(make, r#"{"path":"secret/app/","ttl":"-1h"}"#, 400, r#"{"errors":["*"]}"#).await;
    let reader = w.make_token(r#"{"path":"secret/app/","ttl":"1h","display_name":"web"}"#).await;
    let writer = w
        .make_token(r#"{"path":["secret/app/","secret/new"],"capabilities":["read","write"]}"#)
        .await;
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
    let (_, text) = w.with("x-vault-token", &reader, "GET /v1/auth/token/lookup-self", "").await;
    assert!(
        text.contains(r#""display_name":"web""#) && text.contains(r#""creation_ttl":3600"#),
        "{text}"
    );
    w.is("LIST /v1/auth/token/accessors", "", 200, r#"{"data":{"keys":["*","*"]}}"#).await;
    w.is(
        "POST /v1/auth/token/lookup",
        &format!(r#"{{"token":"{reader}"}}"#),
        200,
        r#"{"data":{"display_name":"web"}}"#,
    )
    .await;
    w.is("POST /v1/auth/token/revoke", &format!(r#"{{"token":"{reader}"}}"#), 204, "").await;
    w.is(
        "POST /v1/auth/token/lookup",
        &format!(r#"{{"token":"{reader}"}}"#),
        400,
        r#"{"errors":["*"]}"#,
    )
    .await;
    assert_eq!(
        w.with("x-vault-token", &writer, "POST /v1/auth/token/revoke-self", "").await.0,
        204
    );
    w.is("LIST /v1/auth/token/accessors", "", 404, r#"{"errors":[]}"#).await;
}

#[tokio::test]
async fn a_machine_does_what_its_grants_say() {
    let w = World::with_grants(&["secret/app/"], &["secret/app/own"]).await;
    let denied = r#"{"errors":["permission denied"]}"#;
    for (request, body, status) in [
        ("GET /v1/secret/data/app/x", "", 404),
        ("GET /v1/secret/data/home/x", "", 403),
        ("GET /v1/secret/metadata/home/x", "", 403),
        ("GET /v1/secret/subkeys/home/x", "", 403),
        ("POST /v1/secret/data/app/own", r#"{"data":{}}"#, 200),
        ("POST /v1/secret/data/app/x", r#"{"data":{}}"#, 403),
        ("PATCH /v1/secret/data/app/x", r#"{"data":{}}"#, 403),
        ("DELETE /v1/secret/data/app/x", "", 403),
        ("POST /v1/secret/delete/app/x", r#"{"versions":[1]}"#, 403),
        ("POST /v1/secret/destroy/app/x", r#"{"versions":[1]}"#, 403),
        ("POST /v1/secret/metadata/app/x", r#"{"max_versions":1}"#, 403),
        ("DELETE /v1/secret/metadata/app/x", "", 403),
        ("POST /v1/secret/config", r#"{"max_versions":1}"#, 403),
        ("POST /v1/sys/mounts/new", r#"{"type":"kv"}"#, 403),
        ("LIST /v1/secret/metadata", "", 200),
    ] {
        let expected = if status == 403 { denied } else { "{}" };
        w.is(request, body, status, expected).await;
    }
}

#[tokio::test]
async fn reads_are_written_down_before_they_are_answered() {
    let w = World::with_grants(&["secret/app/"], &["secret/app/"]).await;
    w.is("POST /v1/secret/data/app/x", r#"{"data":{}}"#, 200, "{}").await;
    for (request, line) in [
        ("GET /v1/secret/data/app/x", "read secret/app/x 1 ok"),
        ("GET /v1/secret/data/app/x?version=7", "read secret/app/x 7 missing"),
        ("GET /v1/secret/subkeys/app/x", "subkeys secret/app/x 1 ok"),
        ("GET /v1/secret/metadata/app/x", "metadata secret/app/x 0 ok"),
        ("GET /v1/secret/data/home/x", "read secret/home/x 0 denied"),
        ("DELETE /v1/secret/data/home/x", "delete secret/home/x 0 denied"),
        ("LIST /v1/secret/metadata", "list secret/* 0 ok"),
        ("LIST /v1/secret/metadata/none", "list secret/none/* 0 missing"),
    ] {
        w.text(request, "").await;
        let (last, who) = w.last_access().await;
        assert_eq!(last, line, "{request}");
        assert!(who.contains(&format!("[{}] uid ", std::process::id())), "{who}");
    }
    let w = World::on_loopback().await;
    w.is("GET /v1/secret/data/app/x", "", 403, "{}").await;
    assert_eq!(w.last_access().await.0, "read secret/app/x 0 denied");
}

#[tokio::test]
async fn without_the_server_reads_go_on_and_writes_fail_at_once() {
    let w = World::new().await;
    w.is("POST /v1/secret/data/x", r#"{"data":{"k":1}}"#, 200, "{}").await;
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
        let (status, text) = w.text(request, body).await;
        assert_eq!(status, 503, "{request}");
        assert!(text.contains("the server cannot be reached: "), "{text}");
    }
    w.is("GET /v1/sys/health", "", 200, r#"{"sealed":false}"#).await;
    w.is("GET /v1/agent/status", "", 200, r#"{"online":false}"#).await;
}
