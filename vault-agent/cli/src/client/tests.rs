//! Addresses, connections that close, time limits, bodies out of bounds.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use tempfile::TempDir;

use super::endpoint::Address;
use super::*;

fn options() -> Options {
    Options {
        token: None,
        namespace: None,
        headers: Vec::new(),
        timeout: Duration::from_secs(10),
        tls: tls::Options::default(),
        retries: 0,
        redirects: true,
        offline: false,
        show: None,
    }
}

#[test]
fn addresses_are_read() {
    let check = |url: &str, secure, host: &str, port, base: &str| {
        let expected = Address { secure, host: host.to_owned(), port, base: base.to_owned() };
        assert_eq!(Endpoint::parse(url).unwrap(), Endpoint::Tcp(expected), "{url}");
    };
    check("https://vault.lan:8200", true, "vault.lan", 8200, "https://vault.lan:8200");
    check("http://127.0.0.1:8200/", false, "127.0.0.1", 8200, "http://127.0.0.1:8200");
    check("https://vault.lan/proxy/", true, "vault.lan", 443, "https://vault.lan/proxy");
    check("http://[::1]", false, "::1", 80, "http://[::1]");
    assert_eq!(
        Endpoint::parse("unix:///run/a.sock").unwrap(),
        Endpoint::Unix("/run/a.sock".into())
    );
    for (url, is_here) in [
        ("unix:///run/a.sock", true),
        ("http://127.0.0.1:8200", true),
        ("http://[::1]", true),
        ("https://localhost:8200", true),
        ("https://vault.lan", false),
        ("http://10.8.0.3:8200", false),
    ] {
        assert_eq!(Endpoint::parse(url).unwrap().is_here(), is_here, "{url}");
    }
    for bad in ["", "unix://", "127.0.0.1:8200", "ftp://x", "http://", "https://a b"] {
        assert!(matches!(Endpoint::parse(bad), Err(Error::Setup(_))), "{bad}");
    }
    for url in ["http://127.0.0.1:8200/v1", "https://proxy/vault/v1/"] {
        let fault = Endpoint::parse(url).unwrap_err();
        let base = url.trim_end_matches('/').trim_end_matches("/v1");
        assert_eq!(fault.hint(), Some(format!("leave it out: `{base}`")));
    }
}

#[test]
fn folders_of_an_address_go_into_the_request() {
    let client = Client::new(Endpoint::parse("https://host:1/a/b").unwrap(), options()).unwrap();
    assert_eq!(client.place.address().unwrap().parts(), ("host:1", "/a/b"));
    assert_eq!(client.base(), "https://host:1/a/b");
    assert_eq!(client.headers["host"], "host:1");
}

#[test]
fn queries_are_encoded() {
    let query = [("path", "a/b *&=+%".to_owned()), ("n", "1".to_owned())];
    assert_eq!(target("x/ü", &query), "/v1/x/%C3%BC?path=a%2Fb%20%2A%26%3D%2B%25&n=1");
}

/// Serves each answer on a connection of its own, which then closes.
fn serve(answers: &'static [&'static str]) -> (TempDir, Client) {
    serve_for(answers, options())
}

fn serve_for(answers: &'static [&'static str], options: Options) -> (TempDir, Client) {
    let (dir, path) = listen(answers);
    (dir, Client::new(Endpoint::Unix(path), options).unwrap())
}

fn listen(answers: &'static [&'static str]) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (dir, path)
}

#[test]
fn what_fails_on_the_other_side_is_tried_again_if_asked_for() {
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    const SEALED: &str = "HTTP/1.1 503 x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    const WRONG: &str = "HTTP/1.1 400 x\r\ncontent-length: 2\r\n\r\n{}";
    let status = |answers, retries| {
        let (_dir, client) = serve_for(answers, Options { retries, ..options() });
        client.send(Method::GET, "x", &[], None).map(|answer| answer.status).ok()
    };
    assert_eq!(status(&[SEALED, OK], 1), Some(200));
    assert_eq!(status(&["", OK], 1), Some(200));
    assert_eq!(status(&[SEALED, OK], 0), Some(503));
    assert_eq!(status(&[WRONG, OK], 1), Some(400));
    assert_eq!(status(&["", ""], 1), None);
}

