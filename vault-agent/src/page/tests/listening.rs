//! The page over a real connection: opened by asking, gone when idle or closed.

use std::time::Duration;

use shared::audit::Who;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::engine::tests::Lone;
use crate::page::Page;
use machine::config;
use machine::local::UiRequest;

async fn page(idle: Duration) -> (Lone, Page, watch::Sender<bool>) {
    let lone = Lone::new("here", &["*"], &["*"]).await;
    let (stop, shutdown) = watch::channel(false);
    let options = config::Ui { idle, ..config::Ui::default() };
    let page = Page::new(lone.engine(), options, lone.paths().state, shutdown);
    (lone, page, stop)
}

/// Who asks: the user of these tests, as theirs are the connections.
fn who() -> Who {
    Who::lossy(&format!("vault[7] uid {}", rustix::process::getuid().as_raw()))
}

/// Sends the head of a request and returns the answer; `None` if nobody listens.
async fn ask(port: u16, head: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let text = format!("{head}\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

/// Opens a session and returns its cookie.
async fn open(page: &Page) -> (u16, String) {
    let link = page.link(&who().into(), UiRequest::default()).await.unwrap();
    let path = link.link.strip_prefix(&format!("http://127.0.0.1:{}", link.port)).unwrap();
    let answer = ask(link.port, &format!("GET {path} HTTP/1.1")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
    let cookie = answer.split_once("set-cookie: ").unwrap().1.split_once(';').unwrap().0;
    (link.port, cookie.to_owned())
}

async fn until_closed(port: u16) {
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the page still listens");
}

#[tokio::test]
async fn the_page_listens_while_it_is_used_and_then_no_more() {
    let (_lone, page, _stop) = page(Duration::from_secs(2)).await;
    assert_eq!(page.state().await.port, None);
    let (port, cookie) = open(&page).await;
    let state = page.state().await;
    assert_eq!((state.port, state.sessions), (Some(port), 1));
    let head = format!("GET / HTTP/1.1\r\nCookie: {cookie}");
    assert!(ask(port, &head).await.unwrap().contains("<main"));
    until_closed(port).await;
    assert_eq!(page.state().await.port, None);
    // It opens anew for the next link, and knows no earlier cookie.
    let (port, _) = open(&page).await;
    let head = format!("GET / HTTP/1.1\r\nCookie: {cookie}");
    assert!(ask(port, &head).await.unwrap().starts_with("HTTP/1.1 403"));
    page.close().await;
    until_closed(port).await;
}

#[tokio::test]
async fn another_user_who_has_seen_the_link_does_not_get_in() {
    let (_lone, page, _stop) = page(Duration::from_mins(30)).await;
    let own = rustix::process::getuid().as_raw();
    let other = Who::lossy(&format!("vault[7] uid {}", own + 4_000));
    let link = page.link(&other.into(), UiRequest::default()).await.unwrap();
    let path = link.link.strip_prefix(&format!("http://127.0.0.1:{}", link.port)).unwrap();
    let answer = ask(link.port, &format!("GET {path} HTTP/1.1")).await.unwrap();
    // Root may read whatever that user's browser holds.
    let expected = if own == 0 { "HTTP/1.1 303" } else { "HTTP/1.1 403" };
    assert!(answer.starts_with(expected), "{answer}");
}

#[tokio::test]
async fn the_page_ends_with_the_agent() {
    let (_lone, page, stop) = page(Duration::from_mins(30)).await;
    let (port, _) = open(&page).await;
    stop.send_replace(true);
    until_closed(port).await;
    assert!(page.link(&who().into(), UiRequest::default()).await.is_err());
}

#[tokio::test]
async fn news_come_as_a_stream_and_end_with_the_session() {
    let (_lone, page, _stop) = page(Duration::from_mins(30)).await;
    let (port, cookie) = open(&page).await;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!(
        "GET /events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {cookie}\r\n\
         Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut heard = String::new();
    let mut piece = [0; 4096];
    while !heard.contains("event: change") {
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut piece)).await;
        heard.push_str(std::str::from_utf8(&piece[..read.unwrap().unwrap()]).unwrap());
    }
    assert!(heard.contains("text/event-stream"), "{heard}");
    page.close().await;
    let ended = async { while stream.read(&mut piece).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
}

#[tokio::test]
async fn a_tunnel_has_a_port_of_its_own() {
    let (_lone, page, _stop) = page(Duration::from_mins(30)).await;
    let through = UiRequest { through: Some(9), user: None };
    let link = page.link(&who().into(), through).await.unwrap();
    let token = link.link.strip_prefix("http://127.0.0.1:9/open/").unwrap();
    let head = |host: &str| format!("GET /open/{token} HTTP/1.1\r\nX: {host}");
    // By its own port the link of the tunnel is good for nothing.
    assert!(ask(link.port, &head("a")).await.unwrap().starts_with("HTTP/1.1 403"));
    let mut stream = TcpStream::connect(("127.0.0.1", link.port)).await.unwrap();
    let text =
        format!("GET /open/{token} HTTP/1.1\r\nHost: 127.0.0.1:9\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 303") && answer.contains("vault-ui-9="), "{answer}");
}
