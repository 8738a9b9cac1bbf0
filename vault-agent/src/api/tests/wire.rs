//! The listeners, byte by byte: what HTTP/1 clients of all ages send.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::World;
use crate::api::figures;
use crate::api::listen::CONNECTIONS;
use crate::api::places::Places;
use crate::api::{Listeners, serve};
use machine::config;

/// Sends `request` and returns all that comes until the other end closes.
async fn talk(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn old_and_odd_clients_are_served() {
    let w = World::new().await;
    let (stop, stopped) = watch::channel(false);
    let options = config::Api::default();
    let listeners = Listeners::bind(w.engine(), &w.paths, &options, None).await.unwrap();
    let again = Listeners::bind(w.engine(), &w.paths, &options, None).await.unwrap_err();
    assert!(format!("{again:#}").contains("another agent listens there"), "{again:#}");
    let served = tokio::spawn(serve(listeners, stopped));
    let socket = w.paths.socket.clone();

    let put = r#"{"data":{"k":"v"}}"#;
    let plain = format!(
        "POST /v1/secret/data/x HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{put}",
        put.len()
    );
    let answer = talk(&socket, &plain).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\ncontent-type: application/json\r\n"), "{answer}");

    let chunked = "PUT /v1/secret/data/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\
        Connection: close\r\n\r\n9\r\n{\"data\":{\r\n9\r\n\"k\":\"w\"}}\r\n0\r\n\r\n";
    assert!(talk(&socket, chunked).await.starts_with("HTTP/1.1 200 OK\r\n"));

    let expect = format!(
        "POST /v1/secret/data/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{put}",
        put.len()
    );
    let answer = talk(&socket, &expect).await;
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{answer}");

    let old = talk(&socket, "GET /v1/secret/data/x HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200 OK\r\n") && old.contains(r#""version":3"#), "{old}");

    let pipelined = "GET /v1/secret/data/x?version=1 HTTP/1.1\r\nHost: x\r\n\r\n\
        LIST /v1/secret/metadata HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n\
        DELETE /v1/secret/data/y HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\
        Connection: close\r\n\r\n";
    let answers = talk(&socket, pipelined).await;
    let statuses: Vec<&str> =
        answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "204"], "{answers}");

    let head =
        talk(&socket, "HEAD /v1/sys/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");

    let large = "POST /v1/secret/data/x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\nConnection: close\r\n\r\n";
    let answer = talk(&socket, large).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

    stop.send_replace(true);
    served.await.unwrap().unwrap();
    assert!(UnixStream::connect(&socket).await.is_err());
}

#[tokio::test]
async fn a_socket_that_is_about_to_be_given_up_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let held = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let holder = std::thread::spawn(move || {
        let (asking, _) = held.accept().unwrap();
        drop((held, asking));
    });
    let _listener = crate::api::listen::bind_unix(&socket, false).unwrap();
    holder.join().unwrap();
    let _stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
}

/// Reads one answer with its body, and returns status and `connection` header.
async fn one_answer(stream: &mut BufStream<UnixStream>) -> (String, Option<String>) {
    let (mut status, mut connection, mut length) = (None, None, 0);
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).await.unwrap() > 0, "closed after {status:?}");
        match line.trim_end().split_once(": ") {
            Some(("content-length", text)) => length = text.parse().unwrap(),
            Some(("connection", text)) => connection = Some(text.to_owned()),
            Some(_) => {}
            None if line == "\r\n" => break,
            None => status = Some(line[9..12].to_owned()),
        }
    }
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    (status.unwrap(), connection)
}

