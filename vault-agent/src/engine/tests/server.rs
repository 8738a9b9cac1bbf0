//! A server in the same process: real TLS and HTTP/2, the shared rules, and faults on demand. What
//! it does with reports lives in `reported`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use host::raw_keys::Acceptor;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame as BodyFrame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use shared::audit::Fact;
use shared::error::Code;
use shared::hash::Hash;
use shared::head::{Head, SignedHead};
use shared::keys::SignKey;
use shared::log::{self, Number, Op, State};
use shared::name::Actor;
use shared::path::SecretPath;
use shared::signed::{Envelope, Purpose};
use shared::time::Time;
use shared::wire::v1::audit::{AccessReply, AccessRequest};
use shared::wire::v1::blob::Inline;
use shared::wire::v1::error::{ErrorBody, RESTORED};
use shared::wire::v1::log::{AppendRequest, Frame, HealReply, HealRequest, LAST_HEAD};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::reported::Reported;

pub(super) type Answer = Response<BoxBody<Bytes, Infallible>>;

/// Entries after which a page of the log holds a signed head.
const CHUNK: usize = 50;

/// What the server does with the next append.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Commits and answers 500.
    ForgetsToAnswer,
    /// Commits, answers 500, and tells no follower either.
    ForgetsToTell,
    /// Answers 500 without committing.
    FailsBefore,
    /// Answers that a rule forbids it.
    Refuses,
    /// Answers that the time is not the server's.
    Mistimes,
    /// Commits and refuses all the same; tells the followers where `told`.
    RefusesKept { code: Code, told: bool },
    /// Commits and answers that another entry was first.
    Denies,
    /// The same, with a head that it should not have signed.
    DeniesWith(Lie),
    /// Commits, tells no follower, and vouches for something else.
    Vouches(Lie),
    /// Asks to wait so many seconds, without committing.
    Meters(u64),
}

/// How a signed head differs from the true one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    OtherKey,
    OtherEpoch,
    NextSeq,
    OtherHash,
    /// A head of entry 1 that never was.
    Fork,
}

impl Lie {
    /// Makes the lie about where the log ends.
    pub(super) fn tell(self, place: Head, key: &SignKey, vault: Hash) -> SignedHead {
        let other = Hash::of(&[b"another"]);
        let stranger = SignKey::generate();
        let (place, key) = match self {
            Self::OtherKey => (place, &stranger),
            Self::OtherEpoch => (Head { epoch: other, ..place }, key),
            Self::NextSeq => (Head { seq: place.seq + 1, ..place }, key),
            Self::OtherHash => (Head { head: other, ..place }, key),
            Self::Fork => (Head { seq: 1, head: other, ..place }, key),
        };
        place.sign(key, vault).unwrap()
    }
}

/// The server's data; tests look at it and damage it.
pub(super) struct Data {
    /// What it signs heads with.
    pub(super) key: SignKey,
    pub(super) genesis: Envelope,
    pub(super) state: State,
    pub(super) entries: Vec<Envelope>,
    pub(super) blobs: HashMap<Hash, Vec<u8>>,
    pub(super) reported: Reported,
    pub(super) reads: Vec<Fact>,
    pub(super) faults: Vec<Fault>,
    /// Bodies of all appends, in order.
    pub(super) posts: Vec<Bytes>,
    /// Whether blobs travel along the stream.
    pub(super) inline: bool,
    /// Whether entries are sent without the head that they made.
    pub(super) headless: bool,
    /// Whether streams end before the head of their last entry.
    pub(super) cut: bool,
    /// Whether it says that it was restored.
    pub(super) restored: bool,
    /// Whether entries of machines get no answer.
    pub(super) deaf: bool,
    /// The heads that callers showed with their requests for the log.
    pub(super) shown: Vec<Option<SignedHead>>,
    /// Whether a key of no machine may follow the log, too.
    pub(super) open: bool,
    /// What followers have asked for, in order.
    pub(super) asked: Vec<String>,
    /// The time that this server tells; what it is if `None`.
    pub(super) clock: Option<Time>,
    /// Blobs that were asked for, in order.
    pub(super) fetched: Vec<Hash>,
    followers: Vec<(Number, mpsc::UnboundedSender<Bytes>)>,
}

