//! A hostile member: an active machine whose keys the attacker holds, with raw access to the
//! protocol. What it does with that lives in `attacks`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use host::raw_keys;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use shared::error::Code;
use shared::hash::Hash;
use shared::head::SignedHead;
use shared::keys::{Identity, SignKey, VerifyKey};
use shared::log::{Entry, Number, Op, State};
use shared::name::{Actor, Name};
use shared::report::Seen;
use shared::signed::{Envelope, Purpose};
use shared::token::{Line as _, MachineLine};
use shared::wire::v1::error::ErrorBody;
use shared::wire::v1::log::Frame;
use shared::wire::v1::{AUDIT_LEAVES, LOG};
use tokio::net::TcpStream;

use super::server::now;

/// How often the server said what.
pub type Said = BTreeMap<String, usize>;

/// The machine.
pub struct Member {
    pub name: Name,
    pub sign: SignKey,
    pub age: Identity,
    /// Where the server listens, and its key.
    address: String,
    server: VerifyKey,
    /// Set once the others have done what they wanted.
    enough: Arc<AtomicBool>,
    said: Mutex<Said>,
}

/// One connection of it.
#[derive(Clone)]
pub struct Raw(SendRequest<Full<Bytes>>);

/// The vault as a member sees it.
pub struct View {
    pub state: State,
    /// Entries, the genesis first.
    pub log: Vec<Envelope>,
    pub head: SignedHead,
}

impl Member {
    /// Makes a machine that nobody has added yet.
    pub fn new(name: &str, address: &str, server: VerifyKey, enough: Arc<AtomicBool>) -> Self {
        let (sign, age) = (SignKey::generate(), Identity::generate());
        let (name, address, said) = (name.parse().unwrap(), address.to_owned(), Mutex::default());
        Self { name, sign, age, address, server, enough, said }
    }

    /// Makes one more with fresh keys, at the same server.
    pub fn stranger(&self) -> Self {
        let (server, enough) = (self.server.clone(), Arc::clone(&self.enough));
        Self::new("stranger", &self.address, server, enough)
    }

    /// Returns the line that adds it.
    pub fn line(&self) -> String {
        let line = MachineLine::new(self.name.clone(), self.age.recipient(), &self.sign);
        line.unwrap().to_line().unwrap()
    }

    /// Tells whether the others are still at it.
    pub fn goes_on(&self) -> bool {
        !self.enough.load(Relaxed)
    }

    /// Ends what goes on.
    pub fn stop(&self) {
        self.enough.store(true, Relaxed);
    }

    /// Opens a socket that says nothing.
    pub async fn socket(&self) -> Option<TcpStream> {
        let socket = TcpStream::connect(&self.address).await.ok()?;
        // A flood waits for no acknowledgement.
        socket.set_nodelay(true).ok()?;
        Some(socket)
    }

    /// Connects, to send bodies of any kind; nothing if it is not let in.
    pub async fn connect_with<B>(&self) -> Option<SendRequest<B>>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
    {
        let socket = self.socket().await?;
        let pins = std::slice::from_ref(&self.server);
        let stream = raw_keys::connect(pins, &self.sign, socket).await.ok()?;
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        Some(sender)
    }

    /// As [`Member::connect_with`], for whole bodies.
    pub async fn try_connect(&self) -> Option<Raw> {
        self.connect_with().await.map(Raw)
    }

    /// Connects; a member is let in.
    pub async fn connect(&self) -> Raw {
        self.try_connect().await.unwrap()
    }

    /// Counts what the server said.
    pub fn note(&self, what: impl Into<String>) {
        *self.said.lock().unwrap().entry(what.into()).or_default() += 1;
    }

    /// Returns what the server has said.
    pub fn said(&self) -> Said {
        self.said.lock().unwrap().clone()
    }

    /// Sends a request, and counts the answer by its status and code.
    pub async fn send(&self, raw: &Raw, method: Method, path: &str, body: impl Into<Bytes>) {
        let answer = raw.call(method, path, body.into(), &[]).await;
        self.note(answer.map_or_else(|| "cut".to_owned(), |(status, body)| named(status, &body)));
    }

