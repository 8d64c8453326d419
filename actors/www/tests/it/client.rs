//! A plain HTTP/1.1 client that sends exactly what it is told.

use std::collections::HashMap;
use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No test waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The body, unpacked if it came by gzip.
    pub fn unpacked(&self) -> Vec<u8> {
        if self.header("content-encoding") != "gzip" {
            return self.body.clone();
        }
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(&self.body[..]).read_to_end(&mut out).unwrap();
        out
    }
}

/// A client of one server.
#[derive(Clone, Copy)]
pub struct Client(pub SocketAddr);

impl Client {
    /// `GET path` as a program asks.
    pub async fn get(self, path: &str) -> Answer {
        self.ask("GET", path, &[("Accept", "application/json")], b"").await
    }

    /// `POST path` with a JSON body.
    pub async fn post(self, path: &str, body: &Value) -> Answer {
        let headers = [("Content-Type", "application/json"), ("Accept", "application/json")];
        self.ask("POST", path, &headers, body.to_string().as_bytes()).await
    }

    /// A request with a `Host` of ours and a `Content-Length`.
    pub async fn ask(self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.0);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        self.raw(&request).await
    }

    /// The answer to these very bytes.
    pub async fn raw(self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.0).await.unwrap();
        let head = request.starts_with(b"HEAD ");
        let answer = timeout(PATIENCE, async {
            // A server that has refused already need not read the rest.
            let _ = stream.write_all(request).await;
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes).await;
            bytes
        });
        parse(&answer.await.expect("an answer in time"), head)
    }
}

fn parse(bytes: &[u8], head: bool) -> Answer {
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").unwrap_or_else(|| {
        panic!("no whole head: {:?}", String::from_utf8_lossy(bytes));
    });
    let text = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: HashMap<_, _> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let raw = &bytes[end + 4..];
    let chunked = headers.get("transfer-encoding").is_some_and(|it| it == "chunked");
    let body = if chunked && !head { unchunk(raw) } else { raw.to_vec() };
    Answer { status, headers, body }
}

fn unchunk(mut raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let end = raw.windows(2).position(|it| it == b"\r\n").expect("a chunk's size");
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return out;
        }
        out.extend_from_slice(&raw[end + 2..end + 2 + size]);
        raw = &raw[end + 4 + size..];
    }
}