impl Data {
    /// Appends as the server would, and tells the followers; `writer` has the blobs.
    pub(super) fn append(
        &mut self,
        request: AppendRequest,
        writer: Option<Number>,
    ) -> Result<SignedHead, shared::error::Error> {
        let AppendRequest { envelope, blobs, .. } = request;
        log::apply(&mut self.state, &envelope)?;
        for blob in &blobs {
            self.blobs.insert(Hash::of(&[&blob.0]), blob.0.clone());
        }
        self.entries.push(envelope.clone());
        let blobs = if self.inline { blobs } else { Vec::new() };
        let head = self.signed();
        let heads = if self.headless { Vec::new() } else { vec![Frame::Head(head)] };
        let lines = |entry| lines(std::iter::once(&entry).chain(&heads));
        let own = lines(Frame::Entry { envelope: envelope.clone(), blobs: Vec::new() });
        let others = lines(Frame::Entry { envelope, blobs });
        self.followers.retain(|(number, follower)| {
            let line = if writer == Some(*number) { &own } else { &others };
            follower.send(line.clone()).is_ok()
        });
        Ok(head)
    }

    pub(super) fn now(&self) -> Time {
        self.clock.unwrap_or_else(host::clock::now)
    }

    /// Appends without telling the followers.
    pub(super) fn append_unsaid(&mut self, request: AppendRequest) {
        let followers = std::mem::take(&mut self.followers);
        self.append(request, None).unwrap();
        self.followers = followers;
    }

    /// Sends a frame to all followers, whatever it holds.
    pub(super) fn send(&mut self, frame: &Frame) {
        self.say(&lines([frame]));
    }

    /// Sends an entry to all followers as number `seq`, whatever it is, and signs that.
    pub(super) fn claim(&mut self, seq: u64, envelope: Envelope) {
        let purpose = Purpose::Entry(self.state.vault());
        let place = Head { epoch: self.state.epoch(), seq, head: envelope.hash(purpose) };
        let head = Frame::Head(place.sign(&self.key, self.state.vault()).unwrap());
        self.say(&lines([&Frame::Entry { envelope, blobs: Vec::new() }, &head]));
    }

    /// Sends bytes to all followers, frame or not.
    pub(super) fn say(&mut self, line: &Bytes) {
        self.followers.retain(|(_, follower)| follower.send(line.clone()).is_ok());
    }

    /// Ends all streams.
    pub(super) fn hang_up(&mut self) {
        self.followers.clear();
    }

    /// Signs where the log ends.
    pub(super) fn signed(&self) -> SignedHead {
        self.sign(self.state.place())
    }

    /// Signs any head.
    pub(super) fn sign(&self, place: Head) -> SignedHead {
        place.sign(&self.key, self.state.vault()).unwrap()
    }

    /// Signs the head that entry `seq` made.
    fn head_at(&self, seq: u64) -> SignedHead {
        let entry = &self.entries[usize::try_from(seq).unwrap() - 1];
        let head = entry.hash(Purpose::Entry(self.state.vault()));
        self.sign(Head { epoch: self.state.epoch_at(seq), seq, head })
    }

    /// Lies about where the log ends.
    pub(super) fn lie(&self, lie: Lie) -> SignedHead {
        lie.tell(self.state.place(), &self.key, self.state.vault())
    }
}

fn lines<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> Bytes {
    let mut lines = Vec::new();
    for frame in frames {
        serde_json::to_writer(&mut lines, frame).unwrap();
        lines.push(b'\n');
    }
    lines.into()
}

/// The server; it ends with the runtime.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) address: String,
    data: Arc<Mutex<Data>>,
}

