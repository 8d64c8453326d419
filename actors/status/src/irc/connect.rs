//! A connection to the server: TCP, and TLS of our own over it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use greenroom_config::Irc;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long all of it may take, looking up the name included.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// What is read from and written to.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Why there is no connection. Never with anything secret.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name, the network or the port.
    #[error("{0}")]
    Network(#[source] io::Error),
    /// The handshake: a certificate that is not trusted, say.
    #[error("TLS: {0}")]
    Handshake(#[source] io::Error),
    /// Our own certificates.
    #[error("{what}: {why}")]
    Files {
        /** Which file. */
        what: String,
        /** What is wrong with it. */
        why: String,
    },
    /// No answer.
    #[error("no connection within {} s", CONNECT_WITHIN.as_secs())]
    Late,
}

/// Connects. Certificates are read each time, so that new ones need no restart.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(config: Arc<Irc>) -> Result<Box<dyn Duplex>, ConnectError> {
    timeout(CONNECT_WITHIN, open(config)).await.unwrap_or(Err(ConnectError::Late))
}

async fn open(config: Arc<Irc>) -> Result<Box<dyn Duplex>, ConnectError> {
    let (host, port) = config.host_and_port();
    let stream = TcpStream::connect((host, port)).await.map_err(ConnectError::Network)?;
    // lines are short, and each is waited for
    stream.set_nodelay(true).map_err(ConnectError::Network)?;
    if !config.tls {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| ConnectError::Files { what: "server".to_owned(), why: error.to_string() })?;
    let files = config.clone();
    let tls = tokio::task::spawn_blocking(move || client_config(&files))
        .await
        .map_err(|error| ConnectError::Files { what: "certificates".to_owned(), why: error.to_string() })??;
    let connector = TlsConnector::from(Arc::new(tls));
    let stream = connector.connect(name, stream).await.map_err(ConnectError::Handshake)?;
    Ok(Box::new(stream))
}

/// Trusts the given certificates, or what this machine trusts; there is no way to trust everybody.
fn client_config(config: &Irc) -> Result<ClientConfig, ConnectError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let files = |what: &str| {
        let what = what.to_owned();
        move |error: rustls::Error| ConnectError::Files { what: what.clone(), why: error.to_string() }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(files("TLS"))?;
    let builder = match &config.tls_ca {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(files(&path.display().to_string()))?;
            }
            builder.with_root_certificates(roots)
        }
        None => builder.with_platform_verifier().map_err(files("the system's certificates"))?,
    };
    match &config.tls_certificate {
        Some(path) => {
            let unusable = |error| unusable(path, error);
            let key = PrivateKeyDer::from_pem_file(path).map_err(unusable)?;
            builder
                .with_client_auth_cert(certificates(path)?, key)
                .map_err(files(&path.display().to_string()))
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let unusable = |error| unusable(path, error);
    let all = CertificateDer::pem_file_iter(path).map_err(unusable)?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(unusable)?;
    if all.is_empty() {
        let why = "there is no certificate in it".to_owned();
        return Err(ConnectError::Files { what: path.display().to_string(), why });
    }
    Ok(all)
}

fn unusable(path: &Path, error: rustls::pki_types::pem::Error) -> ConnectError {
    ConnectError::Files { what: path.display().to_string(), why: error.to_string() }
}
