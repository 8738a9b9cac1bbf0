//! The client's end: the server must hold a pinned key; the machine's signing key is its TLS key.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme, version,
};
use shared::keys::{SignKey, VerifyKey};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{ALPN, certified, proves_possession, provider, spki};

/// Shakes hands with a server that must hold one of `pins`.
///
/// # Errors
/// See [`is_wrong_pin`]; otherwise the connection's.
pub async fn connect(
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
#[must_use]
pub fn is_wrong_pin(fault: &io::Error) -> bool {
    let inner = fault.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(
        inner,
        Some(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    )
}

/// Accepts exactly the pinned keys.
#[derive(Debug)]
struct PinnedKeys {
    pins: Vec<CertificateDer<'static>>,
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
        if self.pins.iter().any(|pin| pin == end_entity) {
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
    fn only_a_pinned_key_is_accepted() {
        let (pinned, other) = (SignKey::generate(), SignKey::generate());
        let verifier = PinnedKeys {
            pins: vec![spki(&pinned.verify_key())],
            algorithms: provider().signature_verification_algorithms,
        };
        let name = ServerName::try_from("vault").unwrap();
        let check = |key: &SignKey| {
            let der = spki(&key.verify_key());
            verifier.verify_server_cert(&der, &[], &name, &[], UnixTime::now()).is_ok()
        };
        assert!(check(&pinned));
        assert!(!check(&other));
    }
}
