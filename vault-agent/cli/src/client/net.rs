//! The way to any API: a socket, http, https, or this machine's agent started for one process.
//! hyper on one thread.

use std::error::Error as StdError;
use std::io;
use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::{Answer, Client, Endpoint, Error, Link, oneshot, tls};
use host::version;
use machine::local::{AGENT, BODY, CACHE_AGE};
use machine::paths::demand_short;

/// Vault's own limit on bodies.
const MOST_BYTES: usize = 32 << 20;

impl Client {
    /// Sends a request and collects its answer, whatever its status.
    pub(super) fn once(&self, method: Method, target: &str, body: Bytes) -> Result<Answer, Error> {
        let call = &format!("{method} {}{target}", self.base());
        let timeout = self.options.timeout;
        self.runtime.block_on(async {
            match tokio::time::timeout(timeout, self.exchange(call, method, target, body)).await {
                Ok(result) => result,
                Err(_) => {
                    let why = format!("no answer within {} s", timeout.as_secs_f32());
                    Err(Error::Transport { call: call.clone(), why })
                }
            }
        })
    }

    async fn exchange(
        &self,
        call: &str,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<Answer, Error> {
        let lost = |why: &(dyn StdError + 'static)| Error::Transport {
            call: call.to_owned(),
            why: chain(why),
        };
        let bytes = body.len();
        let mut request = Request::new(Full::new(body));
        let folder = self.place.address().map_or("", |address| address.parts().1);
        *request.uri_mut() = format!("{folder}{target}").parse().map_err(|why| lost(&why))?;
        *request.headers_mut() = self.headers.clone();
        if method == Method::PATCH {
            let merge = HeaderValue::from_static("application/merge-patch+json");
            request.headers_mut().insert(CONTENT_TYPE, merge);
        }
        *request.method_mut() = method;
        // A kept connection may have been closed meanwhile: a request that comes back unsent goes
        // over a new one, and so does a read that met the end of the connection, or its reset, on
        // its way.
        let mut fresh = false;
        loop {
            let taken = self.link.borrow_mut().take();
            let mut link = match taken {
                Some(link) => link,
                None => {
                    fresh = true;
                    self.connect(call).await?
                }
            };
            let read = (!fresh && request.method() == Method::GET).then(|| request.clone());
            match link.try_send_request(request).await {
                Ok(response) => {
                    let answer = collect(call, response).await?;
                    *self.link.borrow_mut() = Some(link);
                    return Ok(answer);
                }
                Err(mut unsent) => match unsent.take_message().filter(|_| !fresh).or(read) {
                    Some(back) => request = back,
                    // It has answered, as likely as not, before it hung up; hyper does not look.
                    None if bytes > BODY => return Err(Error::too_much(call, bytes)),
                    None => return Err(lost(unsent.error())),
                },
            }
        }
    }

    async fn connect(&self, call: &str) -> Result<Link, Error> {
        let lost =
            |why: io::Error| Error::Transport { call: call.to_owned(), why: why.to_string() };
        match &self.place {
            Endpoint::Agent { sockets, paths } => {
                // No agent listens at a path that is too long for a socket.
                for socket in sockets.iter().filter(|socket| demand_short(socket).is_ok()) {
                    match open(socket).await {
                        Ok(stream) => return shake(stream).await.map_err(lost),
                        Err(why) => match why.kind() {
                            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {}
                            io::ErrorKind::PermissionDenied => return Err(Error::barred(socket)),
                            _ => return Err(lost(why)),
                        },
                    }
                }
                let (stream, answering) = oneshot::start(sockets, paths, self.options.offline)?;
                *self.answering.borrow_mut() = Some(answering);
                let stream = UnixStream::from_std(stream).map_err(lost)?;
                shake(stream).await.map_err(lost)
            }
            Endpoint::Unix(socket) => {
                demand_short(socket).map_err(|why| Error::setup(why.to_string()))?;
                let stream = open(socket).await.map_err(lost)?;
                shake(stream).await.map_err(lost)
            }
            Endpoint::Tcp(address) => {
                let host = address.host.as_str();
                let tcp = TcpStream::connect((host, address.port)).await.map_err(lost)?;
                tcp.set_nodelay(true).map_err(lost)?;
                if address.secure {
                    let tls = tls::connect(&self.options.tls, host, tcp).await.map_err(lost)?;
                    shake(tls).await.map_err(lost)
                } else {
                    shake(tcp).await.map_err(lost)
                }
            }
        }
    }
}

/// Connects to a socket; an error names it.
async fn open(socket: &Path) -> io::Result<UnixStream> {
    let named =
        |why: io::Error| io::Error::new(why.kind(), format!("`{}`: {why}", socket.display()));
    UnixStream::connect(socket).await.map_err(named)
}

async fn shake(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> io::Result<Link> {
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(io::Error::other)?;
    // What goes wrong on the connection comes out at the request that meets it.
    tokio::spawn(connection);
    Ok(sender)
}

async fn collect(call: &str, response: Response<Incoming>) -> Result<Answer, Error> {
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let age = header(CACHE_AGE).and_then(|age| age.parse().ok());
    let agent = header(AGENT).filter(|it| *it != version::own()).map(str::to_owned);
    let moved = matches!(status, 301 | 302 | 307 | 308);
    let location = header(LOCATION.as_str()).filter(|_| moved).map(str::to_owned);
    match Limited::new(response.into_body(), MOST_BYTES).collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            Ok(Answer { call: call.to_owned(), status, body, cache_age: age, agent, location })
        }
        Err(why) if why.is::<LengthLimitError>() => {
            Err(Error::unexpected(call, &format!("more than {MOST_BYTES} bytes")))
        }
        Err(why) => Err(Error::Transport { call: call.to_owned(), why: chain(&*why) }),
    }
}

/// Shows an error with its causes, each once.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
