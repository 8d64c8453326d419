//! G25: subscribers that never read are cut at their bound, with a reason where one can be said, and harm nobody: the master's
//! memory stays, and the others get everything as quickly as before.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{Farm, patience};
use crate::run::Run;

const CONFIG: &str = "[workers.w]\npassword = \"unused\"\n[builders.b]\nworkers = [\"w\"]\n[[builders.b.steps]]\nrun = \"true\"\n";
/// What a master may grow by, whoever is stuck.
const GROWTH_MIB: f64 = 128.0;
/// Below this a delay says more of the machine than of the master.
const NO_DELAY: Duration = Duration::from_millis(50);
/// Programs that send changes.
const PUSHERS: usize = 4;
/// A stuck client must be cut within so many changes: what the kernel holds for it, and the queue.
const MOST_CHANGES: u64 = 60_000;
const EVERYTHING: &str = "*/*/*";

/// By which door a client came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Socket,
    Events,
    Sse,
}

/// A client of the feed over a bare connection, which reads only when it is told to.
struct Client {
    door: Door,
    stream: BufReader<TcpStream>,
}

impl Client {
    fn subscribe(port: u16, door: Door) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a deadline");
        let mut client = Self { door, stream: BufReader::with_capacity(64 << 10, stream) };
        let (path, more) = match door {
            Door::Socket => (
                "/ws".to_owned(),
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                    Sec-WebSocket-Version: 13\r\n",
            ),
            Door::Events => (
                format!("/api/v2/events?topic={EVERYTHING}"),
                "Accept: text/event-stream\r\nConnection: close\r\n",
            ),
            Door::Sse => (format!("/sse/listen/{EVERYTHING}"), "Connection: close\r\n"),
        };
        client.write(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{more}\r\n").as_bytes());
        client.read_head();
        match door {
            Door::Socket => {
                let ask = format!("{{\"cmd\":\"startConsuming\",\"path\":\"{EVERYTHING}\",\"_id\":1}}");
                client.say(0x81, ask.as_bytes());
                let (_, answer) = client.frame().expect("an answer");
                let answer = String::from_utf8_lossy(&answer).into_owned();
                assert!(answer.contains("200"), "{answer}");
            }
            // Its first words say that the subscription stands.
            Door::Events | Door::Sse => drop(client.stream.read(&mut [0; 4096]).expect("the first words")),
        }
        client
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("it is sent");
    }

    /// A short frame; a mask of zeros is one, too.
    fn say(&mut self, kind: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).expect("short");
        self.write(&[&[kind, 0x80 | length, 0, 0, 0, 0], payload].concat());
    }

    fn read_head(&mut self) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("the answer's head");
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let wanted = if self.door == Door::Socket { "HTTP/1.1 101" } else { "HTTP/1.1 200" };
        assert!(head.starts_with(wanted), "{head}");
    }

    /// The next frame: its first byte and its payload. None: the connection is over.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length).ok()?;
                usize::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                self.stream.read_exact(&mut length).ok()?;
                usize::try_from(u64::from_be_bytes(length)).expect("a length")
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).ok()?;
        Some((head[0], payload))
    }

    /// Reads what is left of a client that was cut: it must end, and say why.
    fn expect_cut(&mut self) {
        let said = match self.door {
            Door::Socket => loop {
                match self.frame() {
                    Some((0x88, payload)) => break payload[..2] == 4410_u16.to_be_bytes(),
                    Some(_) => {}
                    None => break false,
                }
            },
            Door::Events | Door::Sse => {
                let mut rest = Vec::new();
                let ended = self.stream.read_to_end(&mut rest).is_ok();
                let tail = String::from_utf8_lossy(&rest[rest.len().saturating_sub(400)..]).into_owned();
                // Stock clients of /sse know no word for it: the end of the stream is all that they understand.
                ended && (self.door == Door::Sse || tail.contains("event: lagging"))
            }
        };
        assert!(said, "{:?}: cut, without its reason", self.door);
    }
}

/// A subscriber that reads: how long each change took to reach it.
struct Reader {
    delays: Arc<Mutex<Vec<Duration>>>,
    thread: std::thread::JoinHandle<()>,
}

/// When each change was sent.
type Sent = Arc<Mutex<Vec<Instant>>>;

impl Reader {
    fn begin(port: u16, sent: &Sent, stop: &Arc<AtomicBool>) -> Self {
        let mut client = Client::subscribe(port, Door::Socket);
        let delays: Arc<Mutex<Vec<Duration>>> = Arc::default();
        let (into, sent, stop) = (Arc::clone(&delays), Arc::clone(sent), Arc::clone(stop));
        let thread = std::thread::spawn(move || {
            while let Some((kind, payload)) = client.frame() {
                match kind {
                    0x89 => client.say(0x8a, &payload),
                    0x88 => break,
                    _ => {
                        let text = String::from_utf8_lossy(&payload);
                        let number =
                            text.split_once("\"revision\":\"n").and_then(|(_, rest)| rest.split('"').next());
                        let Some(number) = number.and_then(|it| it.parse::<usize>().ok()) else { continue };
                        let at = sent.lock().unwrap()[number];
                        into.lock().unwrap().push(at.elapsed());
                    }
                }
            }
            assert!(stop.load(Ordering::Acquire), "a subscriber that reads was cut");
        });
        Self { delays, thread }
    }

