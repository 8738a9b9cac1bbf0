//! One method per route of the server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use host::raw_keys;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::error::Code;
use shared::hash::Hash;
use shared::head::SignedHead;
use shared::keys::{SignKey, VerifyKey};
use shared::limits;
use shared::text::Text;
use shared::wire::v1::audit::{
    AccessReply, AccessRequest, AuditPage, AuditQuery, LeavesPage, LeavesQuery,
};
use shared::wire::v1::error::ErrorBody;
use shared::wire::v1::join::{JoinList, JoinReply, JoinRequest};
use shared::wire::v1::log::{
    AdoptRequest, GenesisRequest, HealReply, HealRequest, LAST_HEAD, LogQuery,
};
use shared::wire::v1::report::{ReportReply, ReportRequest, TargetsPage, TargetsQuery};
use shared::wire::v1::shares::SharesReply;
use shared::wire::v1::{self as routes};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

use super::checkpoint::Shown;
use super::frames::Frames;
use super::{ConnectError, Ping, RemoteError};

const CONNECT: Duration = Duration::from_secs(5);
/// How much later the next address that a name stands for is tried, as RFC 8305 advises.
const NEXT: Duration = Duration::from_millis(250);
/// Most addresses of one name that are tried.
const NAMED: usize = 8;
const ANSWER: Duration = Duration::from_secs(20);
const WINDOW: u32 = 1 << 20;
/// Largest answer that is no stream: a page of leaves or of audit records.
const BODY: usize = 32 << 20;
/// Most bytes of what a server says of a refusal.
const SAID: usize = 1024;

/// One connection; clones share it.
#[derive(Clone)]
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    address: Arc<str>,
    way: Way,
    connection: AbortHandle,
}

/// The way that a connection takes.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// This host's end.
    pub local: SocketAddr,
    /// The server's end.
    pub peer: SocketAddr,
    /// From the first packet to the end of the handshake.
    pub took: Duration,
}

/// Connects to a server that holds one of `pins`, as the machine that holds `key`.
pub async fn connect(
    address: &str,
    pins: &[VerifyKey],
    key: &SignKey,
) -> Result<Client, ConnectError> {
    connect_to_stay(address, pins, key, Ping::default()).await
}

/// As [`connect`], for a connection that is kept and tried out now and then.
pub async fn connect_to_stay(
    address: &str,
    pins: &[VerifyKey],
    key: &SignKey,
    ping: Ping,
) -> Result<Client, ConnectError> {
    let unreachable =
        |reason: String| ConnectError::Unreachable { address: address.into(), reason };
    match timeout(CONNECT, open(address, pins, key, ping)).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(fault)) if raw_keys::is_wrong_pin(&fault) => {
            Err(ConnectError::WrongPin { address: address.into() })
        }
        Ok(Err(fault)) => Err(unreachable(fault.to_string())),
        Err(_) => Err(unreachable("it does not answer".into())),
    }
}

/// Connects to whatever server answers, as the stranger that holds `key`, and returns the server's
/// key with the connection: nothing that it says is to be believed until something else has shown
/// that this key is the right one.
pub async fn connect_to_any(
    address: &str,
    key: &SignKey,
) -> Result<(Client, VerifyKey), ConnectError> {
    let unreachable =
        |reason: String| ConnectError::Unreachable { address: address.into(), reason };
    let opened = timeout(CONNECT, async {
        let (stream, begun) = reach(address).await?;
        let ends = (stream.local_addr()?, stream.peer_addr()?);
        let (stream, server) = raw_keys::connect_to_any(key, stream).await?;
        Ok::<_, io::Error>((speak(stream, address, ends, begun, Ping::default()).await?, server))
    });
    match opened.await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(fault)) => Err(unreachable(fault.to_string())),
        Err(_) => Err(unreachable("it does not answer".into())),
    }
}

async fn open(address: &str, pins: &[VerifyKey], key: &SignKey, ping: Ping) -> io::Result<Client> {
    let (stream, begun) = reach(address).await?;
    let ends = (stream.local_addr()?, stream.peer_addr()?);
    speak(raw_keys::connect(pins, key, stream).await?, address, ends, begun, ping).await
}

async fn reach(address: &str) -> io::Result<(TcpStream, Instant)> {
    let begun = Instant::now();
    let stream = first_of(&alternating(lookup_host(address).await?)).await?;
    stream.set_nodelay(true)?;
    Ok((stream, begun))
}

