//! TLS 1.3 with raw Ed25519 public keys both ways (RFC 7250): no certificates, no names, no
//! dates. The server must hold a pinned key; the machine's signing key is its TLS key.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme, version,
};
use shared::keys::{SignKey, VerifyKey};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

/// What stands before the key in an Ed25519 SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What stands before the seed in an Ed25519 PKCS #8 key (RFC 8410, section 7).
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const ALPN: &[u8] = b"h2";

/// Shakes hands with a server that must hold one of `pins`.
///
/// # Errors
/// See [`is_wrong_pin`]; otherwise the connection's.
pub(super) async fn connect(
    pins: &[VerifyKey],
    key: &SignKey,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let config = config(pins, key).map_err(io::Error::other)?;
    // Raw keys bear no names; this one is neither sent nor compared.
    let name = ServerName::try_from("vault").map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Makes the settings for one connection to a server that holds one of `pins`.
fn config(pins: &[VerifyKey], key: &SignKey) -> Result<ClientConfig, Error> {
    let provider = Arc::new(provider());
    let verifier = PinnedKeys {
        pins: pins.iter().map(spki).collect(),
        algorithms: provider.signature_verification_algorithms,
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(own(key)?)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    Ok(config)
}

/// The post-quantum hybrid alone: every server speaks it, and nothing weaker can be agreed on.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider { kx_groups: vec![kx_group::X25519MLKEM768], ..aws_lc_rs::default_provider() }
}

pub(crate) fn own(key: &SignKey) -> Result<Arc<CertifiedKey>, Error> {
    let mut der = Zeroizing::new(Vec::with_capacity(PKCS8.len() + 32));
    der.extend_from_slice(&PKCS8);
    der.extend_from_slice(key.seed().as_ref());
    let signer = aws_lc_rs::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(der.as_slice()))?;
    let public = CertificateDer::from(spki(&key.verify_key()));
    Ok(Arc::new(CertifiedKey::new(vec![public], signer)))
}

fn spki(key: &VerifyKey) -> Vec<u8> {
    [SPKI.as_slice(), key.as_bytes()].concat()
}

/// Tells whether a handshake failed because the server's key is not pinned.
pub(super) fn is_wrong_pin(fault: &io::Error) -> bool {
    let inner = fault.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(
        inner,
        Some(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    )
}

/// Accepts exactly the pinned keys.
#[derive(Debug)]
struct PinnedKeys {
    pins: Vec<Vec<u8>>,
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
        if self.pins.iter().any(|pin| pin == end_entity.as_ref()) {
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
        let key = SubjectPublicKeyInfoDer::from(cert.as_ref());
        rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms)
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
    fn only_a_pinned_key_is_accepted() {
        let (pinned, other) = (SignKey::generate(), SignKey::generate());
        let verifier = PinnedKeys {
            pins: vec![spki(&pinned.verify_key())],
            algorithms: provider().signature_verification_algorithms,
        };
        let name = ServerName::try_from("vault").unwrap();
        let check = |key: &SignKey| {
            let der = CertificateDer::from(spki(&key.verify_key()));
            verifier.verify_server_cert(&der, &[], &name, &[], UnixTime::now()).is_ok()
        };
        assert!(check(&pinned));
        assert!(!check(&other));
    }
}
