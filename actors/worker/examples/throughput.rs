//! How fast an agent is, with a master that only answers: `cargo run --release -p greenroom-worker --example throughput`.
//!
//! Prints trivial commands a second with 16 at a time, and MB/s of one command's output.

use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use greenroom_protocol::{
    Command, CommandLine, Frame, MasterOp, Response, Shell, UpdateItem, WorkerFrame, WorkerOp,
    decode_from_worker, encode, encode_request,
};
use greenroom_worker::{AgentOptions, run};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Commands run, and how many of them at a time.
const COMMANDS: u64 = 4000;
const AT_ONCE: u64 = 16;

struct Master {
    socket: WebSocketStream<TcpStream>,
    seq: u64,
}

impl Master {
    async fn start(&mut self, dir: &str, script: &str) -> Result<(), Fault> {
        let mut shell = Shell::new(dir, CommandLine::Shell(script.to_owned()));
        shell.log_environ = false;
        let command = Command::Shell(Box::new(shell));
        let op = MasterOp::StartCommand { command_id: self.seq.to_string().into(), command };
        self.socket.feed(Message::Binary(encode_request(self.seq, &op))).await?;
        self.seq += 1;
        Ok(())
    }

    /// Answers requests until a command ends; returns the bytes of text that came meanwhile.
    async fn until_one_ends(&mut self) -> Result<usize, Fault> {
        let mut text = 0;
        self.socket.flush().await?;
        loop {
            let Some(message) = self.socket.next().await else { return Err("the agent is gone".into()) };
            let Message::Binary(bytes) = message? else { continue };
            let WorkerFrame::Request { seq, op } = decode_from_worker(&bytes)? else { continue };
            let answer = encode::<MasterOp>(&Frame::Response(Response::nil(seq)));
            self.socket.feed(Message::Binary(answer)).await?;
            match op {
                WorkerOp::Update { items, .. } => {
                    for item in items {
                        if let UpdateItem::Stdout(lines) = item {
                            text += lines.len();
                        }
                    }
                    self.socket.flush().await?;
                }
                WorkerOp::Complete { .. } => return Ok(text),
                _ => {}
            }
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Fault> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let dir = std::env::temp_dir().join(format!("greenroom-throughput-{}", std::process::id()));
    let url = format!("ws://{}", listener.local_addr()?);
    tokio::spawn(run(AgentOptions::new(url, "w1", String::from("pw1").into(), &dir)));
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let mut master = Master { socket: tokio_tungstenite::accept_async(stream).await?, seq: 0 };
    let at = dir.to_string_lossy().into_owned();

    let started = Instant::now();
    for _ in 0..AT_ONCE {
        master.start(&at, "true").await?;
    }
    for ended in 0..COMMANDS {
        master.until_one_ends().await?;
        if ended + AT_ONCE < COMMANDS {
            master.start(&at, "true").await?;
        }
    }
    println!("{:.0} commands/s", COMMANDS as f64 / started.elapsed().as_secs_f64());

    let started = Instant::now();
    let line = "x".repeat(79);
    master.start(&at, &format!("yes {line} | head -c 500000000")).await?;
    let text = master.until_one_ends().await?;
    println!("{:.0} MB/s of output", text as f64 / 1e6 / started.elapsed().as_secs_f64());
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
