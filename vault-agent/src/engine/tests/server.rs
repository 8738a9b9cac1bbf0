//! A server in the same process: real TLS and HTTP/2, the shared rules, and faults on demand.

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
use shared::audit::{AuditHead, Fact};
use shared::error::Code;
use shared::hash::Hash;
use shared::keys::SignKey;
use shared::log::{self, Number, Op, State};
use shared::name::Actor;
use shared::path::SecretPath;
use shared::signed::Envelope;
use shared::time::Time;
use shared::wire::v1::audit::{AccessReply, AccessRequest};
use shared::wire::v1::blob::Inline;
use shared::wire::v1::error::{Conflict, ErrorBody};
use shared::wire::v1::log::{AppendRequest, Appended, Frame, HealReply, HealRequest};
use shared::wire::v1::report::{Received, ReportReply, ReportRequest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

type Answer = Response<BoxBody<Bytes, Infallible>>;

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
    /// Commits and answers that another entry was first.
    Denies,
}

/// The server's data; tests look at it and damage it.
pub(super) struct Data {
    pub(super) genesis: Envelope,
    pub(super) state: State,
    pub(super) entries: Vec<Envelope>,
    pub(super) blobs: HashMap<Hash, Vec<u8>>,
    pub(super) reports: HashMap<Number, Received>,
    pub(super) reads: Vec<Fact>,
    pub(super) audit: AuditHead,
    pub(super) faults: Vec<Fault>,
    /// Bodies of all appends, in order.
    pub(super) posts: Vec<Bytes>,
    /// Whether blobs travel along the stream.
    pub(super) inline: bool,
    /// Whether reports get no answer but 500.
    pub(super) deaf: bool,
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
    ) -> Result<Appended, shared::error::Error> {
        let AppendRequest { envelope, blobs } = request;
        log::apply(&mut self.state, &envelope)?;
        for blob in &blobs {
            self.blobs.insert(Hash::of(&[&blob.0]), blob.0.clone());
        }
        self.entries.push(envelope.clone());
        let blobs = if self.inline { blobs } else { Vec::new() };
        let own = line(&Frame::Entry { envelope: envelope.clone(), blobs: Vec::new() });
        let others = line(&Frame::Entry { envelope, blobs });
        self.followers.retain(|(number, follower)| {
            let line = if writer == Some(*number) { &own } else { &others };
            follower.send(line.clone()).is_ok()
        });
        Ok(Appended { seq: self.state.seq(), head: self.state.head() })
    }

    fn now(&self) -> Time {
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
        self.say(&line(frame));
    }

    /// Sends bytes to all followers, frame or not.
    pub(super) fn say(&mut self, line: &Bytes) {
        self.followers.retain(|(_, follower)| follower.send(line.clone()).is_ok());
    }

    /// Ends all streams.
    pub(super) fn hang_up(&mut self) {
        self.followers.clear();
    }

    fn head(&self) -> Frame {
        Frame::Head { seq: self.state.seq(), hash: self.state.head() }
    }
}

