//! `vault ui`: a link that opens once, the screens over plain HTTP, a value that is on record, and
//! nothing left when it is closed.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use host::files::{Access, replace_trusted};
use serde_json::Value;
use tests::{Host, World, bins, watch};

/// Sends a request and returns the answer, head and all; `None` if nobody listens.
fn ask(port: u16, head: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let length = body.len();
    let text = format!(
        "{head}\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// The page as one browser has it.
struct Browser {
    port: u16,
    cookie: String,
}

impl Browser {
    /// Opens a link.
    fn open(link: &str) -> Self {
        let rest = link.trim().strip_prefix("http://127.0.0.1:").expect("a link on loopback");
        let (port, path) = rest.split_once('/').unwrap();
        let port = port.parse().unwrap();
        let answer = ask(port, &format!("GET /{path} HTTP/1.1"), "").unwrap();
        assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
        let again = ask(port, &format!("GET /{path} HTTP/1.1"), "").unwrap();
        assert!(again.starts_with("HTTP/1.1 403") && !again.contains("set-cookie"), "{again}");
        let cookie = answer.split_once("set-cookie: ").unwrap().1.split_once(';').unwrap().0;
        Self { port, cookie: cookie.to_owned() }
    }

    fn get(&self, path: &str) -> String {
        let head = format!("GET {path} HTTP/1.1\r\nCookie: {}", self.cookie);
        ask(self.port, &head, "").unwrap()
    }

    fn post(&self, path: &str, form: &str) -> String {
        let head = format!(
            "POST {path} HTTP/1.1\r\nCookie: {}\r\nOrigin: http://127.0.0.1:{}\r\n\
             Content-Type: application/x-www-form-urlencoded",
            self.cookie, self.port
        );
        ask(self.port, &head, form).unwrap()
    }
}

fn link(host: &Host) -> String {
    host.vault(&["ui", "--print"]).ok()
}

#[test]
fn the_page_is_opened_by_a_link_and_shows_values_that_are_on_record() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let _ = rtx.vault(&["kv", "put", "secret/app", "KEY=val-of-key"]).ok();
    let browser = Browser::open(&link(&rtx));
    let page = browser.get("/");
    assert!(page.contains("rtx1080") && page.contains("All well"), "{page}");
    assert!(page.contains("default-src 'none'; style-src 'self'; script-src 'self'"), "{page}");
    for path in ["/secrets", "/secrets?below=secret/", "/machines", "/alarms", "/style.css"] {
        assert!(browser.get(path).starts_with("HTTP/1.1 200"), "{path}");
    }
    let page = browser.get("/secret/secret/app");
    assert!(page.contains("KEY") && !page.contains("val-of-key"), "{page}");
    let csrf = page.split_once("name=\"csrf\" value=\"").unwrap().1.split_once('"').unwrap().0;
    let page = browser.post("/secret/secret/app", &format!("csrf={csrf}&key=KEY"));
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("val-of-key"), "{page}");
    let log = watch::poll("the read is on record", || {
        let log = rtx.vault(&["audit", "log", "--path", "secret/app", "--op", "local_read"]);
        log.out.contains("vault ui[").then_some(log.out)
    });
    assert!(!log.contains("val-of-key"), "{log}");

    let _ = rtx.vault(&["ui", "--close"]).ok();
    assert_eq!(ask(browser.port, "GET / HTTP/1.1", ""), None);
}

#[test]
fn the_page_ends_when_nobody_uses_it() {
    let world = World::new(bins!());
    let mut rtx = world.owner("rtx1080");
    rtx.stop();
    let file = rtx.state().join("agent.toml");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let text = format!("{text}\n[ui]\nidle = \"2s\"\n");
    replace_trusted(&file, text.as_bytes(), Access::PRIVATE).unwrap();
    rtx.start();
    let browser = Browser::open(&link(&rtx));
    assert!(browser.get("/").contains("rtx1080"));
    watch::poll("nobody listens", || {
        ask(browser.port, "GET / HTTP/1.1", "").is_none().then_some(())
    });
    let browser = Browser::open(&link(&rtx));
    assert!(browser.get("/").contains("rtx1080"), "it opens anew");
}

#[test]
fn a_widget_stays_and_shows_its_verdict_to_its_token() {
    let world = World::new(bins!());
    let mut rtx = world.owner("rtx1080");
    assert_eq!(rtx.vault(&["ui", "--widget"]).code, 2);
    rtx.stop();
    let port = tests::Port::reserve();
    let number = port.address().port();
    drop(port);
    let file = rtx.state().join("agent.toml");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let text = format!("{text}\n[ui]\nwidget = true\nport = {number}\n");
    replace_trusted(&file, text.as_bytes(), Access::PRIVATE).unwrap();
    rtx.start();
    let out = rtx.vault(&["-format=json", "ui", "--widget"]).ok();
    let widget: Value = serde_json::from_str(&out).unwrap();
    let address = widget["json"].as_str().unwrap();
    let path = address.strip_prefix(&format!("http://127.0.0.1:{number}")).unwrap();
    let answer = ask(number, &format!("GET {path} HTTP/1.1"), "").unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let document: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&document["well"], &document["hosts"]), (&true.into(), &1.into()), "{answer}");
    let bare = ask(number, "GET /widget.json HTTP/1.1", "").unwrap();
    assert!(bare.starts_with("HTTP/1.1 403"), "{bare}");
}

#[test]
fn a_screen_gets_the_browser_and_no_agent_has_no_page() {
    let world = World::new(bins!());
    let mut rtx = world.owner("rtx1080");
    let bin = rtx.dir.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let opener = bin.join("xdg-open");
    let seen = rtx.dir.join("opened");
    tests::script(&opener, &format!("#!/bin/sh\nprintf %s \"$1\" > '{}'\n", seen.display()));
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = rtx.command(rtx.bins.vault);
    let ran = tests::run(command.arg("ui").env("PATH", path).env("DISPLAY", ":0"), "");
    assert_eq!(ran.code, 0, "{}", ran.err);
    if rustix::process::geteuid().is_root() {
        // A browser with root's rights is none that anybody asked for.
        assert!(!seen.exists() && ran.out.starts_with("http://127.0.0.1:"), "{}", ran.out);
    } else {
        let link = std::fs::read_to_string(&seen).unwrap();
        assert!(ran.out.is_empty() && Browser::open(&link).get("/").contains("All well"));
    }
    rtx.stop();
    let ran = rtx.vault(&["ui"]);
    assert_ne!(ran.code, 0);
    assert!(
        ran.err.contains("none runs") && ran.err.contains("vault-agent install"),
        "{}",
        ran.err
    );
}
