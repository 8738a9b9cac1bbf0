//! One kept-alive connection per thread to a peer under test, for requests outside any figure.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

thread_local! {
    static OPEN: RefCell<HashMap<String, TcpStream>> = RefCell::new(HashMap::new());
}

/// Posts `body` to `base` and returns whether the answer was 200, or nothing if nobody answers.
pub fn post(base: &str, path: &str, body: &str) -> Option<()> {
    let address = base.trim_start_matches("http://");
    OPEN.with_borrow_mut(|open| {
        if !open.contains_key(base) {
            let stream = TcpStream::connect(address).ok()?;
            stream.set_nodelay(true).ok()?;
            open.insert(base.to_owned(), stream);
        }
        let stream = open.get_mut(base)?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).ok()?;
        let mut answer = [0; 4096];
        let read = stream.read(&mut answer).ok()?;
        let ok = answer[..read].starts_with(b"HTTP/1.1 200");
        if !ok {
            open.remove(base);
        }
        ok.then_some(())
    })
}