/// Returns the first addresses of a name, IPv6 and IPv4 in turns: neither fills all places.
fn alternating(named: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut before = [0; 2];
    let mut ranked: Vec<(usize, SocketAddr)> = named
        .map(|address| {
            let rank = &mut before[usize::from(address.is_ipv6())];
            *rank += 1;
            (*rank, address)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, address)| address).take(NAMED).collect()
}

/// Connects to the first that answers of a name's addresses. One that leads nowhere, as IPv6 does
/// in many networks, holds up the next a moment only.
async fn first_of(named: &[SocketAddr]) -> io::Result<TcpStream> {
    let (mut tries, mut fault) = (JoinSet::new(), io::Error::other("the name has no address"));
    for address in named {
        tries.spawn(TcpStream::connect(*address));
        if let Ok(Some(stream)) = timeout(NEXT, connected(&mut tries, &mut fault)).await {
            return Ok(stream);
        }
    }
    connected(&mut tries, &mut fault).await.ok_or(fault)
}

/// Returns the first of `tries` that connects; nothing, and why in `fault`, once all have failed.
async fn connected(
    tries: &mut JoinSet<io::Result<TcpStream>>,
    fault: &mut io::Error,
) -> Option<TcpStream> {
    while let Some(tried) = tries.join_next().await {
        match tried.map_err(io::Error::from).flatten() {
            Ok(stream) => return Some(stream),
            Err(why) => *fault = why,
        }
    }
    None
}

/// Begins HTTP/2 on a stream between two ends, to which the way was begun at some time.
async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: &str,
    (local, peer): (SocketAddr, SocketAddr),
    begun: Instant,
    Ping(ping): Ping,
) -> io::Result<Client> {
    let way = Way { local, peer, took: begun.elapsed() };
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .keep_alive_interval(ping)
        .keep_alive_timeout(ping)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let running = tokio::spawn(async move {
        if let Err(fault) = connection.await {
            tracing::debug!(%fault, "connection ended");
        }
    });
    Ok(Client { sender, address: address.into(), way, connection: running.abort_handle() })
}

impl Client {
    /// Returns the address it is connected to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the way that the connection takes.
    pub fn way(&self) -> Way {
        self.way
    }

