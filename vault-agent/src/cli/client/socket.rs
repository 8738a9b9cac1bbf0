//! The short way to this machine's agent: its socket, blocking, and no more HTTP than the agent answers with.

use std::cell::RefCell;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;

use super::wire::{Outgoing, Wire};
use super::{Answer, Client, Error, MOST_BYTES, Options, Place};
use crate::api::types::CACHE_AGE;

/// A head longer than this is none.
const LONGEST_HEAD: usize = 64 << 10;

/// More header lines than the agent sends.
const MOST_HEADERS: usize = 64;

/// A connection to an agent that listens.
pub(super) struct Socket {
    path: PathBuf,
    timeout: Duration,
    link: RefCell<Option<Link>>,
}

struct Link {
    stream: UnixStream,
    /// Whether an answer came over it already: only then may the agent have closed it in peace.
    used: bool,
}

impl Socket {
    /// Connects to the first agent that listens, if one does.
    pub(super) fn connect(sockets: &[PathBuf], timeout: Duration) -> Option<Self> {
        // What keeps a socket closed is told by the other way, which meets it again.
        let open = |path: &PathBuf| Some((path.clone(), UnixStream::connect(path).ok()?));
        let (path, stream) = sockets.iter().find_map(open)?;
        let link = RefCell::new(Some(Link { stream, used: false }));
        Some(Self { path, timeout, link })
    }
}

impl Wire for Socket {
    fn exchange(&self, outgoing: Outgoing) -> Result<Answer, Error> {
        let until = Instant::now() + self.timeout;
        let request = encode(&outgoing);
        let call = &outgoing.call;
        let lost = |why: &io::Error| {
            let why = match why.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    format!("no answer within {} s", self.timeout.as_secs_f32())
                }
                _ => why.to_string(),
            };
            Error::Transport { call: call.clone(), why }
        };
        loop {
            let taken = self.link.borrow_mut().take();
            let Link { mut stream, used } = match taken {
                Some(link) => link,
                None => Link {
                    stream: UnixStream::connect(&self.path).map_err(|why| lost(&why))?,
                    used: false,
                },
            };
            match ask(&mut stream, &request, until) {
                Ok(Reply { status, age, location, body, close }) => {
                    *self.link.borrow_mut() = (!close).then_some(Link { stream, used: true });
                    let (cache_age, call) = (age, outgoing.call);
                    return Ok(Answer { call, status, body, cache_age, location });
                }
                // Closed between two requests.
                Err(Fault::Closed) if used && outgoing.method == Method::GET => {}
                Err(Fault::Closed) => {
                    let why = "connection closed before message completed".to_owned();
                    return Err(Error::Transport { call: outgoing.call, why });
                }
                Err(Fault::Io(why)) => return Err(lost(&why)),
                Err(Fault::Answer(why)) => {
                    return Err(Error::Answer { call: outgoing.call, why });
                }
            }
        }
    }

    fn is_alone(&self) -> bool {
        false
    }

    fn elsewhere(&self, _: Place, _: Options) -> Result<Client, Error> {
        Err(Error::Setup("this machine's agent sent the request elsewhere".to_owned()))
    }
}

fn encode(outgoing: &Outgoing) -> Vec<u8> {
    let mut request = format!("{} {} HTTP/1.1\r\n", outgoing.method, outgoing.target).into_bytes();
    for (name, value) in &outgoing.headers {
        request.extend_from_slice(name.as_str().as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    if !outgoing.body.is_empty() {
        request
            .extend_from_slice(format!("content-length: {}\r\n", outgoing.body.len()).as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(&outgoing.body);
    request
}

struct Reply {
    status: u16,
    age: Option<u64>,
    location: Option<String>,
    body: Bytes,
    /// Whether the connection ends here.
    close: bool,
}

enum Fault {
    /// Ended before the first byte of an answer.
    Closed,
    Io(io::Error),
    Answer(String),
}

impl From<io::Error> for Fault {
    fn from(why: io::Error) -> Self {
        Self::Io(why)
    }
}

fn ask(stream: &mut UnixStream, request: &[u8], until: Instant) -> Result<Reply, Fault> {
    let left =
        || Some(until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
    stream.set_write_timeout(left())?;
    if let Err(why) = stream.write_all(request) {
        let closed =
            matches!(why.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset);
        return Err(if closed { Fault::Closed } else { why.into() });
    }
    let mut answer = Vec::with_capacity(8 << 10);
    let mut more = |answer: &mut Vec<u8>| -> Result<bool, Fault> {
        stream.set_read_timeout(left())?;
        let mut piece = [0; 16 << 10];
        let got = match stream.read(&mut piece) {
            Err(why) if why.kind() == io::ErrorKind::ConnectionReset => 0,
            got => got?,
        };
        answer.extend_from_slice(&piece[..got]);
        Ok(got > 0)
    };
    let (mut reply, length, begin) = loop {
        if !more(&mut answer)? {
            return Err(if answer.is_empty() { Fault::Closed } else { torn() });
        }
        if let Some(head) = head(&answer)? {
            break head;
        }
        if answer.len() > LONGEST_HEAD {
            return Err(Fault::Answer(format!("a head of more than {LONGEST_HEAD} bytes")));
        }
    };
    while answer.len() < begin + length {
        if !more(&mut answer)? {
            return Err(torn());
        }
    }
    reply.body = Bytes::from(answer).slice(begin..begin + length);
    Ok(reply)
}

fn torn() -> Fault {
    Fault::Io(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer ended in the middle"))
}

/// Reads status and header lines once they are whole: an answer without its body, the body's length, and where it begins.
fn head(bytes: &[u8]) -> Result<Option<(Reply, usize, usize)>, Fault> {
    let mut lines = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut lines);
    let parsed = response.parse(bytes).map_err(|why| Fault::Answer(why.to_string()))?;
    let httparse::Status::Complete(begin) = parsed else { return Ok(None) };
    let header = |name: &str| {
        let line = response.headers.iter().find(|line| line.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(line.value).ok()
    };
    if header("transfer-encoding").is_some() {
        return Err(Fault::Answer("a body in pieces".to_owned()));
    }
    let status = response.code.unwrap_or_default();
    let length = match header("content-length").map(str::parse::<usize>) {
        Some(Ok(length)) if length <= MOST_BYTES => length,
        Some(Ok(_)) => return Err(Fault::Answer(format!("more than {MOST_BYTES} bytes"))),
        None if status == 204 => 0,
        Some(Err(_)) | None => return Err(Fault::Answer("a body of unknown length".to_owned())),
    };
    let moved = matches!(status, 301 | 302 | 307 | 308);
    let reply = Reply {
        status,
        age: header(CACHE_AGE).and_then(|age| age.parse().ok()),
        location: header("location").filter(|_| moved).map(str::to_owned),
        body: Bytes::new(),
        close: header("connection").is_some_and(|word| word.eq_ignore_ascii_case("close")),
    };
    Ok(Some((reply, length, begin)))
}