impl Server {
    pub(super) async fn start(key: &SignKey, genesis: Envelope) -> Self {
        let data = Data {
            key: SignKey::from_seed(&key.seed()),
            state: log::start(&genesis).unwrap(),
            genesis,
            entries: Vec::new(),
            blobs: HashMap::new(),
            reported: Reported::default(),
            reads: Vec::new(),
            faults: Vec::new(),
            posts: Vec::new(),
            inline: true,
            headless: false,
            cut: false,
            restored: false,
            deaf: false,
            shown: Vec::new(),
            open: false,
            asked: Vec::new(),
            clock: None,
            fetched: Vec::new(),
            followers: Vec::new(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Self { address, data: Arc::new(Mutex::new(data)) };
        let acceptor = Acceptor::new(key, Duration::from_secs(10)).unwrap();
        let own = server.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(own.clone().serve(acceptor.clone(), stream));
            }
        });
        server
    }

    pub(super) fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap()
    }

    async fn serve(self, acceptor: Acceptor, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let Ok((stream, key)) = acceptor.accept(stream).await else { return };
        let service = service_fn(move |request| {
            let own = self.clone();
            async move { Ok::<_, Infallible>(own.answer(key, request).await) }
        });
        let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = http.serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(self, key: [u8; 32], request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let path = parts.uri.path().to_owned();
        let number = {
            let data = self.data();
            let number = data.state.machine_by_key(&key).map(|(number, _)| number);
            number.or(data.open.then_some(Number::MAX))
        };
        let Some(number) = number else { return refuse(403, "forbidden", "no machine") };
        if path == "/v1/log" {
            let shown = parts.headers.get(LAST_HEAD);
            let shown = shown.map(|head| serde_json::from_slice(head.as_bytes()).unwrap());
            self.data().shown.push(shown);
        }
        match (&parts.method, path.as_str()) {
            (&Method::GET, "/v1/log" | "/v1/checkpoint") => self.log(number, &parts.uri),
            (&Method::POST, "/v1/log") => self.append(&body, number),
            (&Method::POST, "/v1/heal") => self.heal(&body),
            (&Method::POST, "/v1/report") => self.report(number, &body),
            (&Method::GET, "/v1/targets") => self.targets(),
            (&Method::GET, "/v1/shares") => json(200, &self.data().reported.shares),
            (&Method::GET, "/v1/audit") => self.records(parts.uri.query().unwrap()),
            (&Method::GET, "/v1/audit/leaves") => self.leaves(parts.uri.query().unwrap()),
            (&Method::POST, "/v1/access") => {
                let AccessRequest { first, reads, .. } = serde_json::from_slice(&body).unwrap();
                let next = first + reads.len() as u64;
                self.data().reads.extend(reads);
                json(200, &AccessReply { next })
            }
            (&Method::PUT, _) => {
                self.data().blobs.insert(Hash::of(&[&body]), body.to_vec());
                json(200, &())
            }
            (&Method::GET, path) => {
                let blob = path.strip_prefix("/v1/blob/").unwrap().parse::<Hash>().unwrap();
                let mut data = self.data();
                data.fetched.push(blob);
                if data.restored {
                    return refuse(503, RESTORED, "restored");
                }
                match data.blobs.get(&blob) {
                    Some(bytes) => raw(200, bytes.clone().into()),
                    None => refuse(404, Code::BlobAbsent.as_str(), "blob"),
                }
            }
            _ => refuse(404, "not_found", "no such route"),
        }
    }

    fn append(&self, body: &Bytes, writer: Number) -> Answer {
        let mut data = self.data();
        data.posts.push(body.clone());
        let fault = data.faults.pop();
        match fault {
            Some(Fault::FailsBefore) => return refuse(500, "unavailable", "on demand"),
            Some(Fault::Refuses) => return refuse(422, Code::Limits.as_str(), "on demand"),
            Some(Fault::Meters(seconds)) => {
                let mut answer = refuse(429, "over_share", "on demand");
                answer.headers_mut().insert(hyper::header::RETRY_AFTER, seconds.into());
                return answer;
            }
            _ => {}
        }
        if fault == Some(Fault::Mistimes) {
            let said = "`home` wrote at 1, the server's clock says 2";
            return refuse(422, Code::Clock.as_str(), said);
        }
        let request: AppendRequest = serde_json::from_slice(body).unwrap();
        if let Some(at) = data.entries.iter().position(|known| *known == request.envelope) {
            if let Some(Fault::Vouches(lie)) = fault {
                return json(201, &data.lie(lie));
            }
            return json(201, &data.head_at(at as u64 + 1));
        }
        if data.restored {
            return refuse(503, RESTORED, "restored");
        }
        if data.deaf && matches!(request.envelope.by, Actor::Machine(_)) {
            return refuse(500, "unavailable", "on demand");
        }
        let silent = matches!(
            fault,
            Some(Fault::ForgetsToTell | Fault::Vouches(_) | Fault::RefusesKept { told: false, .. })
        );
        let followers = if silent { std::mem::take(&mut data.followers) } else { Vec::new() };
        let appended = data.append(request, Some(writer));
        data.followers.extend(followers);
        match (appended, fault) {
            (Ok(_), Some(Fault::ForgetsToTell | Fault::ForgetsToAnswer)) => {
                refuse(500, "unavailable", "on demand")
            }
            (Ok(_), Some(Fault::RefusesKept { code, .. })) => {
                refuse(422, code.as_str(), "on demand")
            }
            (Ok(head), Some(Fault::Denies)) => json(409, &head),
            (Ok(_), Some(Fault::DeniesWith(lie))) => json(409, &data.lie(lie)),
            (Ok(_), Some(Fault::Vouches(lie))) => json(201, &data.lie(lie)),
            (Ok(head), _) => json(201, &head),
            (Err(error), _) if matches!(error.code, Code::Seq | Code::Prev) => {
                json(409, &data.signed())
            }
            (Err(error), _) => refuse(422, error.code.as_str(), &error.detail),
        }
    }

    fn heal(&self, body: &Bytes) -> Answer {
        let HealRequest { entries, head, .. } = serde_json::from_slice(body).unwrap();
        let mut data = self.data();
        if let Some(last) = entries.last() {
            let purpose = Purpose::Entry(data.state.vault());
            let head = head.expect("a run ends with a signed head");
            head.verify(&[data.key.verify_key()], data.state.vault()).unwrap();
            assert_eq!(head.seq, data.state.seq() + entries.len() as u64);
            assert_eq!(head.head, last.hash(purpose));
        }
        for envelope in entries {
            let request = AppendRequest { envelope, blobs: Vec::new(), code: None };
            if let Err(error) = data.append(request, None) {
                return refuse(422, error.code.as_str(), &error.detail);
            }
        }
        let versions = data.state.secrets().values().flat_map(log::Secret::versions);
        let blobs = versions.map(|(_, it)| it.blob).filter(|id| !data.blobs.contains_key(id));
        let head = data.reported.healed.unwrap_or_else(|| data.signed());
        json(200, &HealReply { head, restored: data.restored, wanted: blobs.collect() })
    }

    pub(super) fn follow(&self, number: Number, query: &str) -> Answer {
        let mut parameters = query.split('&');
        let after = parameters.next().unwrap().strip_prefix("after=").unwrap();
        let after: usize = after.parse().unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut data = self.data();
        data.asked.push(query.to_owned());
        let send = |frame: Frame| sender.send(lines([&frame])).unwrap();
        send(Frame::Head(data.signed()));
        if after == 0 {
            send(Frame::Genesis(data.genesis.clone()));
        }
        let last = data.entries.len();
        for (at, envelope) in data.entries.iter().enumerate().skip(after) {
            send(Frame::Entry { envelope: envelope.clone(), blobs: Vec::new() });
            let seq = at + 1;
            if (seq % CHUNK == 0 || (seq == last && !data.cut)) && !data.headless {
                send(Frame::Head(data.head_at(seq as u64)));
            }
        }
        if parameters.next() == Some("follow=true") && !data.cut {
            data.followers.push((number, sender));
        }
        Response::new(BoxBody::new(Lines(receiver)))
    }
}

