//! An IRC server that says what a test tells it to: for services (SASL, NickServ, accounts), which ngircd does not have.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::irc_world::PATIENCE;

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

pub struct FakeServer {
    listener: TcpListener,
    pub port: u16,
    tls: Option<TlsAcceptor>,
}

/// One connection to it.
pub struct Peer {
    reader: BufReader<ReadHalf<Box<dyn Duplex>>>,
    writer: WriteHalf<Box<dyn Duplex>>,
    /// Whether it has shown a certificate that the server trusts.
    pub certified: bool,
}

impl FakeServer {
    pub async fn plain() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port, tls: None }
    }

    pub async fn tls(certificates: &Certificates) -> Self {
        let mut server = Self::plain().await;
        server.tls = Some(TlsAcceptor::from(Arc::new(certificates.server_config())));
        server
    }

    /// The next connection; none if its handshake fails.
    pub async fn accept_any(&self) -> Option<Peer> {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("a connection").unwrap();
        let (stream, certified): (Box<dyn Duplex>, bool) = match &self.tls {
            None => (Box::new(stream), false),
            Some(tls) => {
                let stream = timeout(PATIENCE, tls.accept(stream)).await.expect("a handshake").ok()?;
                let certified = stream.get_ref().1.peer_certificates().is_some();
                (Box::new(stream), certified)
            }
        };
        let (reader, writer) = tokio::io::split(stream);
        Some(Peer { reader: BufReader::new(reader), writer, certified })
    }

    pub async fn accept(&self) -> Peer {
        self.accept_any().await.expect("the handshake succeeds")
    }
}

impl Peer {
    /// The next line that begins like this; others before it are passed over.
    #[track_caller]
    pub fn expect<'a>(&'a mut self, begins: &'a str) -> impl Future<Output = String> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let mut passed = Vec::new();
            let found = timeout(PATIENCE, async {
                loop {
                    let line = self.line().await?;
                    if line.starts_with(begins) {
                        return Some(line);
                    }
                    passed.push(line);
                }
            });
            match found.await {
                Ok(Some(line)) => line,
                Ok(None) => panic!("{caller}: closed before {begins:?}; passed {passed:?}"),
                Err(_) => panic!("{caller}: no {begins:?}; passed {passed:?}"),
            }
        }
    }

    /// The next line; none at the end.
    pub async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).await.unwrap_or(0);
        (read > 0).then(|| line.trim_end().to_owned())
    }

    pub async fn say(&mut self, line: &str) {
        // a peer that is gone is found out by what is expected next
        let _ = self.writer.write_all(format!("{line}\r\n").as_bytes()).await;
    }

    /// Welcomes `bot` without capabilities, and lets it into its channels.
    pub async fn welcome(&mut self, capabilities: &str, supports: &str) {
        self.expect("CAP LS").await;
        self.expect("USER").await;
        self.say(&format!(":srv CAP * LS :{capabilities}")).await;
        if !capabilities.is_empty() {
            let asked = self.expect("CAP REQ").await;
            let asked = asked.trim_start_matches("CAP REQ ").trim_start_matches(':').to_owned();
            self.say(&format!(":srv CAP * ACK :{asked}")).await;
        }
        self.expect("CAP END").await;
        self.say(":srv 001 bot :Welcome").await;
        self.say(&format!(":srv 005 bot {supports} :are supported by this server")).await;
        self.enter().await;
    }

    /// Lets it into the next channel.
    pub async fn enter(&mut self) {
        let join = self.expect("JOIN").await;
        let channel = join.split(' ').nth(1).unwrap().to_owned();
        self.say(&format!(":bot!bot@host JOIN {channel}")).await;
    }

    /// Answers the next PING.
    pub async fn pong(&mut self) {
        let ping = self.expect("PING").await;
        self.say(&format!(":srv PONG srv :{}", ping.trim_start_matches("PING "))).await;
    }
}

/// An authority with a certificate for `127.0.0.1` and one for the bot.
pub struct Certificates {
    pub ca: PathBuf,
    pub server: PathBuf,
    pub server_key: PathBuf,
    /// Certificate and key of the bot.
    pub client: PathBuf,
}

impl Certificates {
    pub fn make(dir: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let leaf = |names: &[&str], usage: ExtendedKeyUsagePurpose| {
            let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
            let mut params = CertificateParams::new(names).unwrap();
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &ca).unwrap().pem(), key.serialize_pem())
        };
        let (server, server_key) = leaf(&["127.0.0.1", "localhost"], ExtendedKeyUsagePurpose::ServerAuth);
        let (client, client_key) = leaf(&["bot"], ExtendedKeyUsagePurpose::ClientAuth);
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        Self {
            ca: write("ca.pem", &ca.pem()),
            server: write("server.pem", &server),
            server_key: write("server.key", &server_key),
            client: write("client.pem", &format!("{client}{client_key}")),
        }
    }

    fn server_config(&self) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca).unwrap()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let clients = clients.allow_unauthenticated().build().unwrap();
        let chain = vec![CertificateDer::from_pem_file(&self.server).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&self.server_key).unwrap();
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .unwrap()
    }
}

impl Peer {
    /// Comes to a real server as somebody, and is welcomed.
    pub async fn come(port: u16, nick: &str) -> Self {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (reader, writer) = tokio::io::split(Box::new(stream) as Box<dyn Duplex>);
        let mut peer = Self { reader: BufReader::new(reader), writer, certified: false };
        peer.say(&format!("NICK {nick}")).await;
        peer.say(&format!("USER {nick} 0 * :{nick}")).await;
        peer.expect_in(" 001 ").await;
        peer
    }

    /// The next line that holds this; others before it are passed over, PINGs answered.
    #[track_caller]
    pub fn expect_in<'a>(&'a mut self, holds: &'a str) -> impl Future<Output = String> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let mut passed = Vec::new();
            let found = timeout(PATIENCE, async {
                loop {
                    let line = self.line().await?;
                    if let Some(token) = line.strip_prefix("PING ") {
                        self.say(&format!("PONG {token}")).await;
                    }
                    if line.contains(holds) {
                        return Some(line);
                    }
                    passed.push(line);
                }
            });
            match found.await {
                Ok(Some(line)) => line,
                Ok(None) => panic!("{caller}: closed before {holds:?}; passed {passed:?}"),
                Err(_) => panic!("{caller}: no {holds:?}; passed {passed:?}"),
            }
        }
    }
}
