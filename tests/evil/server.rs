//! A server that says what it is told to, over real TLS and HTTP/2: honest but for the lie that a
//! test has told it. The lies live in `lies`.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use host::raw_keys::Acceptor;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame as Part, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use shared::audit::AuditHead;
use shared::hash::Hash;
use shared::head::{Head, SignedHead};
use shared::keys::SignKey;
use shared::signed::{Envelope, Purpose, VaultId};
use shared::time::Time;
use shared::wire::v1;
use shared::wire::v1::audit::{AccessReply, AccessRequest, LeavesPage};
use shared::wire::v1::blob::Inline;
use shared::wire::v1::join::JoinList;
use shared::wire::v1::log::{AppendRequest, Frame, HealReply};
use shared::wire::v1::report::{ReportReply, TargetsPage};
use shared::wire::v1::shares::SharesReply;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Status and body of an answer that is no stream.
pub type Reply = (u16, Vec<u8>);
/// Status of an answer that begins and never ends.
pub const NEVER: u16 = 0;

/// A request, as a lie sees it.
pub struct Asked<'a> {
    /// Method and path, e.g. `POST /v1/log`.
    pub what: &'a str,
    /// What stands after the path.
    pub query: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// What a server has and says: the truth when it was harvested, a lie once a test has changed it.
#[derive(Clone)]
pub struct Told {
    /// The vault.
    pub vault: VaultId,
    /// What heads are signed with.
    pub key: Arc<SignKey>,
    /// What the server shows in the handshake.
    pub tls: Arc<SignKey>,
    /// The genesis and the entries.
    pub log: Vec<Envelope>,
    /// Age files.
    pub blobs: HashMap<Hash, Vec<u8>>,
    /// The audit chain's leaves.
    pub leaves: Vec<Hash>,
    /// Makes the lines of a stream out of the true ones.
    pub stream: fn(&Self, Vec<Frame>) -> Vec<Bytes>,
    /// Changes each head of a stream, or leaves it out.
    pub twist: fn(&Self, SignedHead) -> Option<SignedHead>,
    /// Answers instead of the honest server, where it returns something.
    pub answer: fn(&mut Self, &Asked<'_>) -> Option<Reply>,
    /// Ends a stream when all is said, instead of holding it open.
    pub ends: bool,
    /// How often the log was asked for.
    pub streams: usize,
}

/// Writes a frame as one line.
pub fn line(frame: &Frame) -> Bytes {
    let mut line = serde_json::to_vec(frame).unwrap();
    line.push(b'\n');
    line.into()
}

/// Writes a JSON answer.
pub fn json<T: serde::Serialize>(status: u16, body: &T) -> Reply {
    (status, serde_json::to_vec(body).unwrap())
}

/// Answers with an error.
pub fn refusal(status: u16, code: &str) -> Reply {
    let (code, detail) = (code.to_owned(), "the server says so".to_owned());
    json(status, &v1::error::ErrorBody { code, detail })
}

impl Told {
    /// Makes an honest server.
    pub fn honest(key: SignKey, log: Vec<Envelope>) -> Self {
        let key = Arc::new(key);
        Self {
            vault: log[0].hash(Purpose::Genesis),
            tls: Arc::clone(&key),
            key,
            log,
            blobs: HashMap::new(),
            leaves: Vec::new(),
            stream: |_, frames| frames.iter().map(line).collect(),
            twist: |_, head| Some(head),
            answer: |_, _| None,
            ends: false,
            streams: 0,
        }
    }

    /// Returns the hash of entry `seq`.
    pub fn hash(&self, seq: usize) -> Hash {
        let purpose = if seq == 0 { Purpose::Genesis } else { Purpose::Entry(self.vault) };
        self.log[seq].hash(purpose)
    }

    /// Returns the number of the last entry.
    pub fn last(&self) -> usize {
        self.log.len() - 1
    }

    /// Returns the true head of entry `seq`, signed.
    pub fn head(&self, seq: usize) -> SignedHead {
        self.sign(Head { epoch: self.vault, seq: seq as u64, head: self.hash(seq) })
    }

    /// Signs any head, as the holder of the key can.
    pub fn sign(&self, head: Head) -> SignedHead {
        head.sign(&self.key, self.vault).unwrap()
    }