#[tokio::test]
async fn a_refused_body_leaves_the_connection_good_or_says_not() {
    let w = World::new().await;
    let (_stop, stopped) = watch::channel(false);
    let listeners =
        Listeners::bind(w.engine(), &w.paths, &config::Api::default(), None).await.unwrap();
    let _served = tokio::spawn(serve(listeners, stopped));
    let put = r#"{"data":{"k":"v"}}"#;
    let mut stream = BufStream::new(UnixStream::connect(&w.paths.socket).await.unwrap());
    // The body comes behind its head, as from every client that sends them apart.
    for path in
        ["secret/data/x/", "none/data/x", "secret/foo/x", "secret//x", "auth/token/renew-self"]
    {
        let head =
            format!("POST /v1/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", put.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
        let next = format!("{put}GET /v1/sys/health HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(next.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(one_answer(&mut stream).await.1, None, "{path}");
        assert_eq!(one_answer(&mut stream).await.0, "200", "after {path}");
    }
    for more in ["Content-Length: 99999999", "Content-Length: 9\r\nExpect: 100-continue"] {
        let mut stream = BufStream::new(UnixStream::connect(&w.paths.socket).await.unwrap());
        let head = format!("POST /v1/none/data/x HTTP/1.1\r\nHost: x\r\n{more}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let close = ("404".to_owned(), Some("close".to_owned()));
        assert_eq!(one_answer(&mut stream).await, close, "{more}");
    }
}

#[tokio::test]
async fn tcp_listens_on_loopback_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let w = World::new().await;
    let options = |listen: &str| config::Api {
        listen: vec![listen.parse().unwrap()],
        ..config::Api::default()
    };
    let refused =
        Listeners::bind(w.engine(), &w.paths, &options("0.0.0.0:0"), None).await.unwrap_err();
    assert!(refused.to_string().contains("is every interface of this host"), "{refused}");

    let listeners =
        Listeners::bind(w.engine(), &w.paths, &options("127.0.0.1:0"), None).await.unwrap();
    let address = listeners.address().unwrap();
    assert!(address.ip().is_loopback() && address.port() > 0);
    let file = crate::api::token_file(&w.paths, &config::Api::default());
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(w.paths.socket.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    drop(listeners);

    // One that is taken is an alarm, and the socket is served all the same.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let options = options(&address.to_string());
    let listeners = Listeners::bind(w.engine(), &w.paths, &options, None).await.unwrap();
    assert_eq!(listeners.address(), None);
    let alarms = || w.engine().status().alarms;
    let [alarm] = &alarms()[..] else { panic!("one alarm: {:?}", alarms()) };
    assert_eq!(alarm.code, "E_LISTEN");
    assert!(alarm.text.contains(&format!("cannot listen on `{address}`")), "{alarm:?}");
    assert!(alarm.text.contains("set another port at `listen`"), "{alarm:?}");
    let (_stop, stopped) = watch::channel(false);
    let _served = tokio::spawn(serve(listeners, stopped));
    let health = "GET /v1/sys/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(talk(&w.paths.socket, health).await.starts_with("HTTP/1.1 200"));
    // It is tried again.
    drop(taken);
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let mut over_tcp = loop {
        match TcpStream::connect(address).await {
            Ok(stream) => break stream,
            Err(_) => look.tick().await,
        };
    };
    assert!(alarms().is_empty(), "{:?}", alarms());
    over_tcp.write_all(health.as_bytes()).await.unwrap();
    let mut answer = String::new();
    over_tcp.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn idle_connections_shut_nobody_out() {
    let w = World::new().await;
    let (_stop, stopped) = watch::channel(false);
    let options = config::Api::default();
    let listeners = Listeners::bind(w.engine(), &w.paths, &options, None).await.unwrap();
    let _served = tokio::spawn(serve(listeners, stopped));
    let request = b"GET /v1/sys/health HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut idle = Vec::new();
    // More than there is room for: half of them have asked something, all have said nothing since.
    for n in 0..Places::new(CONNECTIONS).free() + 20 {
        let mut stream = BufStream::new(UnixStream::connect(&w.paths.socket).await.unwrap());
        if n % 2 == 0 {
            stream.write_all(request).await.unwrap();
            stream.flush().await.unwrap();
            assert_eq!(one_answer(&mut stream).await.0, "200");
        }
        idle.push(stream);
    }
    let close = "GET /v1/sys/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert!(talk(&w.paths.socket, close).await.starts_with("HTTP/1.1 200"));
    // The youngest is still there; the oldest has gone.
    let mut youngest = idle.pop().unwrap();
    youngest.write_all(request).await.unwrap();
    youngest.flush().await.unwrap();
    assert_eq!(one_answer(&mut youngest).await.0, "200");
    assert_eq!(idle[0].read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_caller_on_loopback_is_named_as_on_the_socket() {
    let w = World::new().await;
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let options = config::Api { listen, auth: config::Auth::Loopback, ..config::Api::default() };
    let (_stop, stopped) = watch::channel(false);
    let listeners = Listeners::bind(w.engine(), &w.paths, &options, None).await.unwrap();
    let address = listeners.address().unwrap();
    let _served = tokio::spawn(serve(listeners, stopped));
    let request = "GET /v1/secret/data/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut over_tcp = TcpStream::connect(address).await.unwrap();
    over_tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    over_tcp.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let (access, who) = w.last_access().await;
    assert_eq!(access, "local_read secret/x 0 missing");
    talk(&w.paths.socket, request).await;
    assert_eq!(w.last_access().await.1, who);
    assert!(who.contains(&format!("[{}] uid ", std::process::id())), "{who}");
}

#[tokio::test]
async fn connections_that_say_nothing_keep_no_figures_from_others() {
    let w = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _served = tokio::spawn(w.figures().accept(listener));
    let mut idle = Vec::new();
    for n in 0..2 * figures::CONNECTIONS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Some have begun, and never go on.
        let begun = if n % 2 == 0 { "GET /metrics HT" } else { "" };
        stream.write_all(begun.as_bytes()).await.unwrap();
        idle.push(stream);
    }
    let mut asking = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    asking.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let answered = timeout(Duration::from_secs(20), asking.read_to_string(&mut answer)).await;
    answered.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}
