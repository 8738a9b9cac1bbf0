//! TLS to a Vault that is not ours: certificates from files, for `https://` addresses only. The
//! vault's own protocol uses raw public keys and lives in `remote`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::argv::boolean;

/// Flags of every command about TLS; nothing is read before a connection is made.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Trust the certificates in this PEM file [env: VAULT_CACERT]
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
    /// Trust the certificates in this directory [env: VAULT_CAPATH]
    #[arg(long, global = true, hide = true, value_name = "DIR")]
    pub ca_path: Option<PathBuf>,
    /// Show this certificate to the server [env: VAULT_CLIENT_CERT]
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub client_cert: Option<PathBuf>,
    /// Key of that certificate [env: VAULT_CLIENT_KEY]
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub client_key: Option<PathBuf>,
    /// Expect this name in the server's certificate [env: VAULT_TLS_SERVER_NAME]
    #[arg(long, global = true, hide = true, value_name = "NAME")]
    pub tls_server_name: Option<String>,
    /// Accept any certificate: for tests only [env: VAULT_SKIP_VERIFY]
    #[arg(long, global = true, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", value_parser = boolean)]
    pub tls_skip_verify: Option<bool>,
}

/// Shakes hands over an open connection.
pub async fn connect(
    options: &Options,
    host: &str,
    tcp: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let name = options.tls_server_name.as_deref().unwrap_or(host);
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| bad(format!("`{name}` is neither a host name nor an address")))?;
    TlsConnector::from(Arc::new(config(options)?)).connect(name, tcp).await
}

fn config(options: &Options) -> io::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = if options.tls_skip_verify.unwrap_or(false) {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    } else {
        builder.with_root_certificates(roots(options)?)
    };
    match (&options.client_cert, &options.client_key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key).map_err(|why| broken(key, why))?;
            builder.with_client_auth_cert(certificates(cert)?, key).map_err(io::Error::other)
        }
        (Some(_), None) | (None, Some(_)) => {
            Err(bad("a client certificate and its key must be given together".to_owned()))
        }
    }
}

fn roots(options: &Options) -> io::Result<RootCertStore> {
    let mut files = Vec::from_iter(options.ca_cert.clone());
    if let Some(dir) = &options.ca_path {
        for entry in std::fs::read_dir(dir).map_err(|why| broken(dir, why))? {
            let path = entry?.path();
            if path.is_file() {
                files.push(path);
            }
        }
    }
    let mut roots = RootCertStore::empty();
    // One odd certificate among a system's hundreds is no reason to trust none.
    if files.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    for file in &files {
        roots.add_parsable_certificates(certificates(file)?);
    }
    if roots.is_empty() {
        return Err(bad("no trusted certificates found: name a file with VAULT_CACERT".to_owned()));
    }
    Ok(roots)
}

fn certificates(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let pem = std::fs::read(file).map_err(|why| broken(file, why))?;
    CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|why| broken(file, why))
}

fn broken(file: &Path, why: impl std::fmt::Display) -> io::Error {
    bad(format!("`{}`: {why}", file.display()))
}

fn bad(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Accepts any certificate, yet checks that the peer holds its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// Made with openssl; `vault.test` and 127.0.0.1, valid for a hundred years, used nowhere else.
    fn testdata(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tls").join(name)
    }

    /// Greets one client and returns what the client made of it.
    async fn greet(options: Options, host: &str) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::from_pem_file(testdata("server.key")).unwrap();
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates(&testdata("server.pem")).unwrap(), key)
            .unwrap();
        let served = async {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that refuses the certificate ends this early.
            if let Ok(mut tls) = TlsAcceptor::from(Arc::new(server)).accept(stream).await {
                tls.write_all(b"hello").await.unwrap();
                tls.shutdown().await.unwrap();
            }
        };
        let asked = async {
            let mut tls = connect(&options, host, tcp).await.map_err(|why| why.to_string())?;
            let mut text = String::new();
            tls.read_to_string(&mut text).await.map_err(|why| why.to_string())?;
            Ok(text)
        };
        tokio::join!(served, asked).1
    }

    #[tokio::test]
    async fn only_trusted_certificates_of_the_right_name_pass() {
        let trusting = Options { ca_cert: Some(testdata("ca.pem")), ..Options::default() };
        let by_folder = Options { ca_path: Some(testdata("")), ..Options::default() };
        let renamed =
            Options { tls_server_name: Some("vault.test".to_owned()), ..trusting.clone() };
        let careless = Options { tls_skip_verify: Some(true), ..Options::default() };
        let hello = Ok("hello".to_owned());
        assert_eq!(greet(trusting.clone(), "127.0.0.1").await, hello);
        assert_eq!(greet(trusting.clone(), "vault.test").await, hello);
        assert_eq!(greet(renamed, "other.test").await, hello);
        assert_eq!(greet(careless, "other.test").await, hello);
        assert_eq!(greet(by_folder, "127.0.0.1").await, hello);
        let refused = greet(trusting, "other.test").await.unwrap_err();
        assert!(refused.contains("not valid for name"), "{refused}");
        let other = Options { ca_cert: Some(testdata("server.pem")), ..Options::default() };
        let refused = greet(other, "127.0.0.1").await.unwrap_err();
        assert!(refused.starts_with("invalid peer certificate"), "{refused}");
    }

    #[test]
    fn unusable_files_are_named() {
        let absent = Options { ca_cert: Some("/nope.pem".into()), ..Options::default() };
        let said = config(&absent).err().map(|why| why.to_string());
        assert_eq!(said.unwrap(), "`/nope.pem`: No such file or directory (os error 2)");
        let half = Options {
            tls_skip_verify: Some(true),
            client_cert: Some("/x".into()),
            ..Options::default()
        };
        let said = config(&half).err().map(|why| why.to_string());
        assert_eq!(said.unwrap(), "a client certificate and its key must be given together");
    }
}
