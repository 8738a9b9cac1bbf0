//! A load generator: kept-alive HTTP/1.1 connections that send one request again and again.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What a run of load came to.
pub struct Load {
    /// Answers per second.
    pub rate: f64,
    /// Median time of one answer.
    pub p50: Duration,
}

/// Sends requests over `connections` connections to `address` for `time`; `request` makes the one
/// that connection `n` sends again and again.
///
/// # Panics
/// If an answer is not 200.
pub fn run(
    address: &str,
    request: impl Fn(usize) -> String,
    connections: usize,
    time: Duration,
) -> Load {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        let begun = Instant::now();
        let tasks: Vec<_> = (0..connections)
            .map(|n| {
                let (address, request) = (address.to_owned(), request(n));
                tokio::spawn(async move { connection(&address, &request, begun + time).await })
            })
            .collect();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await.unwrap());
        }
        times.sort_unstable();
        #[expect(clippy::cast_precision_loss, reason = "a count below 2^52")]
        let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
        Load { rate, p50: times[times.len() / 2] }
    })
}

async fn connection(address: &str, request: &str, end: Instant) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 64 << 10];
    let mut times = Vec::new();
    while Instant::now() < end {
        let begun = Instant::now();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut filled = 0;
        loop {
            let read = stream.read(&mut buffer[filled..]).await.unwrap();
            assert!(read > 0, "the connection was closed");
            filled += read;
            if is_whole(&buffer[..filled]) {
                break;
            }
        }
        times.push(begun.elapsed());
    }
    times
}

/// Tells whether `answer` holds a whole response with a content length.
fn is_whole(answer: &[u8]) -> bool {
    let Some(at) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..at]).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.unwrap_or("0").trim().parse().unwrap();
    answer.len() >= at + 4 + length
}
