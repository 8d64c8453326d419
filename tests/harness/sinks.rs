//! Servers that take what notifiers send: a real mail server (`scripts/smtp-sink`) and an HTTP server that can be told to fail, delay,
//! hang and worse. Used by the system's tests and by those of the status layer.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(20);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A line `NAME=PATH` of `scripts/services where`.
fn service(name: &str) -> String {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = own.ancestors().map(|it| it.join("scripts/services")).find(|it| it.exists());
    let answer = Command::new(script.expect("scripts/services")).arg("where").output().expect("it runs");
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned));
    found.unwrap_or_else(|| panic!("scripts/services where says: {text}"))
}

/// A real mail server. Killed when dropped.
pub struct SmtpSink {
    child: Option<Child>,
    dir: tempfile::TempDir,
    options: Vec<String>,
    port: u16,
}

/// A mail that arrived.
#[derive(Debug, Clone)]
pub struct StoredMail {
    /// `from`, `to`, `tls`, `user`.
    pub envelope: Value,
    /// As it came.
    pub text: String,
}

impl StoredMail {
    /// The value of a header, unfolded.
    pub fn header(&self, name: &str) -> Option<String> {
        let head = self
            .text
            .split("\r\n\r\n")
            .next()
            .unwrap_or_default()
            .replace("\r\n ", " ")
            .replace("\r\n\t", " ");
        head.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
    }

    /// To whom it came.
    pub fn to(&self) -> Vec<&str> {
        self.envelope["to"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }
}

impl SmtpSink {
    /// Starts one with options of `scripts/smtp-sink`.
    pub fn start(options: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("smtp-sink-").tempdir().expect("a directory");
        let options = options.iter().map(|it| (*it).to_owned()).collect();
        let mut sink = SmtpSink { child: None, dir, options, port: 0 };
        sink.resume();
        sink
    }

    /// Starts it again, on the same port.
    pub fn resume(&mut self) {
        let program = service("SMTP_SINK");
        let (python, script) = program.split_once(' ').expect("python and a script");
        assert!(Path::new(python).exists(), "{python} is missing. Run: scripts/services setup");
        let mut child = Command::new(python)
            .arg(script)
            .arg(self.dir.path())
            .args(["--port", &self.port.to_string()])
            .args(&self.options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the mail server starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("its port");
        let port = line.trim().strip_prefix("PORT ").and_then(|it| it.parse().ok());
        self.port =
            port.unwrap_or_else(|| panic!("the mail server said {line:?}; run: scripts/services setup"));
        self.child = Some(child);
    }

    /// Kills it.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The authority of its certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// What it does with mails from now on; see `scripts/smtp-sink`.
    pub fn mode(&self, mode: &str) {
        std::fs::write(self.dir.path().join("mode"), mode).expect("the mode is written");
    }

    /// What has arrived.
    pub fn mails(&self) -> Vec<StoredMail> {
        let entries =
            std::fs::read_dir(self.dir.path()).expect("the directory").flatten().map(|it| it.path());
        let mut paths: Vec<PathBuf> =
            entries.filter(|it| it.extension().is_some_and(|it| it == "eml")).collect();
        paths.sort();
        let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).expect("a mail")).into_owned();
        let stored = |path: &PathBuf| StoredMail {
            envelope: serde_json::from_str(&read(&path.with_extension("json"))).expect("an envelope"),
            text: read(path),
        };
        paths.iter().map(stored).collect()
    }

    /// Waits until so many mails have arrived.
    #[track_caller]
    pub fn expect(&self, count: usize) -> Vec<StoredMail> {
        self.expect_within(count, PATIENCE)
    }

    /// As [`Self::expect`], with a time.
    #[track_caller]
    pub fn expect_within(&self, count: usize, time: Duration) -> Vec<StoredMail> {
        let start = Instant::now();
        loop {
            let mails = self.mails();
            if mails.len() >= count {
                return mails;
            }
            assert!(start.elapsed() < time, "{} of {count} mails came", mails.len());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for SmtpSink {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What an HTTP server does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Answers so: status, headers, body.
    Status(u16, Vec<(String, String)>, String),
    /// Answers 200 after a while.
    Late(Duration),
    /// Never answers.
    Hang,
    /// Closes the connection without an answer.
    Cut,
    /// Answers 200 with a body that does not end.
    Flood,
}

impl Reply {
    /// A status without more.
    pub fn status(status: u16) -> Self {
        Reply::Status(status, Vec::new(), String::new())
    }

    /// A status with headers and a body.
    pub fn with(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Reply::Status(status, headers, body.to_owned())
    }
}

/// A request that arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// Such as `POST`.
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// When.
    pub at: Instant,
}

impl Request {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }
}

#[derive(Default)]
struct Book {
    requests: Mutex<Vec<Request>>,
    came: Condvar,
    script: Mutex<VecDeque<Reply>>,
}

/// An HTTP server on loopback that answers 200 unless it is told otherwise. It lives as long as the test's process.
#[derive(Clone)]
pub struct HttpSink {
    book: Arc<Book>,
    port: u16,
}

impl HttpSink {
    /// Starts one.
    pub fn start() -> Self {
        Self::start_on(0)
    }

    /// Starts one on a port where nobody has listened; 0 is any.
    pub fn start_on(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let sink = HttpSink { book: Arc::default(), port };
        let book = sink.book.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let book = book.clone();
                std::thread::spawn(move || serve(connection, &book));
            }
        });
        sink
    }

    /// Its URL, with `/` at its end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it does with the next requests, in order.
    pub fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        locked(&self.book.script).extend(replies);
    }

    /// What has arrived.
    pub fn requests(&self) -> Vec<Request> {
        locked(&self.book.requests).clone()
    }

    /// Waits until so many requests have arrived.
    #[track_caller]
    pub fn expect(&self, count: usize) -> Vec<Request> {
        self.expect_within(count, PATIENCE)
    }

    /// As [`Self::expect`], with a time.
    #[track_caller]
    pub fn expect_within(&self, count: usize, time: Duration) -> Vec<Request> {
        let requests = locked(&self.book.requests);
        let waited = self.book.came.wait_timeout_while(requests, time, |it| it.len() < count);
        let (requests, _) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(requests.len() >= count, "{} of {count} requests came", requests.len());
        requests.clone()
    }
}

fn serve(mut connection: TcpStream, book: &Book) {
    let Some(request) = read_request(&mut connection) else { return };
    locked(&book.requests).push(request);
    book.came.notify_all();
    let reply = locked(&book.script).pop_front().unwrap_or_else(|| Reply::status(200));
    let (status, headers, body) = match reply {
        Reply::Cut => return,
        Reply::Hang => {
            // Until the client goes away.
            let _ = connection.read(&mut [0]);
            return;
        }
        Reply::Flood => {
            let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
            while connection.write_all(&[b'x'; 65_536]).is_ok() {}
            return;
        }
        Reply::Late(time) => {
            std::thread::sleep(time);
            (200, Vec::new(), String::new())
        }
        Reply::Status(status, headers, body) => (status, headers, body),
    };
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n");
    let _ = connection.write_all((head + &body).as_bytes());
}

fn read_request(connection: &mut TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let length = headers.iter().find(|(it, _)| it == "content-length").and_then(|(_, it)| it.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body, at: Instant::now() })
}