    /// Returns the audit chain's head.
    pub fn audit(&self) -> AuditHead {
        self.leaves.iter().fold(AuditHead::EMPTY, |head, leaf| head.then(*leaf))
    }

    /// Returns the leaves of the audit chain after the record that is asked for.
    pub fn page(&self, asked: &Asked<'_>) -> LeavesPage {
        let (known, new) = self.leaves.split_at(after(asked.query).min(self.leaves.len()));
        let from = known.iter().fold(AuditHead::EMPTY, |head, leaf| head.then(*leaf));
        LeavesPage { from, until: None, leaves: new.to_vec(), head: self.audit() }
    }

    /// Returns the frames of a stream, true but for the heads.
    fn frames(&self, after: usize) -> Vec<Frame> {
        let head = (self.twist)(self, self.head(self.last())).map(Frame::Head);
        let mut frames = Vec::from_iter(head.clone());
        if after == 0 {
            frames.push(Frame::Genesis(self.log[0].clone()));
        }
        for envelope in self.log.iter().skip(after + 1) {
            frames.push(Frame::Entry { envelope: envelope.clone(), blobs: Vec::new() });
        }
        if after < self.last() {
            frames.extend(head);
        }
        frames
    }

    /// Answers what is no stream as an honest server would.
    pub fn reply(&mut self, asked: &Asked<'_>) -> Reply {
        let Asked { what, body, .. } = *asked;
        match what {
            "POST /v1/log" => self.append(body),
            "POST /v1/report" => json(
                200,
                &ReportReply {
                    now: now(),
                    audit: self.audit(),
                    wants_targets: false,
                    seen: Vec::new(),
                    next: 0,
                    clones: Vec::new(),
                    full: false,
                    accesses: None,
                },
            ),
            "GET /v1/targets" => json(200, &TargetsPage::default()),
            "GET /v1/shares" => json(200, &SharesReply::default()),
            "GET /v1/join" => json(200, &JoinList::default()),
            "POST /v1/access" => {
                let AccessRequest { first, reads, .. } = serde_json::from_slice(body).unwrap();
                json(200, &AccessReply { next: first + reads.len() as u64 })
            }
            "GET /v1/audit/leaves" => json(200, &self.page(asked)),
            "POST /v1/heal" => {
                let head = self.head(self.last());
                json(200, &HealReply { head, restored: false, wanted: Vec::new() })
            }
            _ => self.blob(what, body),
        }
    }

    fn blob(&mut self, what: &str, body: &[u8]) -> Reply {
        if let Some(id) = what.strip_prefix("GET /v1/blob/") {
            let found = self.blobs.get(&id.parse::<Hash>().unwrap());
            return found
                .map_or_else(|| refusal(404, "E_BLOB_ABSENT"), |bytes| (200, bytes.clone()));
        }
        if what.starts_with("PUT /v1/blob/") {
            self.blobs.insert(Hash::of(&[body]), body.to_vec());
            return (201, Vec::new());
        }
        panic!("nobody should ask for {what}")
    }

