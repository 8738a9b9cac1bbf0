//! Why callers ask: every route says whether it wants to know, and no reason tells a value.

use shared::audit::Outcome;

use super::World;
use crate::api::request::Verb;
use crate::api::routes::{AGENT, AUTH, KV, Route, SYS, Why};

const REASON: &str = "x-vault-reason";

fn request(prefix: &str, route: &Route) -> String {
    let method = match route.verb {
        Verb::Read => "GET",
        Verb::List => "LIST",
        Verb::Write => "POST",
        Verb::Patch => "PATCH",
        Verb::Delete => "DELETE",
        Verb::Head => "HEAD",
    };
    let path = route.path.replace('*', "secret");
    let name = if prefix == "secret" && path != "config" { "/a" } else { "" };
    let query = if matches!(route.why, Why::ForPath(_)) { "?path=secret/a" } else { "" };
    format!("{method} /v1/{prefix}/{path}{name}{query}")
}

#[tokio::test]
async fn every_route_says_whether_it_wants_a_reason() {
    let w = World::demanding().await;
    // The mount is dropped at last.
    for (prefix, list) in [("secret", KV), ("auth", AUTH), ("agent", AGENT), ("sys", SYS)] {
        for route in list {
            let (request, wants) =
                (request(prefix, route), matches!(route.why, Why::Wanted(_) | Why::ForPath(_)));
            let (status, text) = w.text(&request, "").await;
            assert_eq!(text.contains("a reason is wanted of"), wants, "{request}: {text}");
            assert!(!wants || status == 403, "{request}: {status}");
            let (_, given) = w.with(REASON, "the walk", &request, "").await;
            for text in [text, given] {
                assert!(!text.contains("unsupported"), "{request}: {text}");
                assert!(!wants || !text.contains("hunter2"), "{request}: {text}");
            }
        }
    }
    let refused = w.accesses().await;
    let refused = refused.iter().filter(|fact| fact.result == Outcome::NoReason);
    let paths: Vec<String> = refused.map(|fact| fact.path.as_ref().unwrap().to_string()).collect();
    for path in ["secret/a", "secret/*", "auth/token/create", "agent/set-aside", "agent/ui"] {
        assert!(paths.iter().any(|known| known == path), "{path}: {paths:?}");
    }
}

#[tokio::test]
async fn no_reason_tells_a_value() {
    let w = World::new().await;
    for (path, body) in [
        ("a", r#"{"data":{"k":"hunter2hunter2","n":4915112345678}}"#),
        ("a", r#"{"data":{"k":"swordfish9swordfish","n":4915112345678}}"#),
        ("b", r#"{"data":{"u":"postgres://app:x7Yk2pQ9Zk@localhost/db"}}"#),
    ] {
        w.is(&format!("POST /v1/secret/data/{path}"), body, 200, "{}").await;
    }
    for (request, body) in [
        ("GET /v1/secret/data/a", ""),
        ("GET /v1/secret/metadata/a", ""),
        ("LIST /v1/secret/metadata", ""),
        ("GET /v1/secret/subkeys/a", ""),
        ("PATCH /v1/secret/data/a", r#"{"data":{"other":"1"}}"#),
        ("DELETE /v1/secret/data/a", ""),
        ("GET /v1/agent/status", ""),
        ("GET /v1/agent/blast?path=secret/a", ""),
        ("GET /v1/agent/keys?name=k", ""),
        ("POST /v1/auth/token/create", "{}"),
    ] {
        for reason in [
            "is it swordfish9swordfish?",
            // An older version, and parts.
            "or hunter2hunter2",
            "or swordfish9sw",
            "the login of b is x7Yk2pQ9Zk@local",
        ] {
            let (status, text) = w.with(REASON, reason, request, body).await;
            assert_eq!(status, 400, "{request}: {reason}: {text}");
            assert!(text.contains("the reason holds a value of the vault"), "{request}: {text}");
        }
    }
    let (status, _) = w.with(REASON, "call 4915112345678", "GET /v1/secret/metadata/a", "").await;
    assert_eq!(status, 400, "a number of the secret that is named");
    let (status, _) = w.with(REASON, "fix the login", "GET /v1/secret/data/a", "").await;
    assert_eq!(status, 200, "another reason is one");
    for fact in w.accesses().await {
        let reason = fact.reason.map(|reason| reason.to_string()).unwrap_or_default();
        assert!(["", "fix the login"].contains(&&*reason), "{reason}");
    }
}

#[tokio::test]
async fn a_refused_reason_tells_nothing_of_what_the_caller_may_not_read() {
    let w = World::new().await;
    for path in ["app/x", "other/x"] {
        let body = format!(r#"{{"data":{{"k":"hunter2-{path}-hunter2"}}}}"#);
        w.is(&format!("POST /v1/secret/data/{path}"), &body, 200, "{}").await;
    }
    let token = w.make_token(r#"{"path":"secret/app/"}"#).await;
    for (reason, expected) in [("hunter2-app/x-hunter2", 400), ("hunter2-other/x-hunter2", 200)] {
        let headers = [("x-vault-token", &*token), (REASON, reason)];
        let answer = w.answer("GET", "/v1/secret/data/app/x", &headers, "").await;
        assert_eq!(answer.status(), expected, "{reason}");
    }
}
