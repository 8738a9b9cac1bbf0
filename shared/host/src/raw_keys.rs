//! TLS 1.3 with raw Ed25519 public keys on both sides (RFC 7250): no certificates, no names, no
//! dates. Both ends of the vault's own protocol: the server lets in any key that proves possession,
//! the client only a pinned one. TLS to other people's servers is not here.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group, sign::any_eddsa_type};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error};
use rustls::{PeerIncompatible, ServerConfig, SignatureScheme};
use shared::keys::{SignKey, VerifyKey};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use zeroize::Zeroizing;

/// DER of an Ed25519 `SubjectPublicKeyInfo` up to the key (RFC 8410, section 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// DER of an Ed25519 `OneAsymmetricKey` up to the seed (RFC 8410, section 7).
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// The only protocol above: HTTP/2.
const ALPN: &[u8] = b"h2";

/// Turns accepted sockets into streams whose peer has proved its key.
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
    timeout: Duration,
}

impl Acceptor {
    /// Makes an acceptor that shows the public half of `key`.
    pub fn new(key: &SignKey, timeout: Duration) -> Result<Self> {
        let provider = Arc::new(provider());
        let own = certified(key).context("cannot use the server key")?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .context("cannot set up TLS 1.3")?
            .with_client_cert_verifier(Arc::new(AnyEd25519(provider)))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(own)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // No resumption: each connection proves possession of its key anew.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Self { tls: TlsAcceptor::from(Arc::new(config)), timeout })
    }

    /// Does the handshake; returns the stream and the peer's key.
    ///
    /// # Errors
    /// If the peer breaks off, takes too long, or speaks anything but HTTP/2 with an Ed25519 key.
    pub async fn accept(
        &self,
        socket: TcpStream,
    ) -> Result<(server::TlsStream<TcpStream>, [u8; 32])> {
        let accepted = tokio::time::timeout(self.timeout, self.tls.accept(socket));
        let stream = accepted.await.context("handshake took too long")??;
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(ALPN) {
            return Err(anyhow!("peer did not offer HTTP/2"));
        }
        let certificates = session.peer_certificates().unwrap_or_default();
        let key = certificates.first().and_then(|spki| ed25519(spki));
        Ok((stream, key.ok_or_else(|| anyhow!("peer showed no Ed25519 key"))?))
    }
}

/// Shakes hands with a server that must hold one of `pins`.
///
/// # Errors
/// See [`is_wrong_pin`]; otherwise the connection's.
pub async fn connect(
    pins: &[VerifyKey],
    key: &SignKey,
    stream: TcpStream,
) -> io::Result<client::TlsStream<TcpStream>> {
    shake(Some(pins.iter().map(spki).collect()), key, stream).await
}

/// Shakes hands with any server, and returns the key that it holds: nothing that it says is to be
/// believed until something else has shown that this key is the right one.
///
/// # Errors
/// The connection's.
pub async fn connect_to_any(
    key: &SignKey,
    stream: TcpStream,
) -> io::Result<(client::TlsStream<TcpStream>, VerifyKey)> {
    let stream = shake(None, key, stream).await?;
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default().first();
    let server =
        shown.and_then(|spki| ed25519(spki)).and_then(|key| VerifyKey::from_bytes(&key).ok());
    Ok((stream, server.ok_or_else(|| io::Error::other("the server showed no Ed25519 key"))?))
}

async fn shake(
    pins: Option<Vec<CertificateDer<'static>>>,
    key: &SignKey,
    stream: TcpStream,
) -> io::Result<client::TlsStream<TcpStream>> {
    let config = config(pins, key).map_err(io::Error::other)?;
    // Raw keys bear no names; this one is neither sent nor compared.
    let name = ServerName::try_from("vault").map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Makes the settings for one connection to a server that holds one of `pins`, or to any.
fn config(
    pins: Option<Vec<CertificateDer<'static>>>,
    key: &SignKey,
) -> Result<ClientConfig, Error> {
    let provider = Arc::new(provider());
    let verifier = PinnedKeys { pins, algorithms: provider.signature_verification_algorithms };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified(
            key,
        )?)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    Ok(config)
}