    fn append(&mut self, body: &[u8]) -> Reply {
        let AppendRequest { envelope, blobs, .. } = serde_json::from_slice(body).unwrap();
        let entry: shared::log::Entry = envelope.parse().unwrap();
        if let Some(at) = self.log.iter().position(|known| *known == envelope) {
            return json(201, &self.head(at));
        }
        if entry.prev != self.hash(self.last()) {
            return json(409, &self.head(self.last()));
        }
        self.log.push(envelope);
        self.blobs.extend(blobs.into_iter().map(|Inline(bytes)| (Hash::of(&[&bytes]), bytes)));
        json(201, &self.head(self.last()))
    }
}

/// Returns after which number more is asked for.
fn after(query: &str) -> usize {
    let after = query.split('&').find_map(|part| part.strip_prefix("after="));
    after.unwrap().parse().unwrap()
}

/// The true time.
pub fn now() -> Time {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    Time::from_micros(u64::try_from(since.as_micros()).unwrap())
}

/// What the tasks of a running server share.
struct Shared {
    told: Mutex<Told>,
    /// Ticks when the log has grown.
    grown: watch::Sender<usize>,
    /// What was asked for, by method and path.
    asked: watch::Sender<HashSet<String>>,
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server; dropping it ends its connections and frees its address.
pub struct Evil {
    runtime: Option<tokio::runtime::Runtime>,
    shared: Arc<Shared>,
}

impl Evil {
    /// Says `told` at `address`.
    pub fn start(address: &str, told: Told) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let patience = std::time::Duration::from_secs(10);
        let acceptor = Acceptor::new(&told.tls, patience).unwrap();
        // The address may still be that of a connection of the server before.
        let listener = tests::watch::poll(&format!("{address} is free"), || {
            runtime.block_on(TcpListener::bind(address)).ok()
        });
        let (grown, asked) = (watch::Sender::new(told.last()), watch::Sender::default());
        let shared = Arc::new(Shared { told: Mutex::new(told), grown, asked });
        let served = Arc::clone(&shared);
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(acceptor.clone(), socket, Arc::clone(&served)));
            }
        });
        Self { runtime: Some(runtime), shared }
    }

    /// Returns what the server has and says by now.
    pub fn told(&self) -> Told {
        self.shared.told().clone()
    }

    /// Waits until what begins like `what`, e.g. `POST /v1/report`, was asked for.
    pub fn heard(&self, lie: &str, what: &str) {
        tests::watch::poll(&format!("{lie}: {what} is asked for"), || {
            self.shared.asked.borrow().iter().any(|asked| asked.starts_with(what)).then_some(())
        });
    }
}

impl Drop for Evil {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(std::time::Duration::from_secs(10));
        }
    }
}

async fn serve(acceptor: Acceptor, socket: TcpStream, shared: Arc<Shared>) {
    let Ok((stream, _key)) = acceptor.accept(socket).await else { return };
    let service = service_fn(move |mut request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move {
            let body = request.body_mut().collect().await;
            let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            Ok::<_, Infallible>(answer(&shared, &request, &body))
        }
    });
    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

fn answer(
    shared: &Arc<Shared>,
    request: &Request<Incoming>,
    body: &Bytes,
) -> Response<BoxBody<Bytes, Infallible>> {
    let what = format!("{} {}", request.method(), request.uri().path());
    let query = request.uri().query().unwrap_or_default();
    let mut told = shared.told();
    shared.asked.send_modify(|asked| _ = asked.insert(what.clone()));
    let asked = Asked { what: &what, query, body };
    let lie = (told.answer)(&mut told, &asked);
    if request.method() == Method::GET && request.uri().path() == v1::LOG && lie.is_none() {
        told.streams += 1;
        let is_page = !query.contains("follow=true");
        return Response::new(follow(shared, &told, after(query), is_page));
    }
    let (status, bytes) = lie.unwrap_or_else(|| told.reply(&asked));
    shared.grown.send_replace(told.last());
    if status == NEVER {
        return Response::new(boxed(stream::pending()));
    }
    let mut response = Response::new(BoxBody::new(Full::new(bytes.into())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// Says what there is, then, unless only a page is asked for, every entry that is appended, until
/// the reader leaves.
fn follow(
    shared: &Arc<Shared>,
    told: &Told,
    after: usize,
    is_page: bool,
) -> BoxBody<Bytes, Infallible> {
    let first = (told.stream)(told, told.frames(after));
    let first = stream::iter(first);
    if told.ends || is_page {
        return boxed(first);
    }
    let (last, grown) = (told.last(), shared.grown.subscribe());
    let later =
        stream::unfold((last, grown, Arc::clone(shared)), async |(sent, mut grown, shared)| {
            let _ = grown.wait_for(|last| *last > sent).await;
            let told = shared.told();
            let lines: Vec<Bytes> = told.frames(sent).iter().map(line).collect();
            let last = told.last();
            drop(told);
            Some((Bytes::from(lines.concat()), (last, grown, shared)))
        });
    boxed(first.chain(later))
}

fn boxed(
    lines: impl stream::Stream<Item = Bytes> + Send + Sync + 'static,
) -> BoxBody<Bytes, Infallible> {
    BoxBody::new(StreamBody::new(lines.map(|line| Ok(Part::data(line)))))
}
