//! How fast an agent is, with a master that only answers: `cargo run --release -p greenroom-worker --example throughput`.
//!
//! Prints trivial commands a second with 16 at a time; then MB/s of one command's output, and processor time for each MB of both sides
//! together: as lines of text, in batches, and in compressed batches.

use std::path::Path;
use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use greenroom_protocol::{
    Command, CommandLine, Frame, MasterOp, Response, Settings, Shell, UpdateItem, WorkerFrame, WorkerOp,
    decode_from_worker, encode, encode_request,
};
use greenroom_worker::{AgentOptions, Compress, run};
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
                WorkerOp::Output { batch, .. } => {
                    text += batch.unpack()?.len();
                    self.socket.flush().await?;
                }
                WorkerOp::Complete { .. } => return Ok(text),
                _ => {}
            }
        }
    }
}

/// An agent, connected and told how to report output.
async fn connected(dir: &Path, compress: Compress, settings: Settings) -> Result<Master, Fault> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}", listener.local_addr()?);
    let mut options = AgentOptions::new(url, "w1", String::from("pw1").into(), dir);
    options.compress = compress;
    tokio::spawn(run(options));
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let mut master = Master { socket: tokio_tungstenite::accept_async(stream).await?, seq: 0 };
    let op = MasterOp::SetWorkerSettings(settings);
    master.socket.send(Message::Binary(encode_request(master.seq, &op))).await?;
    master.seq += 1;
    Ok(master)
}

/// Processor time of this process so far, in seconds.
fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split(' ');
    fields.skip(12).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Fault> {
    let dir = std::env::temp_dir().join(format!("greenroom-throughput-{}", std::process::id()));
    let at = dir.to_string_lossy().into_owned();
    let mut master = connected(&dir, Compress::Never, Settings::default()).await?;
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

    // Lines that compress as those of a compiler do, not as one line again and again.
    let lines = (0..40_000_u64).map(|n| n.wrapping_mul(6_364_136_223_846_793_005) >> 20);
    let text: String = lines.map(|n| format!("[{n:x}] cc -O2 -Wall -Iinclude -c src/file_{n}.c\n")).collect();
    std::fs::write(dir.join("lines"), text)?;
    let script = "i=0; while [ $i -lt 200 ]; do cat lines; i=$((i+1)); done";
    for (name, compress, settings) in [
        ("text", Compress::Never, Settings::default()),
        ("batches", Compress::Never, Settings::batched(1)),
        ("compressed batches", Compress::Always, Settings::batched(1)),
    ] {
        let mut master = connected(&dir, compress, settings).await?;
        let (started, before) = (Instant::now(), processor_time());
        master.start(&at, script).await?;
        let megabytes = master.until_one_ends().await? as f64 / 1e6;
        let (seconds, used) = (started.elapsed().as_secs_f64(), processor_time() - before);
        println!(
            "{name}: {megabytes:.0} MB, {:.0} MB/s, {:.2} ms of processor time a MB",
            megabytes / seconds,
            used * 1000.0 / megabytes
        );
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
