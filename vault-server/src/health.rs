//! `vault-server health`: asks the server that runs on this machine whether it takes writes, for
//! healthchecks of containers. What it answers lives in `http::local`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use host::hint::hinted;
use host::shown::Shown;

use crate::config::Config;

/// Time for each step of the question; the server itself gives up after five seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest answer in bytes.
const ANSWER: u64 = 4096;

/// Returns where the server of a configuration can be asked.
///
/// # Errors
/// If it cannot be asked anywhere.
pub fn address(config: &Config) -> Result<SocketAddr> {
    config.metrics_listen.ok_or_else(|| {
        hinted(
            "the server does not tell how it is: `metrics_listen` is not set",
            "set `metrics_listen = \"127.0.0.1:9843\"` in `server.toml`, and restart the server",
        )
    })
}

/// Asks the server at a loopback address.
///
/// # Errors
/// What the server says if it takes no writes, or why it cannot be asked.
pub fn ask(address: SocketAddr) -> Result<()> {
    let answer = fetch(address).with_context(|| format!("no answer from `{address}`"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(()),
        Some("503") => bail!("{}", Shown::line(body.trim())),
        _ => bail!(hinted(
            format!("something else than `vault-server` answers at `{address}`"),
            "compare `metrics_listen` in `server.toml`",
        )),
    }
}

fn fetch(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Asks a listener that answers so.
    fn asked(answer: &'static str) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 25];
            stream.read_exact(&mut request).unwrap();
            assert_eq!(&request, b"GET /healthz HTTP/1.0\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let asked = ask(address);
        server.join().unwrap();
        asked
    }

    #[test]
    fn only_a_server_that_takes_writes_is_healthy() {
        asked("HTTP/1.0 200 OK\r\n\r\nok\n").unwrap();
        let fault = asked("HTTP/1.0 503 Service Unavailable\r\n\r\nthe disk is full\x1b[2J\n");
        assert_eq!(fault.unwrap_err().to_string(), "the disk is full\\u001b[2J");
        let fault = asked("220 mail ESMTP\r\n").unwrap_err().to_string();
        assert!(fault.starts_with("something else than `vault-server` answers"), "{fault}");
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(ask(free).unwrap_err().to_string(), format!("no answer from `{free}`"));
    }
}
