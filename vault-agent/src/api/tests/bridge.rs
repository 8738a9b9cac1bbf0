//! Containers that call over a bridge: they show a token, name this host rightly, and are written
//! down by their address.

use super::World;

const READ: &str = "/v1/secret/data/app/x";
const HEALTH: &str = "/v1/sys/health";

/// Sends a request with these headers and returns its status.
async fn status(w: &World, path: &str, headers: &[(&str, &str)]) -> u16 {
    w.answer("GET", path, headers, "").await.status().as_u16()
}

#[tokio::test]
async fn a_token_is_needed_even_where_this_host_is_trusted() {
    let w = World::on_bridge().await;
    let token = w.token();
    let limited = w.limited_token("secret/app/").await;
    let host = ("host", "vault:8200");
    for (headers, expected) in [
        (&[host][..], 403),
        (&[host, ("x-vault-token", "")], 403),
        (&[host, ("x-vault-token", "wrong")], 403),
        (&[host, ("x-vault-token", "vltp.wrong")], 403),
        (&[host, ("authorization", "Bearer wrong")], 403),
        (&[host, ("x-vault-token", &token)], 404),
        (&[host, ("x-vault-token", &limited)], 404),
    ] {
        assert_eq!(status(&w, READ, headers).await, expected, "{headers:?}");
    }
    let other = [host, ("x-vault-token", &*limited)];
    assert_eq!(status(&w, "/v1/secret/data/other", &other).await, 403);
    // What clients ask before they have a token tells nothing.
    assert_eq!(status(&w, HEALTH, &[host]).await, 200);
    assert_eq!(status(&w, "/v1/sys/mounts", &[host]).await, 403);
}

#[tokio::test]
async fn what_is_forwarded_to_loopback_is_not_trusted() {
    let w = World::on_bridge().await;
    for (ends, expected) in [
        (["127.0.0.1:54321", "127.0.0.1:1"], 404),
        (["192.0.2.1:54321", "127.0.0.1:1"], 403),
        (["172.17.0.2:54321", "127.0.0.1:1"], 403),
        (["127.0.0.1:54321", "172.17.0.1:1"], 403),
    ] {
        let called = w.between(ends);
        assert_eq!(status(&called, READ, &[("host", "localhost")]).await, expected, "{ends:?}");
    }
}

#[tokio::test]
async fn web_pages_and_other_hosts_are_refused() {
    let w = World::on_bridge().await;
    for (headers, expected) in [
        (&[("host", "host.docker.internal:8200")][..], 200),
        (&[("host", "HOST.docker.INTERNAL.")], 200),
        (&[("host", "vault")], 200),
        (&[("host", "172.17.0.1:8200")], 200),
        (&[("host", "localhost:8200")], 200),
        (&[], 403),
        (&[("host", "vault"), ("host", "vault")], 403),
        (&[("host", "vault"), ("host", "evil.example")], 403),
        (&[("host", "evil.example:8200")], 403),
        (&[("host", "vault.evil.example")], 403),
        (&[("host", "172.17.0.3")], 403),
        (&[("host", "vault"), ("origin", "http://vault:8200")], 403),
        (&[("host", "vault"), ("origin", "null")], 403),
    ] {
        assert_eq!(status(&w, HEALTH, headers).await, expected, "{headers:?}");
    }
    // The address in the first line counts before `Host`.
    for (target, host, expected) in [
        ("http://vault:8200/v1/sys/health", "vault", 200),
        ("http://evil.example/v1/sys/health", "vault", 403),
        ("http://vault/v1/sys/health", "evil.example", 403),
    ] {
        assert_eq!(status(&w, target, &[("host", host)]).await, expected, "{target} {host}");
    }
    let (_, text) = w.with("host", "evil.example", &format!("GET {HEALTH}"), "").await;
    assert!(text.contains("hint: add the name to `hosts` of `[api]`"), "{text}");
    assert!(!text.contains("evil"), "{text}");
}

#[tokio::test]
async fn a_container_is_written_down_by_its_address() {
    let w = World::on_bridge().await;
    let token = w.limited_token("secret/app/").await;
    let host = ("host", "vault");
    for (headers, access) in [
        (&[host][..], "local_read secret/app/x 0 denied"),
        (&[host, ("x-vault-token", &token)], "local_read secret/app/x 0 missing"),
    ] {
        status(&w, READ, headers).await;
        assert_eq!(w.last_access().await, (access.to_owned(), "tcp 172.17.0.2".to_owned()));
    }
}