    /// Tells whether both use one connection.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.address, &other.address)
    }

    /// Ends the connection: requests that are under way are lost, as if the network were.
    pub fn cut(&self) {
        self.connection.abort();
    }

    /// Tells whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// `POST /v1/genesis`.
    pub async fn genesis(&self, request: &GenesisRequest) -> Result<(), RemoteError> {
        let answer = self.send(Method::POST, routes::GENESIS, json(request)?).await?;
        expect(answer, StatusCode::CREATED).await.map(drop)
    }

    /// `POST /v1/adopt`.
    pub async fn adopt(&self, request: &AdoptRequest) -> Result<(), RemoteError> {
        let answer = self.send(Method::POST, routes::ADOPT, json(request)?).await?;
        expect(answer, StatusCode::CREATED).await.map(drop)
    }

    /// `POST /v1/join`, as a stranger.
    pub async fn join(&self, request: &JoinRequest) -> Result<JoinReply, RemoteError> {
        parse(self.ask(Method::POST, routes::JOIN, json(request)?).await?).await
    }

    /// `GET /v1/join`.
    pub async fn waiting(&self) -> Result<JoinList, RemoteError> {
        parse(self.ask(Method::GET, routes::JOIN, Bytes::new()).await?).await
    }

    /// `GET /v1/log`, as a machine whose newest signed head is `last`.
    pub async fn log(
        &self,
        query: LogQuery,
        last: Option<SignedHead>,
    ) -> Result<Frames, RemoteError> {
        let follows = query.follow;
        let query = serde_urlencoded::to_string(query).map_err(RemoteError::protocol)?;
        let uri = format!("{}?{query}", routes::LOG);
        let answer = self.send_after(Method::GET, &uri, Bytes::new(), last).await?;
        Ok(Frames::new(expect(answer, StatusCode::OK).await?, follows))
    }

    /// `GET /v1/checkpoint`.
    pub async fn checkpoint(&self) -> Result<Shown, RemoteError> {
        Shown::begin(self.ask(Method::GET, routes::CHECKPOINT, Bytes::new()).await?).await
    }

    /// `POST /v1/log` with a request that was written before, so that it can be sent again, by a
    /// machine whose newest signed head is `last`. Whether the answer vouches for the entry is to
    /// be verified.
    ///
    /// # Errors
    /// See [`RemoteError`]; [`RemoteError::Conflict`] if the log has moved on.
    pub async fn append(
        &self,
        request: Bytes,
        last: Option<SignedHead>,
    ) -> Result<SignedHead, RemoteError> {
        let answer = self.send_after(Method::POST, routes::LOG, request, last).await?;
        if answer.status() == StatusCode::CONFLICT {
            return Err(RemoteError::Conflict(parse(answer.into_body()).await?));
        }
        parse(expect(answer, StatusCode::CREATED).await?).await
    }

    /// `POST /v1/heal`.
    pub async fn heal(&self, request: &HealRequest) -> Result<HealReply, RemoteError> {
        parse(self.ask(Method::POST, routes::HEAL, json(request)?).await?).await
    }

    /// `PUT /v1/blob/<sha256>`.
    pub async fn put_blob(&self, blob: Hash, bytes: Vec<u8>) -> Result<(), RemoteError> {
        let uri = format!("{}{blob}", routes::BLOB);
        let answer = self.send(Method::PUT, &uri, bytes.into()).await?;
        if answer.status().is_success() { Ok(()) } else { Err(refusal(answer).await) }
    }

    /// `GET /v1/blob/<sha256>`; the bytes are as the server sent them, unchecked.
    pub async fn blob(&self, blob: Hash) -> Result<Vec<u8>, RemoteError> {
        let uri = format!("{}{blob}", routes::BLOB);
        let body = self.ask(Method::GET, &uri, Bytes::new()).await?;
        match read(body, limits::BLOB).await {
            Err(RemoteError::Protocol(why)) => {
                Err(RemoteError::Refused(Code::BlobSize.because(why)))
            }
            answer => Ok(answer?.to_vec()),
        }
    }

    /// `POST /v1/report`.
    pub async fn report(&self, request: &ReportRequest) -> Result<ReportReply, RemoteError> {
        parse(self.ask(Method::POST, routes::REPORT, json(request)?).await?).await
    }

    /// `GET /v1/targets`.
    pub async fn targets(&self, query: TargetsQuery) -> Result<TargetsPage, RemoteError> {
        let uri = format!("{}?after={}", routes::TARGETS, query.after);
        parse(self.ask(Method::GET, &uri, Bytes::new()).await?).await
    }

    /// `GET /v1/shares`.
    pub async fn shares(&self) -> Result<SharesReply, RemoteError> {
        parse(self.ask(Method::GET, routes::SHARES, Bytes::new()).await?).await
    }

    /// `POST /v1/access`.
    pub async fn access(&self, request: &AccessRequest) -> Result<AccessReply, RemoteError> {
        parse(self.ask(Method::POST, routes::ACCESS, json(request)?).await?).await
    }

    /// `GET /v1/audit`.
    pub async fn audit(&self, query: &AuditQuery) -> Result<AuditPage, RemoteError> {
        let parameters = serde_urlencoded::to_string(query.parameters())
            .map_err(|why| RemoteError::protocol(why.to_string()))?;
        let uri = format!("{}?{parameters}", routes::AUDIT);
        parse(self.ask(Method::GET, &uri, Bytes::new()).await?).await
    }

    /// `GET /v1/audit/leaves`.
    pub async fn leaves(&self, query: LeavesQuery) -> Result<LeavesPage, RemoteError> {
        let uri = format!("{}?after={}", routes::AUDIT_LEAVES, query.after);
        parse(self.ask(Method::GET, &uri, Bytes::new()).await?).await
    }

    /// Sends a request and returns the body of a plain success.
    async fn ask(&self, method: Method, uri: &str, body: Bytes) -> Result<Incoming, RemoteError> {
        expect(self.send(method, uri, body).await?, StatusCode::OK).await
    }

    async fn send(
        &self,
        method: Method,
        uri: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, RemoteError> {
        self.send_after(method, uri, body, None).await
    }

    async fn send_after(
        &self,
        method: Method,
        uri: &str,
        body: Bytes,
        last: Option<SignedHead>,
    ) -> Result<Response<Incoming>, RemoteError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://vault{uri}"))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(last) = last {
            request = request.header(
                LAST_HEAD,
                HeaderValue::from_maybe_shared(json(&last)?).map_err(RemoteError::protocol)?,
            );
        }
        let request = request.body(Full::new(body)).map_err(RemoteError::protocol)?;
        let mut sender = self.sender.clone();
        let answered = timeout(ANSWER, async {
            sender.ready().await?;
            sender.send_request(request).await
        });
        answered
            .await
            .map_err(|_| RemoteError::lost("the server does not answer"))?
            .map_err(RemoteError::lost)
    }
}