    fn seen(&self) -> usize {
        self.delays.lock().unwrap().len()
    }
}

/// Sends changes of so many bytes, at most so many a second, while `go_on` says so. Answers how many a second it was.
fn push(farm: &Farm, sent: &Sent, bytes: usize, rate: u32, go_on: impl Fn(u64) -> bool + Sync) -> f64 {
    let (count, begun) = (AtomicU64::new(0), Instant::now());
    let comments = "x".repeat(bytes);
    std::thread::scope(|scope| {
        for _ in 0..PUSHERS {
            scope.spawn(|| {
                loop {
                    let turn = count.fetch_add(1, Ordering::Relaxed);
                    if !go_on(turn) {
                        return;
                    }
                    let due = begun + Duration::from_secs(turn) / rate;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let number = {
                        let mut sent = sent.lock().unwrap();
                        sent.push(Instant::now());
                        sent.len() - 1
                    };
                    let body = format!("author=Ada&branch=elsewhere&revision=n{number}&comments={comments}");
                    let kind = [("content-type", "application/x-www-form-urlencoded")];
                    let answer = farm.rest().try_post("/change_hook/base", &kind, body.as_bytes());
                    assert_eq!(answer.expect("an answer").status, 200);
                }
            });
        }
    });
    count.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

fn p99(delays: &[Duration]) -> Duration {
    let mut sorted = delays.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() - 1) * 99 / 100]
}

fn resident_mib(pid: i32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the master's status");
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    kib.and_then(|it| it.trim().parse::<f64>().ok()).expect("a size") / 1024.0
}

/// How many subscribers all hubs have cut so far.
fn cut(farm: &Farm) -> u64 {
    let hubs = farm.actors().into_iter().filter(|it| it["kind"] == "hub");
    hubs.filter_map(|it| it["observed"]["lagging"].as_u64()).sum()
}

#[test]
fn clients_that_never_read_are_cut_and_harm_nobody() {
    let run = Run::of("G25");
    let stuck = run.figure(24, 100);
    let rate = u32::try_from(run.figure(400, 1_000)).expect("a rate");
    // Large changes fill what the kernel holds for a stuck client sooner.
    let (bytes, before) = (run.figure(16 << 10, 1 << 10), run.figure(300, 3_000) as u64);
    let mut farm = Farm::raise(CONFIG);
    let (sent, stop): (Sent, _) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let readers: Vec<_> = (0..3).map(|_| Reader::begin(farm.port(), &sent, &stop)).collect();
    let all_seen = |what: &str| {
        let wanted = sent.lock().unwrap().len();
        patience(Duration::from_secs(60), what, || {
            readers.iter().all(|it| it.seen() == wanted).then_some(wanted)
        })
    };

    push(&farm, &sent, bytes, rate, |turn| turn < before);
    let alone = all_seen("all changes at all readers, nobody stuck");
    let (memory, pid) = (resident_mib(farm.pid()), farm.pid());
    let doors = [Door::Socket, Door::Events, Door::Sse];
    let mut clients: Vec<_> =
        (0..stuck).map(|n| Client::subscribe(farm.port(), doors[n % doors.len()])).collect();
    let (peak, gone) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let pushed = push(&farm, &sent, bytes, rate, |turn| {
        if turn.is_multiple_of(50) {
            peak.fetch_max(resident_mib(pid) as usize, Ordering::Relaxed);
            gone.store(usize::try_from(cut(&farm)).expect("a count"), Ordering::Relaxed);
        }
        let gone = gone.load(Ordering::Relaxed);
        assert!(turn < MOST_CHANGES, "{gone} of {stuck} are cut after {turn} changes");
        gone < stuck
    });
    let wanted = all_seen("all changes at all readers, some stuck");
    for client in &mut clients {
        client.expect_cut();
    }
    assert_eq!(cut(&farm), stuck as u64, "nobody else was cut");

    let grown = (peak.load(Ordering::Relaxed) as f64).max(resident_mib(pid)) - memory;
    assert!(grown <= GROWTH_MIB, "the master grew by {grown:.0} MiB");
    let delays = |from: usize, to: usize| {
        readers.iter().flat_map(|it| it.delays.lock().unwrap()[from..to].to_vec()).collect::<Vec<_>>()
    };
    let (quiet, busy) = (p99(&delays(0, alone)), p99(&delays(alone, wanted)));
    if run.is_full() {
        assert!(busy <= 2 * quiet.max(NO_DELAY), "p99 of the others: {quiet:?} before, {busy:?} beside them");
    }
    stop.store(true, Ordering::Release);
    farm.kill_master();
    for reader in readers {
        reader.thread.join().expect("a reader that was served to the end");
    }
    run.kept(&format!(
        "{stuck} stuck clients at {pushed:.0} events/s of {bytes} bytes: all cut, memory +{grown:.0} MiB, p99 of others {quiet:.1?} \
        before and {busy:.1?} beside them, {wanted} events at each reader"
    ));
}