/// Tells whether a handshake failed because the server's key is not pinned.
pub fn is_wrong_pin(fault: &io::Error) -> bool {
    let inner = fault.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(
        inner,
        Some(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    )
}

/// The hybrid group alone: beside another, a client's first key share would decide, and what is
/// recorded today could be read by a quantum computer later.
fn provider() -> CryptoProvider {
    CryptoProvider { kx_groups: vec![kx_group::X25519MLKEM768], ..default_provider() }
}

/// Returns the key as rustls shows it to a peer.
fn certified(key: &SignKey) -> Result<Arc<CertifiedKey>, Error> {
    let mut der = Zeroizing::new(Vec::with_capacity(PKCS8.len() + 32));
    der.extend_from_slice(&PKCS8);
    der.extend_from_slice(key.seed().as_ref());
    let signing = any_eddsa_type(&PrivatePkcs8KeyDer::from(der.as_slice()))?;
    Ok(Arc::new(CertifiedKey::new(vec![spki(&key.verify_key())], signing)))
}

fn spki(key: &VerifyKey) -> CertificateDer<'static> {
    CertificateDer::from([SPKI.as_slice(), key.as_bytes()].concat())
}

/// Checks that the peer holds the private half of the raw key that it showed.
fn proves_possession(
    message: &[u8],
    shown: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    known: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = SubjectPublicKeyInfoDer::from(shown.as_ref());
    verify_tls13_signature_with_raw_key(message, &key, dss, known)
}

/// Returns the key inside an Ed25519 `SubjectPublicKeyInfo`, unless it is weak.
fn ed25519(spki: &[u8]) -> Option<[u8; 32]> {
    let key: [u8; 32] = spki.strip_prefix(&SPKI)?.try_into().ok()?;
    VerifyKey::from_bytes(&key).ok()?;
    Some(key)
}

/// Accepts every Ed25519 key whose possession the handshake proves.
#[derive(Debug)]
struct AnyEd25519(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyEd25519 {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match ed25519(end_entity) {
            Some(_) if intermediates.is_empty() => Ok(ClientCertVerified::assertion()),
            Some(_) | None => Err(Error::InvalidCertificate(CertificateError::BadEncoding)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        proves_possession(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Accepts exactly the pinned keys; where none are known yet, each that is an Ed25519 key.
#[derive(Debug)]
struct PinnedKeys {
    pins: Option<Vec<CertificateDer<'static>>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinnedKeys {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_right = match &self.pins {
            Some(pins) => pins.contains(end_entity),
            None => ed25519(end_entity).is_some(),
        };
        if is_right {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        proves_possession(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_ed25519_key_that_is_not_weak_counts() {
        let key = SignKey::generate().verify_key();
        let spki = [&SPKI[..], key.as_bytes()].concat();
        assert_eq!(ed25519(&spki), Some(*key.as_bytes()));
        for bad in [&spki[..43], &[&spki[..], &[0]].concat(), &[&SPKI[..], &[0; 32]].concat()] {
            assert_eq!(ed25519(bad), None);
        }
    }

    #[test]
    fn only_a_pinned_key_is_accepted() {
        let (pinned, other) = (SignKey::generate(), SignKey::generate());
        let name = ServerName::try_from("vault").unwrap();
        let check = |pins: Option<&[&SignKey]>, der: &CertificateDer<'_>| {
            let pins = pins.map(|pins| pins.iter().map(|key| spki(&key.verify_key())).collect());
            let algorithms = provider().signature_verification_algorithms;
            let verifier = PinnedKeys { pins, algorithms };
            verifier.verify_server_cert(der, &[], &name, &[], UnixTime::now()).is_ok()
        };
        let (right, wrong) = (spki(&pinned.verify_key()), spki(&other.verify_key()));
        assert!(check(Some(&[&pinned]), &right));
        assert!(!check(Some(&[&pinned]), &wrong));
        assert!(!check(Some(&[]), &right), "no pin is no leave");
        let weak = CertificateDer::from([&SPKI[..], &[0; 32]].concat());
        assert!(check(None, &wrong) && !check(None, &weak));
    }
}
