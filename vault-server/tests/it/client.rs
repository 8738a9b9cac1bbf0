//! A client of a few lines: one TLS connection, one HTTP/2 sender, a reader of frames.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_eddsa_type};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, NamedGroup, SignatureScheme,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::head::SignedHead;
use shared::keys::{SignKey, VerifyKey};
use shared::wire::v1::error::ErrorBody;
use shared::wire::v1::log::{Frame, LAST_HEAD};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

#[derive(Debug)]
struct Pinned(VerifyKey, Arc<CryptoProvider>);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        assert_eq!(end_entity.strip_prefix(&SPKI).unwrap(), self.0.as_bytes(), "server key");
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unreachable!("TLS 1.3 only")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = SubjectPublicKeyInfoDer::from(cert.as_ref());
        let known = &self.1.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &spki, dss, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Makes TLS parameters that show `key` and expect `server`.
pub fn tls(server: &VerifyKey, key: &SignKey) -> ClientConfig {
    let provider = Arc::new(default_provider());
    let der = [&PKCS8[..], key.seed().as_ref()].concat();
    let signing = any_eddsa_type(&PrivatePkcs8KeyDer::from(der)).unwrap();
    let spki = [&SPKI[..], key.verify_key().as_bytes()].concat();
    let own = CertifiedKey::new(vec![CertificateDer::from(spki)], signing);
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned(server.clone(), provider)))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::new(own))));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[derive(Clone)]
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    pub group: NamedGroup,
    pub tickets: u32,
    open: watch::Receiver<()>,
    /// Sent along as the newest head that this client holds.
    shown: Option<String>,
}

impl Client {
    pub async fn connect(addr: SocketAddr, server: &VerifyKey, key: &SignKey) -> Self {
        let config = tls(server, key);
        let socket = TcpStream::connect(addr).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let name = ServerName::try_from("vault").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, socket).await.unwrap();
        let session: &ClientConnection = stream.get_ref().1;
        let group = session.negotiated_key_exchange_group().unwrap().name();
        let tickets = session.tls13_tickets_received();
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let (ended, open) = watch::channel(());
        tokio::spawn(async move {
            let _ = connection.await;
            drop(ended);
        });
        Self { sender, group, tickets, open, shown: None }
    }

    /// Returns the client that shows `head` from now on.
    pub fn showing(&self, head: &SignedHead) -> Self {
        self.saying(&serde_json::to_string(head).unwrap())
    }

    /// Returns the client that sends `text` as its newest head.
    pub fn saying(&self, text: &str) -> Self {
        Self { shown: Some(text.to_owned()), ..self.clone() }
    }

    /// Waits until the server has ended the connection.
    pub async fn ended(&self) {
        let _ = self.open.clone().wait_for(|()| false).await;
    }

    pub async fn send(&self, method: Method, path: &str, body: Bytes) -> Response<Incoming> {
        let uri = format!("https://vault{path}");
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(shown) = &self.shown {
            request = request.header(LAST_HEAD, shown);
        }
        let request = request.body(Full::new(body)).unwrap();
        self.sender.clone().send_request(request).await.unwrap()
    }

    /// Sends and takes the whole answer in.
    pub async fn call(&self, method: Method, path: &str, body: Bytes) -> (StatusCode, Bytes) {
        let response = self.send(method, path, body).await;
        let status = response.status();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Bytes) {
        self.call(Method::GET, path, Bytes::new()).await
    }

    pub async fn put(&self, path: &str, body: Vec<u8>) -> (StatusCode, Bytes) {
        self.call(Method::PUT, path, body.into()).await
    }

    pub async fn post<T: Serialize>(&self, path: &str, body: &T) -> (StatusCode, Bytes) {
        self.call(Method::POST, path, serde_json::to_vec(body).unwrap().into()).await
    }

    /// Expects a 200 and parses it.
    pub async fn fetch<T: DeserializeOwned>(&self, path: &str) -> T {
        let (status, body) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body:?}");
        parse(&body)
    }

    pub async fn follow(&self, after: u64) -> Frames {
        let path = format!("/v1/log?after={after}&follow=true");
        let response = self.send(Method::GET, &path, Bytes::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        Frames { body: response.into_body(), rest: Vec::new() }
    }

    /// Reads one answer of the log to its end.
    pub async fn page(&self, after: u64) -> Vec<Frame> {
        let (status, body) = self.get(&format!("/v1/log?after={after}")).await;
        assert_eq!(status, StatusCode::OK);
        body.split_inclusive(|byte| *byte == b'\n').map(parse).collect()
    }
}

pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> T {
    serde_json::from_slice(bytes).unwrap()
}

/// Takes an answer that must be an error apart.
pub fn refused((status, body): (StatusCode, Bytes)) -> (u16, String) {
    let ErrorBody { code, .. } = parse(&body);
    (status.as_u16(), code)
}

/// Frames of an open answer, one by one.
pub struct Frames {
    body: Incoming,
    rest: Vec<u8>,
}

impl Frames {
    /// Waits for the next frame; `None` at the end of the answer.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(at) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=at).collect();
                return Some(parse(&line));
            }
            let frame = self.body.frame().await?.ok()?;
            self.rest.extend_from_slice(&frame.into_data().ok()?);
        }
    }

    pub async fn head(&mut self) -> u64 {
        match self.next().await {
            Some(Frame::Head(head)) => head.seq,
            other => panic!("head expected, not {other:?}"),
        }
    }

    /// Waits for an entry, past heads; returns it and the blobs that came with it.
    pub async fn entry(&mut self) -> (shared::log::Entry, Vec<Vec<u8>>) {
        loop {
            match self.next().await {
                Some(Frame::Entry { envelope, blobs }) => {
                    return (parse(&envelope.body), blobs.into_iter().map(|it| it.0).collect());
                }
                Some(Frame::Head(_)) => {}
                other => panic!("entry expected, not {other:?}"),
            }
        }
    }
}
