//! The server's end: any Ed25519 key that proves possession connects. Which keys may do what is
//! decided per request, elsewhere.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use shared::keys::{SignKey, VerifyKey};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{ALPN, SPKI, certified, proves_possession, provider};

/// Turns accepted sockets into streams whose peer has proved its key.
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
    timeout: Duration,
}

impl Acceptor {
    /// Makes an acceptor that shows the public half of `key`.
    ///
    /// # Errors
    /// If the cryptography library refuses the key or the parameters.
    pub fn new(key: &SignKey, timeout: Duration) -> Result<Self> {
        let provider = Arc::new(provider());
        let own = certified(key).context("cannot use the server key")?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
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
    pub async fn accept(&self, socket: TcpStream) -> Result<(TlsStream<TcpStream>, [u8; 32])> {
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
            Some(_) | None => Err(Error::InvalidCertificate(rustls::CertificateError::BadEncoding)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered))
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
}
