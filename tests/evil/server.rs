//! A server that says what it is told to, over real TLS and HTTP/2. What it is told lives in
//! `lies`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use host::raw_keys::Acceptor;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame as Part, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use shared::audit::AuditHead;
use shared::hash::Hash;
use shared::head::Head;
use shared::keys::SignKey;
use shared::signed::{Envelope, Purpose, VaultId};
use shared::wire::v1::audit::{AccessReply, AccessRequest};
use shared::wire::v1::log::Frame;
use shared::wire::v1::report::{ReportReply, TargetsPage};
use tokio::net::{TcpListener, TcpStream};

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// What a server has: the truth when it was harvested, a lie once a test has changed it.
#[derive(Clone, Debug)]
pub struct Told {
    /// The vault.
    pub vault: VaultId,
    /// The genesis and the entries.
    pub log: Vec<Envelope>,
    /// Age files.
    pub blobs: HashMap<Hash, Vec<u8>>,
}

impl Told {
    fn head(&self, key: &SignKey) -> Frame {
        let seq = self.log.len() as u64 - 1;
        let purpose = if seq == 0 { Purpose::Genesis } else { Purpose::Entry(self.vault) };
        let head = self.log[self.log.len() - 1].hash(purpose);
        Frame::Head(Head { epoch: self.vault, seq, head }.sign(key, self.vault).unwrap())
    }

    fn stream(&self, after: usize, key: &SignKey) -> Vec<u8> {
        let mut lines = Vec::new();
        let mut say = |frame: &Frame| {
            serde_json::to_writer(&mut lines, frame).unwrap();
            lines.push(b'\n');
        };
        if after == 0 {
            say(&Frame::Genesis(self.log[0].clone()));
        }
        for envelope in self.log.iter().skip(after + 1) {
            say(&Frame::Entry { envelope: envelope.clone(), blobs: Vec::new() });
        }
        say(&self.head(key));
        lines
    }

    fn answer(&self, request: &Request<Incoming>, body: &Bytes, key: &SignKey) -> Answer {
        let query = request.uri().query().unwrap_or_default();
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/v1/log") => {
                let after = query.split('&').find_map(|part| part.strip_prefix("after="));
                let lines = self.stream(after.unwrap().parse().unwrap(), key);
                Response::new(BoxBody::new(Held(Some(lines.into()))))
            }
            (&Method::POST, "/v1/report") => {
                let reply = ReportReply {
                    now: host::clock::now(),
                    audit: AuditHead::EMPTY,
                    wants_targets: false,
                    seen: Vec::new(),
                    next: 0,
                };
                full(serde_json::to_vec(&reply).unwrap())
            }
            (&Method::GET, "/v1/targets") => {
                full(serde_json::to_vec(&TargetsPage::default()).unwrap())
            }
            (&Method::POST, "/v1/access") => {
                let AccessRequest { first, reads, .. } = serde_json::from_slice(body).unwrap();
                let reply = AccessReply { next: first + reads.len() as u64 };
                full(serde_json::to_vec(&reply).unwrap())
            }
            (&Method::GET, path) if path.starts_with("/v1/blob/") => {
                let hash: Hash = path["/v1/blob/".len()..].parse().unwrap();
                full(self.blobs.get(&hash).cloned().unwrap_or_default())
            }
            (method, path) => panic!("nobody should ask for {method} {path}"),
        }
    }
}

/// A stream that brings what it has and then stays open.
struct Held(Option<Bytes>);

impl Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Part<Bytes>, Infallible>>> {
        self.0.take().map_or(Poll::Pending, |lines| Poll::Ready(Some(Ok(Part::data(lines)))))
    }
}

fn full(bytes: Vec<u8>) -> Answer {
    Response::new(BoxBody::new(Full::new(bytes.into())))
}

/// The server; dropping it ends its connections and frees its address.
pub struct Evil(Option<tokio::runtime::Runtime>);

impl Evil {
    /// Says `told` at `address`, holding `key`.
    pub fn start(address: &str, key: &SignKey, told: Told) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let acceptor = Acceptor::new(key, std::time::Duration::from_secs(10)).unwrap();
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let told = Arc::new((told, SignKey::from_seed(&key.seed())));
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(acceptor.clone(), socket, Arc::clone(&told)));
            }
        });
        Self(Some(runtime))
    }
}

impl Drop for Evil {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_timeout(std::time::Duration::from_secs(10));
        }
    }
}

async fn serve(acceptor: Acceptor, socket: TcpStream, told: Arc<(Told, SignKey)>) {
    let Ok((stream, _key)) = acceptor.accept(socket).await else { return };
    let service = service_fn(move |mut request: Request<Incoming>| {
        let told = Arc::clone(&told);
        async move {
            let body = request.body_mut().collect().await.unwrap().to_bytes();
            let (told, key) = &*told;
            Ok::<_, Infallible>(told.answer(&request, &body, key))
        }
    });
    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}