fn line(frame: &Frame) -> Bytes {
    let mut line = serde_json::to_vec(frame).unwrap();
    line.push(b'\n');
    line.into()
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
            state: log::start(&genesis).unwrap(),
            genesis,
            entries: Vec::new(),
            blobs: HashMap::new(),
            reports: HashMap::new(),
            reads: Vec::new(),
            audit: AuditHead::EMPTY.then(Hash::ZERO),
            faults: Vec::new(),
            posts: Vec::new(),
            inline: true,
            deaf: false,
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
            data.state.machine_by_key(&key).map(|(number, _)| number)
        };
        let Some(number) = number else { return refuse(403, "forbidden", "no machine") };
        match (&parts.method, path.as_str()) {
            (&Method::GET, "/v1/log") => self.follow(number, parts.uri.query().unwrap()),
            (&Method::POST, "/v1/log") => self.append(&body, number),
            (&Method::POST, "/v1/heal") => self.heal(&body),
            (&Method::POST, "/v1/report") if self.data().deaf => {
                refuse(500, "unavailable", "on demand")
            }
            (&Method::POST, "/v1/report") => {
                let request: ReportRequest = serde_json::from_slice(&body).unwrap();
                let mut data = self.data();
                let at = host::clock::now();
                let received = Received { report: request.report, at, online: true };
                data.reports.insert(number, received);
                let named = |(number, received): (&Number, &Received)| {
                    let machine = data.state.machine_numbered(*number)?;
                    let mut received = received.clone();
                    received.report.by = Actor::Machine(machine.name.clone());
                    Some(received)
                };
                let reports = data.reports.iter().filter_map(named).collect();
                json(200, &ReportReply { now: data.now(), reports, audit: data.audit })
            }
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
        if fault == Some(Fault::FailsBefore) {
            return refuse(500, "unavailable", "on demand");
        }
        if fault == Some(Fault::Refuses) {
            return refuse(422, Code::Limits.as_str(), "on demand");
        }
        if fault == Some(Fault::Mistimes) {
            return refuse(
                422,
                Code::Clock.as_str(),
                "`home` wrote at 1, the server's clock says 2",
            );
        }
        let request: AppendRequest = serde_json::from_slice(body).unwrap();
        if let Some(at) = data.entries.iter().position(|known| *known == request.envelope) {
            let seq = at as u64 + 1;
            let purpose = shared::signed::Purpose::Entry(data.state.vault());
            return json(201, &Appended { seq, head: request.envelope.hash(purpose) });
        }
        let silent = fault == Some(Fault::ForgetsToTell);
        let followers = if silent { std::mem::take(&mut data.followers) } else { Vec::new() };
        let appended = data.append(request, Some(writer));
        data.followers.extend(followers);
        match appended {
            Ok(_) if silent || fault == Some(Fault::ForgetsToAnswer) => {
                refuse(500, "unavailable", "on demand")
            }
            Ok(Appended { seq, head }) if fault == Some(Fault::Denies) => {
                json(409, &Conflict { seq, head })
            }
            Ok(appended) => json(201, &appended),
            Err(error) if matches!(error.code, Code::Seq | Code::Prev) => {
                json(409, &Conflict { seq: data.state.seq(), head: data.state.head() })
            }
            Err(error) => refuse(422, error.code.as_str(), &error.detail),
        }
    }

    fn heal(&self, body: &Bytes) -> Answer {
        let HealRequest { entries } = serde_json::from_slice(body).unwrap();
        let mut data = self.data();
        for envelope in entries {
            if let Err(error) = data.append(AppendRequest { envelope, blobs: Vec::new() }, None) {
                return refuse(422, error.code.as_str(), &error.detail);
            }
        }
        let versions = data.state.secrets().values().flat_map(log::Secret::versions);
        let wanted = versions.map(|(_, version)| version.blob);
        let wanted = wanted.filter(|blob| !data.blobs.contains_key(blob)).collect();
        let (seq, head) = (data.state.seq(), data.state.head());
        json(200, &HealReply { seq, head, wanted })
    }

    fn follow(&self, number: Number, query: &str) -> Answer {
        let after = query.strip_prefix("after=").unwrap().split('&').next().unwrap();
        let after: usize = after.parse().unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut data = self.data();
        let send = |frame: &Frame| sender.send(line(frame)).unwrap();
        send(&data.head());
        if after == 0 {
            send(&Frame::Genesis(data.genesis.clone()));
        }
        for envelope in data.entries.iter().skip(after) {
            send(&Frame::Entry { envelope: envelope.clone(), blobs: Vec::new() });
        }
        send(&data.head());
        data.followers.push((number, sender));
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
    let purpose = shared::signed::Purpose::Entry(state.vault());
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

fn raw(status: u16, body: Bytes) -> Answer {
    let mut answer = Response::new(BoxBody::new(Full::new(body)));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

fn json<T: serde::Serialize>(status: u16, body: &T) -> Answer {
    raw(status, serde_json::to_vec(body).unwrap().into())
}

fn refuse(status: u16, code: &str, detail: &str) -> Answer {
    json(status, &ErrorBody { code: code.into(), detail: detail.into() })
}
