//! A proxy between an agent and its master that knows the frames of their WebSocket: it doubles and reorders batches of output,
//! and cuts the connection within one.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// A batch that is held back goes on when nothing else has come for so long.
const LET_GO: Duration = Duration::from_millis(30);
/// Most batches that are held back.
const WINDOW: usize = 3;
/// How the operation of a batch begins, after the head of its map.
const OUTPUT: &[u8] = b"\xa2op\xa6output";

/// A running proxy.
pub struct Wire {
    /// Where agents connect to.
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    lies: AtomicBool,
    /// Bytes of batches that may still pass; then the connection is cut, once.
    cut_after: AtomicU64,
    doubled: AtomicUsize,
    reordered: AtomicUsize,
    cuts: AtomicUsize,
}

impl Wire {
    /// To a master at this port.
    pub fn to(master: u16, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared { cut_after: AtomicU64::new(u64::MAX), ..Shared::default() });
        let its = Arc::clone(&shared);
        // It ends with the process of the tests.
        std::thread::spawn(move || {
            for (number, agent) in (0..).zip(listener.incoming().flatten()) {
                let Ok(master) = TcpStream::connect(("127.0.0.1", master)) else { continue };
                let _ = (agent.set_nodelay(true), master.set_nodelay(true));
                let (from, to) =
                    (master.try_clone().expect("a handle"), agent.try_clone().expect("a handle"));
                std::thread::spawn(move || pass(from, to));
                let dice = StdRng::seed_from_u64(seed.wrapping_add(number));
                let its = Arc::clone(&its);
                std::thread::spawn(move || {
                    Pump { agent, master, dice, shared: its, held: VecDeque::new() }.run()
                });
            }
        });
        Self { port, shared }
    }

    /// From now on batches are doubled and reordered, or not.
    pub fn lie(&self, lies: bool) {
        self.shared.lies.store(lies, Ordering::Relaxed);
    }

    /// Cuts the connection, once, within the batch that comes after so many bytes of batches.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.cut_after.store(bytes, Ordering::Relaxed);
    }

    /// How many batches were doubled, and how many passed after a later one.
    pub fn lies_told(&self) -> (usize, usize) {
        (self.shared.doubled.load(Ordering::Relaxed), self.shared.reordered.load(Ordering::Relaxed))
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::Relaxed)
    }
}

/// What the master says passes as it is.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

struct Pump {
    agent: TcpStream,
    master: TcpStream,
    dice: StdRng,
    shared: Arc<Shared>,
    /// Batches that are held back, each with how many others are still to pass before it.
    held: VecDeque<(Vec<u8>, usize)>,
}

impl Pump {
    fn run(mut self) {
        let _ = self.agent.set_read_timeout(Some(LET_GO));
        let mut buffer = Vec::new();
        let mut piece = vec![0; 64 * 1024];
        let mut greeted = false;
        loop {
            while let Some(length) = whole(&buffer, greeted) {
                let frame: Vec<u8> = buffer.drain(..length).collect();
                let is_batch = greeted && is_batch(&frame);
                greeted = true;
                if !self.frame(frame, is_batch) {
                    let _ = (self.agent.shutdown(Shutdown::Both), self.master.shutdown(Shutdown::Both));
                    return;
                }
            }
            match self.agent.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => buffer.extend_from_slice(&piece[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    self.let_go(usize::MAX);
                }
                Err(_) => break,
            }
        }
        self.let_go(usize::MAX);
        let _ = self.master.shutdown(Shutdown::Both);
    }

    /// Passes a frame on, sooner or later. False: the connection is to be cut.
    fn frame(&mut self, frame: Vec<u8>, is_batch: bool) -> bool {
        if !is_batch {
            // A command's end may pass the batches that are held back, too.
            return self.master.write_all(&frame).is_ok();
        }
        let left = self.shared.cut_after.load(Ordering::Relaxed);
        if left != u64::MAX {
            let length = frame.len() as u64;
            if left < length {
                self.shared.cut_after.store(u64::MAX, Ordering::Relaxed);
                self.shared.cuts.fetch_add(1, Ordering::Relaxed);
                let _ = self.master.write_all(&frame[..usize::try_from(left).expect("small")]);
                return false;
            }
            self.shared.cut_after.store(left - length, Ordering::Relaxed);
        }
        if !self.shared.lies.load(Ordering::Relaxed) {
            return self.master.write_all(&frame).is_ok();
        }
        if self.held.len() < WINDOW && self.dice.random_bool(0.3) {
            let others = self.dice.random_range(1..=WINDOW);
            self.held.push_back((frame, others));
            return true;
        }
        if self.master.write_all(&frame).is_err() {
            return false;
        }
        if self.dice.random_bool(0.2) {
            self.shared.doubled.fetch_add(1, Ordering::Relaxed);
            // At once, or after others.
            match self.dice.random_bool(0.5) {
                true => drop(self.master.write_all(&frame)),
                false => self.held.push_back((frame, 2)),
            }
        }
        self.let_go(1);
        true
    }

    /// Counts frames that have passed; lets those go that have waited for enough of them.
    fn let_go(&mut self, passed: usize) {
        for _ in 0..self.held.len() {
            let Some((frame, others)) = self.held.pop_front() else { break };
            if others > passed {
                self.held.push_back((frame, others - passed));
                continue;
            }
            self.shared.reordered.fetch_add(usize::from(passed == 1), Ordering::Relaxed);
            let _ = self.master.write_all(&frame);
        }
    }
}

/// The length of the frame at the beginning, or of the request of the handshake, if it is whole.
fn whole(buffer: &[u8], greeted: bool) -> Option<usize> {
    if !greeted {
        return buffer.windows(4).position(|it| it == b"\r\n\r\n").map(|at| at + 4);
    }
    let (head, payload) = head(buffer)?;
    (buffer.len() >= head + payload).then_some(head + payload)
}

/// The lengths of a masked frame's head and payload.
fn head(buffer: &[u8]) -> Option<(usize, usize)> {
    let short = usize::from(*buffer.get(1)? & 0x7f);
    let (head, payload) = match short {
        126 => (4, usize::from(u16::from_be_bytes(*buffer.get(2..)?.first_chunk()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(*buffer.get(2..)?.first_chunk()?)).ok()?),
        short => (2, short),
    };
    Some((head + 4, payload))
}

fn is_batch(frame: &[u8]) -> bool {
    let Some((head, payload)) = head(frame) else { return false };
    if frame[0] & 0x0f != 2 || payload < OUTPUT.len() + 1 {
        return false;
    }
    let mask = &frame[head - 4..head];
    // The head of the map stands before it.
    OUTPUT.iter().enumerate().all(|(index, byte)| frame[head + 1 + index] ^ mask[(1 + index) % 4] == *byte)
}
