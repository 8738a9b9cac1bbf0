//! TLS 1.3 with raw Ed25519 public keys on both sides (RFC 7250): no certificates, no names, no
//! dates. Both ends of the vault's own protocol; TLS to other people's servers is not here.

mod accept;
mod connect;

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{default_provider, kx_group, sign::any_eddsa_type};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, Error};
use shared::keys::{SignKey, VerifyKey};
use zeroize::Zeroizing;

pub use accept::Acceptor;
pub use connect::{connect, is_wrong_pin};

/// DER of an Ed25519 `SubjectPublicKeyInfo` up to the key (RFC 8410, section 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// DER of an Ed25519 `OneAsymmetricKey` up to the seed (RFC 8410, section 7).
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// The only protocol above: HTTP/2.
const ALPN: &[u8] = b"h2";

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
) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
    let key = SubjectPublicKeyInfoDer::from(shown.as_ref());
    rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, dss, known)
}