fn json<T: Serialize>(value: &T) -> Result<Bytes, RemoteError> {
    Ok(serde_json::to_vec(value).map_err(RemoteError::protocol)?.into())
}

async fn expect(answer: Response<Incoming>, status: StatusCode) -> Result<Incoming, RemoteError> {
    if answer.status() == status { Ok(answer.into_body()) } else { Err(refusal(answer).await) }
}

/// Turns an answer that is not a success into why.
async fn refusal(answer: Response<Incoming>) -> RemoteError {
    let status = answer.status().as_u16();
    let retry_after = retry_after(answer.headers());
    let body: Result<ErrorBody, RemoteError> = parse(answer.into_body()).await;
    let ErrorBody { code, detail } = body
        .unwrap_or_else(|fault| ErrorBody { code: "no_reason".into(), detail: fault.to_string() });
    let detail = match (status, &*code) {
        (404, "not_found") | (405, "method_not_allowed") => {
            format!("{detail}: the server may be older than this program")
        }
        _ => detail,
    };
    // Nobody vouches for what a server says: it stays one short line wherever it is shown.
    let shown = |text: &str| Text::<SAID>::lossy(text).to_string();
    match Code::from_text(&code) {
        Some(code) => RemoteError::Refused(code.because(shown(&detail))),
        None => {
            let (code, detail) = (shown(&code), shown(&detail));
            RemoteError::Status { status, code, detail, retry_after }
        }
    }
}

/// Reads how many seconds the server asks to wait.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

async fn parse<T: DeserializeOwned>(body: Incoming) -> Result<T, RemoteError> {
    let bytes = read(body, BODY).await?;
    serde_json::from_slice(&bytes).map_err(|why| RemoteError::protocol(format!("answer: {why}")))
}

async fn read(body: Incoming, limit: usize) -> Result<Bytes, RemoteError> {
    let read = timeout(ANSWER, Limited::new(body, limit).collect()).await;
    let whole = read.map_err(|_| RemoteError::lost("the answer stops half-way"))?;
    let whole = whole.map_err(|fault| match fault.is::<LengthLimitError>() {
        true => RemoteError::protocol(format!("an answer of more than {limit} bytes")),
        false => RemoteError::lost(fault),
    });
    Ok(whole?.to_bytes())
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn an_address_of_a_name_that_leads_nowhere_does_not_hold_up_the_others() {
        // No room in the queue of what was not accepted: the next one gets no answer.
        let full = TcpSocket::new_v4().unwrap();
        full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = full.listen(0).unwrap();
        let hung = full.local_addr().unwrap();
        let _waits = TcpStream::connect(hung).await.unwrap();
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = (good.local_addr().unwrap(), good);
        let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        for named in [&[hung, good.0][..], &[refused, hung, good.0], &[hung, refused, good.0]] {
            let stream = timeout(CONNECT, first_of(named)).await.unwrap().unwrap();
            assert_eq!(stream.peer_addr().unwrap(), good.0);
        }
        let fault = first_of(&[refused, refused]).await.unwrap_err();
        assert_eq!(fault.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(first_of(&[]).await.unwrap_err().to_string(), "the name has no address");
    }

    #[test]
    fn a_name_with_many_addresses_is_tried_by_both_protocols() {
        let address = |text: &str| format!("{text}:1").parse::<SocketAddr>().unwrap();
        let six = (1..=10).map(|n| address(&format!("[2001:db8::{n}]")));
        let four = ["192.0.2.1", "192.0.2.2"].map(address);
        let tried = alternating(six.clone().chain(four));
        let six: Vec<_> = six.collect();
        let expected = [six[0], four[0], six[1], four[1], six[2], six[3], six[4], six[5]];
        assert_eq!(tried, expected);
    }
}
