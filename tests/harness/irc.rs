//! A real IRC server, ngircd, and somebody who reads along.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::farm::free_port;
use super::process::Process;
use super::wait::{eventually, patience};

/// A running ngircd.
pub struct IrcServer {
    process: Process,
    pub port: u16,
}

impl IrcServer {
    /// Starts it; its files go to `dir`.
    #[track_caller]
    pub fn start(dir: &Path) -> Self {
        let port = free_port();
        let text = format!(
            "[Global]\nName = irc.example.org\nInfo = a story\nListen = 127.0.0.1\nPorts = {port}\n\
             MotdPhrase = hello\n\
             [Limits]\nMaxConnectionsIP = 0\nMaxNickLength = 20\nPingTimeout = 300\n\
             [Options]\nPAM = no\nIdent = no\nDNS = no\n"
        );
        let conf = dir.join("ngircd.conf");
        std::fs::write(&conf, text).expect("the configuration of ngircd");
        // Debian keeps it where users do not look
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("ngircd");
        command.env("PATH", path).args(["-n", "-f"]).arg(&conf);
        let mut process = Process::start(&mut command, &dir.join("ngircd.log"));
        eventually("ngircd to open its port (scripts/services setup installs it)", || {
            assert!(process.ended().is_none(), "ngircd ended: {}", process.output());
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { process, port }
    }

    /// Holds it: connections stay, nothing is answered.
    pub fn hold(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.signal(Signal::SIGCONT);
    }
}

/// Somebody in a channel.
pub struct Reader {
    stream: TcpStream,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Reader {
    /// Comes and joins.
    #[track_caller]
    pub fn come(port: u16, nick: &str, channel: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection to ngircd");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (lines, into) = (stream.try_clone().expect("a clone"), Arc::clone(&heard));
        std::thread::spawn(move || {
            let mut answers = lines.try_clone().expect("a clone");
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                if let Some(token) = line.strip_prefix("PING ") {
                    let _ = write!(answers, "PONG {token}\r\n");
                }
                into.lock().expect("the lines").push(line);
            }
        });
        let mut reader = Self { stream, heard };
        reader.say(&format!("NICK {nick}\r\nUSER {nick} 0 * :{nick}"));
        reader.expect(" 001 ");
        reader.say(&format!("JOIN {channel}"));
        reader.expect(" 366 ");
        reader
    }

    #[track_caller]
    pub fn say(&mut self, line: &str) {
        write!(self.stream, "{line}\r\n").expect("ngircd reads");
    }

    /// All lines that hold this.
    pub fn all(&self, holds: &str) -> Vec<String> {
        let heard = self.heard.lock().expect("the lines");
        heard.iter().filter(|it| it.contains(holds)).cloned().collect()
    }

    /// Waits for a line that holds this.
    #[track_caller]
    pub fn expect(&self, holds: &str) -> String {
        patience(Duration::from_secs(40), &format!("the line {holds:?}"), || self.all(holds).pop())
    }
}