    /// Posts JSON, and counts the answer.
    pub async fn post<T: serde::Serialize>(&self, raw: &Raw, path: &str, body: &T) {
        self.send(raw, Method::POST, path, serde_json::to_vec(body).unwrap()).await;
    }

    /// Reads the log; it may.
    pub async fn view(&self, raw: &Raw) -> View {
        self.try_view(raw).await.unwrap()
    }

    /// Reads the log, unless it may not, or no more for now.
    pub async fn try_view(&self, raw: &Raw) -> Option<View> {
        let path = format!("{LOG}?after=0");
        let answer = raw.call(Method::GET, &path, Bytes::new(), &[]).await;
        let (_, body) = answer.filter(|(status, _)| *status == 200)?;
        let lines = body.split_inclusive(|byte| *byte == b'\n');
        let (mut log, mut head) = (Vec::new(), None);
        for frame in lines.map(|line| serde_json::from_slice(line).unwrap()) {
            match frame {
                Frame::Head(last) => head = Some(last),
                Frame::Genesis(envelope) | Frame::Entry { envelope, .. } => log.push(envelope),
                Frame::Beat => {}
            }
        }
        let mut state = shared::log::start(&log[0]).unwrap();
        for envelope in &log[1..] {
            shared::log::apply(&mut state, envelope).unwrap();
        }
        Some(View { state, log, head: head.unwrap() })
    }

    /// Returns its own number.
    pub fn number(&self, view: &View) -> Number {
        view.state.machine(&self.name).unwrap().0
    }

    /// Signs an entry on the head, under the name that it claims.
    pub fn entry(&self, view: &View, by: &str, ops: Vec<Op>) -> Envelope {
        self.entry_at(view, by, ops, now())
    }

    /// As [`Member::entry`], with a time of its own.
    pub fn entry_at(
        &self,
        view: &View,
        by: &str,
        ops: Vec<Op>,
        time: shared::time::Time,
    ) -> Envelope {
        let by: Actor = by.parse().unwrap();
        let (seq, prev) = (view.state.seq() + 1, view.state.head());
        let entry = Entry { seq, prev, time, by: by.clone(), ops };
        Envelope::sign(&self.sign, by, Purpose::Entry(view.state.vault()), &entry).unwrap()
    }

    /// Returns what it is called as a signer.
    pub fn actor(&self) -> String {
        format!("machine:{}", self.name)
    }

    /// Returns a true seen-record, number `n`.
    pub fn seen(&self, view: &View, n: u64) -> Seen {
        let SignedHead { epoch, seq, head, sig } = view.head;
        Seen {
            machine: self.number(view),
            n,
            time: now(),
            epoch,
            seq,
            head,
            server_sig: sig,
            audit_n: 0,
            audit_head: Hash::ZERO,
            targets: Hash::of(&[b"{}"]),
            wish: None,
        }
    }

    /// Signs a seen-record.
    pub fn signed(&self, view: &View, seen: &Seen) -> Envelope {
        seen.sign(self.name.clone(), &self.sign, view.state.vault()).unwrap()
    }

    /// Reads leaves of the audit chain.
    pub async fn leaves(&self, raw: &Raw) {
        self.send(raw, Method::GET, &format!("{AUDIT_LEAVES}?after=0"), Bytes::new()).await;
    }
}

/// Names an answer: its code, or its status.
fn named(status: u16, body: &[u8]) -> String {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(ErrorBody { code, .. }) if Code::from_text(&code).is_some() && status != 429 => code,
        Ok(_) | Err(_) => status.to_string(),
    }
}

impl Raw {
    /// Sends a request and returns the head of its answer, with a body that nobody has read.
    pub async fn open(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        headers: &[(&str, &str)],
    ) -> Option<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(format!("https://vault{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut sender = self.0.clone();
        sender.ready().await.ok()?;
        sender.send_request(request.body(Full::new(body)).unwrap()).await.ok()
    }

    /// Sends a request and takes the whole answer in; nothing if the connection is cut.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        headers: &[(&str, &str)],
    ) -> Option<(u16, Bytes)> {
        let answer = self.open(method, path, body, headers).await?;
        let status = answer.status().as_u16();
        Some((status, answer.into_body().collect().await.ok()?.to_bytes()))
    }
}
