//! TLS to those who take `POST`: certificates are verified by the roots of this system. The vault's
//! own protocol uses raw public keys and lives in `machine::remote`.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::fault::Fault;

/// Shakes hands over an open connection.
///
/// # Errors
/// If no certificates are trusted here, or the other side's is not.
pub async fn connect(host: &str, tcp: TcpStream) -> Result<TlsStream<TcpStream>, Fault> {
    // Hundreds of files are read.
    let config = tokio::task::spawn_blocking(config).await;
    let config = config.map_err(|_| Fault::new("the trusted certificates cannot be read"))??;
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
    let name = name.map_err(|_| Fault::new("its host is neither a name nor an address"))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    connected.map_err(|why| {
        let tls = why.get_ref().and_then(|why| why.downcast_ref::<rustls::Error>());
        Fault::new(match tls {
            Some(rustls::Error::InvalidCertificate(why)) => untrusted(why).to_owned(),
            Some(_) => "it does not speak TLS as this program does".to_owned(),
            None => format!("TLS fails: {}", why.kind()),
        })
    })
}

fn config() -> Result<ClientConfig, Fault> {
    let mut roots = RootCertStore::empty();
    // One odd certificate among a system's hundreds is no reason to trust none.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(Fault::new("this host trusts no certificates: install `ca-certificates`"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|_| Fault::new("TLS cannot be set up"))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Says why a certificate is not trusted, without the names in it.
const fn untrusted(why: &CertificateError) -> &'static str {
    match why {
        CertificateError::UnknownIssuer => {
            "its certificate is of an authority that this host does not trust"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name"
        }
        _ => "its certificate is not valid",
    }
}
