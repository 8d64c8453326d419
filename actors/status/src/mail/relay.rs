//! Handing a mail to a relay: one SMTP session a mail, or one run of sendmail.
//!
//! Recipients are named one by one, so that one bad address does not keep the mail from the others: those whom the server
//! refuses for good are reported, those whom it puts off are tried again alone.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use greenroom_config::values::Secret;
use greenroom_config::{Mail, MailAddress, Relay, Security, SmtpRelay};
use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::transport::SendError;

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// How much of sendmail's complaint is kept, in bytes.
const MAX_COMPLAINT: u64 = 1_000;
/// How much of a server's reply is shown, in characters.
const MAX_REPLY: usize = 300;
/// The exit codes (of `sysexits.h`) by which sendmail says that it may work later.
const TRY_LATER: [i32; 5] = [69, 71, 74, 75, 127];

/// Who got it and who did not.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Handed {
    /// The relay has taken the mail for these.
    pub taken: Vec<String>,
    /// It will never take one for these: address and reply.
    pub refused: Vec<(String, String)>,
    /// It may take it later: address and reply.
    pub put_off: Vec<(String, String)>,
}

/// Where mails are handed in.
pub(super) struct Post {
    relay: Relay,
    password: Option<Secret>,
    ca: Option<PathBuf>,
    from: Address,
}

impl Post {
    /// From the configuration.
    ///
    /// # Errors
    /// A reason for people.
    pub fn new(config: &Mail) -> Result<Self, String> {
        let from = address(&config.from)?;
        Ok(Self {
            relay: config.relay.clone(),
            password: config.password.clone(),
            ca: config.tls_ca.clone(),
            from,
        })
    }

    /// Hands a mail in.
    pub async fn hand(&self, to: &[MailAddress], mail: &[u8]) -> Result<Handed, SendError> {
        match &self.relay {
            Relay::Smtp(relay) => self.smtp(relay, to, mail).await,
            Relay::Sendmail(program) => sendmail(program, &self.from, to, mail).await,
        }
    }

    async fn smtp(&self, relay: &SmtpRelay, to: &[MailAddress], mail: &[u8]) -> Result<Handed, SendError> {
        let mut session = self.session(relay).await?;
        let outcome = self.transaction(&mut session, to, mail).await;
        match &outcome {
            // The mail is out whatever the server says to this.
            Ok(_) => drop(session.quit().await),
            Err(_) => session.abort().await,
        }
        outcome
    }

    /// Connects, encrypts, logs in.
    async fn session(&self, relay: &SmtpRelay) -> Result<AsyncSmtpConnection, SendError> {
        let failed = |error: Error| at_stage("", &error);
        let hello = ClientId::default();
        let place = (relay.host.as_str(), relay.port);
        let at_once = match relay.security {
            Security::Tls => Some(self.tls(&relay.host).await?),
            Security::None | Security::StartTls => None,
        };
        let connect = AsyncSmtpConnection::connect_tokio1(place, Some(CONNECT_WITHIN), &hello, at_once, None);
        let mut session = connect.await.map_err(failed)?;
        if relay.security == Security::StartTls {
            let tls = self.tls(&relay.host).await?;
            session.starttls(tls, &hello).await.map_err(failed)?;
        }
        if let (Some(user), Some(password)) = (&relay.user, &self.password) {
            let login = Credentials::new(user.clone(), password.expose().to_owned());
            let login = session.auth(&[Mechanism::Plain, Mechanism::Login], &login).await;
            login.map_err(|error| at_stage("the login: ", &error))?;
        }
        Ok(session)
    }

    async fn tls(&self, host: &str) -> Result<TlsParameters, SendError> {
        let mut tls = TlsParameters::builder(host.to_owned());
        if let Some(path) = &self.ca {
            let failed = |why: String| SendError::later(format!("{}: {why}", path.display()));
            // Read at each mail, so that a renewed file counts.
            let pem = tokio::fs::read(path).await.map_err(|it| failed(it.to_string()))?;
            tls = tls.add_root_certificate(Certificate::from_pem(&pem).map_err(|it| failed(reply(&it)))?);
        }
        tls.build_rustls().map_err(|it| SendError::later(reply(&it)))
    }

