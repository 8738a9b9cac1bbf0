//! The page of `vault ui`: how long its first screen takes, and the memory that it costs while it
//! is open.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use tests::Host;

use crate::table::Row;
use crate::{latency, process};

const ROUNDS: usize = 11;
const FIRST: Duration = Duration::from_millis(100);
const OPEN: u64 = 2 << 20;

/// Writes so many secrets.
pub fn fill(owner: &Host, secrets: u64) {
    let mut socket = UnixStream::connect(owner.state().join("agent.sock")).unwrap();
    for n in 0..secrets {
        let path = format!("/v1/secret/data/app/{n}");
        latency::request(&mut socket, "POST", &path, "{\"data\":{\"KEY\":\"a value\"}}");
    }
}

/// Looks at the first screen again and again.
pub fn figures(owner: &Host) -> [Row; 2] {
    let pid = owner.agent.as_ref().unwrap().pid();
    let before = process::private(pid);
    let link = owner.vault(&["ui", "--print"]).ok();
    let rest = link.trim().strip_prefix("http://127.0.0.1:").expect("a link on loopback");
    let (port, path) = rest.split_once('/').unwrap();
    let opened = get(port, &format!("/{path}"), "");
    let cookie = opened.split_once("set-cookie: ").unwrap().1.split_once(';').unwrap().0;
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            let screen = get(port, "/", cookie);
            assert!(screen.starts_with("HTTP/1.1 200") && screen.contains("rtx1080"), "{screen}");
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    let more = process::private(pid).saturating_sub(before);
    let _ = owner.vault(&["ui", "--close"]).ok();
    [
        Row::at_most("first screen of the page", times[ROUNDS / 2], FIRST),
        Row::bytes("  memory of the agent while it is open, more", more, OPEN),
    ]
}

/// Returns the answer, head and all.
fn get(port: &str, path: &str, cookie: &str) -> String {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
