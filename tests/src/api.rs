//! The local API, spoken to as a program would that keeps its connection open.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

/// Sends one request to a unix socket and returns the answer.
///
/// # Panics
/// If the connection ends, or the answer is no success.
pub fn request(stream: &mut UnixStream, method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    let bytes = [head.as_bytes(), body.as_bytes()].concat();
    stream.write_all(&bytes).expect("the agent takes a request");
    let mut answer = vec![0; 64 << 10];
    let read = stream.read(&mut answer).expect("the agent answers");
    let text = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(text.starts_with("HTTP/1.1 20"), "{text}");
    text
}