#[test]
fn one_redirect_is_followed() {
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    const MOVED: &str =
        "HTTP/1.1 307 x\r\nlocation: /v1/y\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    const AWAY: &str = "HTTP/1.1 307 x\r\nlocation: http://h/ui\r\ncontent-length: 0\r\n\r\n";
    let (_dir, client) = serve(&[MOVED, OK]);
    assert_eq!(client.send(Method::GET, "x", &[], None).unwrap().status, 200);
    let (_dir, client) = serve(&[MOVED, MOVED]);
    assert_eq!(client.send(Method::GET, "x", &[], None).unwrap().status, 307);
    let (_dir, client) = serve_for(&[MOVED], Options { redirects: false, ..options() });
    assert_eq!(client.send(Method::GET, "x", &[], None).unwrap().status, 307);
    let (_dir, client) = serve(&[AWAY]);
    let said = client.send(Method::GET, "x", &[], None).unwrap_err().to_string();
    assert!(said.ends_with("unexpected answer: a redirect out of the API"), "{said}");
}

#[test]
fn a_kept_connection_that_closed_is_replaced() {
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    let (_dir, client) = serve(&[OK, OK, OK]);
    for _ in 0..3 {
        client.get::<Value>("x", &[]).unwrap();
    }
}

#[test]
fn what_is_no_answer_is_said() {
    let (_dir, client) = serve(&[
        "",
        "SSH-2.0-OpenSSH_9\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\nx",
        "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nno%20x",
    ]);
    let mut said = Vec::new();
    for _ in 0..5 {
        said.push(client.get::<Value>("x", &[]).unwrap_err().to_string());
    }
    insta::assert_snapshot!(said.join("\n"), @r"
    GET http://localhost/v1/x: connection closed before message completed
    GET http://localhost/v1/x: invalid HTTP version parsed
    GET http://localhost/v1/x: error reading a body from connection: end of file before message length reached
    GET http://localhost/v1/x: error reading a body from connection: end of file before message length reached
    GET http://localhost/v1/x: unexpected answer: not the expected JSON (line 1, column 2)
    ");
}

#[test]
fn silence_ends_at_the_time_limit() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    let _listener = UnixListener::bind(&path).unwrap();
    let options = Options { timeout: Duration::from_millis(20), ..options() };
    let client = Client::new(Endpoint::Unix(path), options).unwrap();
    let error = client.get::<Value>("x", &[]).unwrap_err();
    assert_eq!(error.to_string(), "GET http://localhost/v1/x: no answer within 0.02 s");
}

#[test]
fn who_hangs_up_on_a_large_body_finds_it_too_much() {
    let (_dir, client) = serve(&["", ""]);
    let error = client.put("x", &Value::String("v".repeat(8 << 20))).unwrap_err();
    let told =
        "PUT http://localhost/v1/x: it hung up while 8388610 bytes were sent: more than it takes";
    assert_eq!(error.to_string(), told);
    assert!(error.hint().unwrap().contains("768 KiB"));
    let error = client.put("x", &Value::String("v".repeat(8))).unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error}");
}

#[test]
fn headers_that_http_forbids_are_refused() {
    let options = Options { token: Some("a\nb".to_owned()), ..options() };
    let error = Client::new(Endpoint::Unix("/x".into()), options).err().unwrap();
    assert_eq!(error.to_string(), "the value of header `x-vault-token` is not allowed in HTTP");
}

#[test]
fn an_agent_of_another_version_is_named_where_it_does_not_understand() {
    const UNKNOWN: &str =
        "HTTP/1.1 404 x\r\nx-vault-agent-version: 0.0.1\r\ncontent-length: 2\r\n\r\n{}";
    const OTHER: &str =
        "HTTP/1.1 200 OK\r\nx-vault-agent-version: 0.0.1\r\ncontent-length: 2\r\n\r\n{}";
    const NOBODY: &str = "HTTP/1.1 404 x\r\ncontent-length: 2\r\n\r\n{}";
    let hint = |answer: &'static [&'static str], path: &str| {
        let (_dir, client) = serve(answer);
        let asked = client.get::<machine::local::Head>(path, &[]);
        asked.unwrap_err().hint().unwrap_or_default()
    };
    let told = "the agent that answers is version 0.0.1, this program ";
    for path in ["agent/status", "agent/of-tomorrow"] {
        assert!(hint(&[UNKNOWN], path).starts_with(told), "{path}");
        assert!(hint(&[OTHER], path).starts_with(told), "{path}");
        assert_eq!(hint(&[NOBODY], path), "");
    }
    assert_eq!(hint(&[UNKNOWN], "secret/data/a"), "", "there is no such secret");
}