/// Signs `ops` as `by` on the server's head.
pub(super) fn entry(state: &State, by: Actor, key: &SignKey, ops: Vec<Op>) -> Envelope {
    entry_at(host::clock::now(), state, by, key, ops)
}

/// As [`entry`], by a clock that may be wrong.
pub(super) fn entry_at(
    time: Time,
    state: &State,
    by: Actor,
    key: &SignKey,
    ops: Vec<Op>,
) -> Envelope {
    let (seq, prev) = (state.seq() + 1, state.head());
    let entry = log::Entry { seq, prev, time, by: by.clone(), ops };
    let purpose = Purpose::Entry(state.vault());
    Envelope::sign(key, by, purpose, &entry).unwrap()
}

/// Encrypts `content` as the next version of `path`.
pub(super) fn sealed(state: &State, path: &SecretPath, content: &[u8]) -> (Op, Inline) {
    let (vault, ver) = (state.vault(), state.due_version(path));
    let place = shared::blob::Place { vault: &vault, path, ver };
    let recipients = log::recipients(state, path);
    let sealed = shared::blob::seal(place, shared::blob::Kind::Kv, content, &recipients).unwrap();
    let put = log::Put {
        path: path.clone(),
        ver,
        blob: sealed.id,
        size: sealed.bytes.len() as u64,
        commit: sealed.commit,
        readers: log::readers_hash(state, path),
    };
    (Op::Put(put), Inline(sealed.bytes))
}

struct Lines(mpsc::UnboundedReceiver<Bytes>);

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|line| line.map(|bytes| Ok(BodyFrame::data(bytes))))
    }
}

pub(super) fn raw(status: u16, body: Bytes) -> Answer {
    let mut answer = Response::new(BoxBody::new(Full::new(body)));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

pub(super) fn json<T: serde::Serialize>(status: u16, body: &T) -> Answer {
    raw(status, serde_json::to_vec(body).unwrap().into())
}

pub(super) fn refuse(status: u16, code: &str, detail: &str) -> Answer {
    json(status, &ErrorBody { code: code.into(), detail: detail.into() })
}