    async fn transaction(
        &self,
        session: &mut AsyncSmtpConnection,
        to: &[MailAddress],
        mail: &[u8],
    ) -> Result<Handed, SendError> {
        let utf8 = session.server_info().supports_feature(Extension::SmtpUtfEight);
        let sender = MailFrom::new(Some(self.from.clone()), Vec::new());
        session.command(sender).await.map_err(|it| at_stage("the sender: ", &it))?;
        let mut handed = Handed::default();
        for recipient in to {
            let named = &recipient.address;
            let address = match address(recipient) {
                Ok(address) if named.is_ascii() || utf8 => address,
                Ok(_) => {
                    handed.refused.push((named.clone(), "the server takes no such letters".to_owned()));
                    continue;
                }
                Err(why) => {
                    handed.refused.push((named.clone(), why));
                    continue;
                }
            };
            match session.command(Rcpt::new(address, Vec::new())).await {
                Ok(_) => handed.taken.push(named.clone()),
                Err(error) if error.is_permanent() => handed.refused.push((named.clone(), reply(&error))),
                Err(error) if error.is_transient() => handed.put_off.push((named.clone(), reply(&error))),
                Err(error) => return Err(at_stage("", &error)),
            }
        }
        if handed.taken.is_empty() {
            return Ok(handed);
        }
        session.command(Data).await.map_err(|it| at_stage("the mail: ", &it))?;
        session.message(mail).await.map_err(|it| at_stage("the mail: ", &it))?;
        Ok(handed)
    }
}

fn address(of: &MailAddress) -> Result<Address, String> {
    of.address.parse().map_err(|it| format!("{}: {it}", of.address))
}

/// Only what a server said for good is for good.
fn at_stage(stage: &str, error: &Error) -> SendError {
    let why = format!("{stage}{}", reply(error));
    if error.is_permanent() { SendError::never(why) } else { SendError::later(why) }
}

/// What a server said, or what became of the connection, on one line.
fn reply(error: &Error) -> String {
    use std::error::Error as _;
    let mut said = String::new();
    if let Some(code) = error.status() {
        said = format!("{code} ");
    }
    let mut cause = error.source();
    if cause.is_none() {
        said.push_str(&error.to_string());
    }
    while let Some(inner) = cause {
        if inner.source().is_none() {
            said.push_str(&inner.to_string());
        }
        cause = inner.source();
    }
    super::message::one_line(&said, MAX_REPLY)
}

/// Gives a mail to a program, as to sendmail.
async fn sendmail(
    program: &Path,
    from: &Address,
    to: &[MailAddress],
    mail: &[u8],
) -> Result<Handed, SendError> {
    let mut addresses = Vec::new();
    let mut handed = Handed::default();
    for recipient in to {
        match address(recipient) {
            Ok(it) => addresses.push(it.to_string()),
            Err(why) => handed.refused.push((recipient.address.clone(), why)),
        }
    }
    if addresses.is_empty() {
        return Ok(handed);
    }
    let mut child = Command::new(program)
        .args(["-i", "-f", from.as_ref(), "--"])
        .args(&addresses)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|it| SendError::later(format!("{}: {it}", program.display())))?;
    let (input, complaint) = (child.stdin.take(), child.stderr.take());
    // Lines end as on this machine; the program makes of them what the wire wants.
    let lines = String::from_utf8_lossy(mail).replace("\r\n", "\n");
    let write = async {
        if let Some(mut input) = input {
            // It may end without reading everything; its exit code tells why.
            let _ = input.write_all(lines.as_bytes()).await;
        }
    };
    let listen = async {
        let mut said = Vec::new();
        if let Some(complaint) = complaint {
            let mut bounded = complaint.take(MAX_COMPLAINT);
            let _ = bounded.read_to_end(&mut said).await;
            let _ = tokio::io::copy(bounded.get_mut(), &mut tokio::io::sink()).await;
        }
        String::from_utf8_lossy(&said).into_owned()
    };
    let ((), said, status) = tokio::join!(write, listen, child.wait());
    let status = status.map_err(|it| SendError::later(format!("{}: {it}", program.display())))?;
    let why = format!("{}: {status} {}", program.display(), super::message::one_line(&said, MAX_REPLY));
    match status.code() {
        Some(0) => Ok(Handed { taken: addresses, ..handed }),
        Some(code) if !TRY_LATER.contains(&code) => Err(SendError::never(why.trim_end())),
        _ => Err(SendError::later(why.trim_end())),
    }
}
