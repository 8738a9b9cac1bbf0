//! What the outer layers refuse, and what TLS is like.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use rustls::NamedGroup;
use rustls::pki_types::ServerName;
use shared::keys::SignKey;
use shared::wire::v1::log::Frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{refused, tls};
use crate::world::{Running, World};

#[tokio::test]
async fn malformed_requests_are_told_apart() {
    let world = World::new().await;
    let client = world.client(&world.first).await;
    let post = async |path: &str, body: Vec<u8>| client.call(Method::POST, path, body.into()).await;
    for (answer, status, code) in [
        (client.get("/v1/nothing").await, 404, "not_found"),
        (client.get("/v1/report").await, 405, "method_not_allowed"),
        (post("/v1/log", b"{".to_vec()).await, 400, "bad_request"),
        (post("/v1/log", br#"{"envelope":1}"#.to_vec()).await, 400, "bad_request"),
        (client.get("/v1/log?after=x").await, 400, "bad_request"),
        (client.get("/v1/blob/xyz").await, 400, "bad_request"),
        (client.put("/v1/blob/00", vec![0; 8]).await, 400, "bad_request"),
    ] {
        assert_eq!(refused(answer), (status, code.to_owned()));
    }
}

#[tokio::test]
async fn large_bodies_are_refused_before_they_are_read() {
    let world = World::new().await;
    let client = world.client(&world.first).await;
    let id = shared::hash::Hash::ZERO;
    let response = client
        .send(Method::PUT, &format!("/v1/blob/{id}"), Bytes::from(vec![0; (1 << 20) + 1]))
        .await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(client.get("/v1/log").await.0.is_success(), "the connection goes on");
}

#[tokio::test]
async fn connections_that_say_nothing_keep_no_machine_out() {
    let mut world = World::new().await;
    world.server.stop().await;
    world.config.limits.connections = 8;
    world.server = Running::start(world.config.clone()).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(world.server.addr).await.unwrap());
    }
    let client = world.client(&world.first).await;
    assert!(client.get("/v1/log").await.0.is_success());
    let read = silent[0].read(&mut [0]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "the oldest went first");
}

#[tokio::test]
async fn the_key_exchange_is_hybrid_and_nothing_is_resumed() {
    let world = World::new().await;
    let client = world.client(&world.first).await;
    assert!(client.get("/v1/log").await.0.is_success());
    assert_eq!((client.group, client.tickets), (NamedGroup::X25519MLKEM768, 0));
}

#[tokio::test]
async fn a_client_without_a_key_or_without_http2_gets_nowhere() {
    let world = World::new().await;
    let key = SignKey::generate();
    let mut config = tls(&world.server_key, &key);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connect = async |config| {
        let socket = TcpStream::connect(world.server.addr).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(ServerName::try_from("vault").unwrap(), socket).await?;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map(|_| answer)
    };
    assert!(connect(config).await.is_err());
    let mut config = tls(&world.server_key, &key);
    config.alpn_protocols.clear();
    assert!(connect(config).await.map_or(true, |answer| answer.is_empty()));
}

/// Asks the listener on loopback.
pub async fn loopback(addr: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn health_and_metrics_are_served_on_loopback() {
    let mut world = World::new().await;
    world.server.stop().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.config.metrics_listen = Some(free);
    world.server = Running::start(world.config.clone()).await;
    let client = world.client(&world.first).await;
    world.write(&client, "secret/a", "one").await;
    let ask = async |path: &str| loopback(free, path).await;
    assert!(ask("/healthz").await.ends_with("\r\n\r\nok\n"));
    let metrics = ask("/metrics").await;
    assert!(metrics.contains("\nvault_server_log_seq 2\n"), "{metrics}");
    assert!(metrics.contains("\nvault_server_connections 1\n"), "{metrics}");
    assert!(ask("/v1/log").await.starts_with("HTTP/1.1 404"));
    let mut stream = TcpStream::connect(free).await.unwrap();
    let post = "POST /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(post.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
}

#[tokio::test]
async fn the_largest_numbers_are_answered() {
    let world = World::new().await;
    let client = world.client(&world.first).await;
    let far = u64::MAX;
    let frames = client.page(far).await;
    assert!(
        frames.iter().all(|frame| matches!(frame, Frame::Head(head) if head.seq == 1)),
        "{frames:?}"
    );
    assert_eq!(client.follow(far).await.head().await, 1);
    for path in [format!("/v1/audit?after={far}"), format!("/v1/audit/leaves?after={far}")] {
        assert_eq!(client.get(&path).await.0, StatusCode::OK, "{path}");
    }
    for path in [
        "/v1/audit?limit=18446744073709551615",
        "/v1/audit?limit=0",
        "/v1/audit?after=-1",
        "/v1/log?after=18446744073709551616",
        "/v1/log?after=1e3",
        "/v1/audit?since=99999999999999999999999",
        "/v1/blob/%00",
        "/v1/blob/..%2f..",
    ] {
        let status = client.get(path).await.0;
        assert!(status.is_client_error(), "{path}: {status}");
    }
    assert_eq!(client.page(0).await.len(), 4, "it still serves");
}
