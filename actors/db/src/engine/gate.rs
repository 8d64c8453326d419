//! Whether a database server can be reached: the one place that knows, and that looks again.
//!
//! Whoever meets a failed connection says so ([`Gate::suspect`]); one prober then tries until the server answers. While it does
//! not, reads are refused at once and writes wait for a bounded time. Nobody else reconnects.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// How long one probe may take.
const PROBE_WITHIN: Duration = Duration::from_secs(3);
/// Between two probes at first; it doubles up to [`SLOWEST`].
const FIRST: Duration = Duration::from_millis(50);
const SLOWEST: Duration = Duration::from_secs(1);

/// Since when a server is away, and why.
#[derive(Debug, Clone)]
pub struct Away {
    pub since: Instant,
    pub why: String,
}

/// Tries once whether the server takes connections.
type Probe = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What the log says when a server goes and when it comes.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    pub away: &'static str,
    pub back: &'static str,
}

/// Of the database itself.
pub const DATABASE: Words = Words { away: "the database is away", back: "the database is back" };

/// See the module.
pub struct Gate {
    words: Words,
    away: watch::Sender<Option<Away>>,
    probing: AtomicBool,
    probe: Probe,
}

impl Gate {
    pub fn new(
        words: Words,
        probe: impl Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            words,
            away: watch::Sender::new(None),
            probing: AtomicBool::new(false),
            probe: Box::new(probe),
        })
    }

    /// Follows the state; none: the server is there as far as is known.
    pub fn watch(&self) -> watch::Receiver<Option<Away>> {
        self.away.subscribe()
    }

    /// Fails at once while the server is away.
    pub fn check(&self) -> Result<(), String> {
        match &*self.away.borrow() {
            Some(away) => Err(away.why.clone()),
            None => Ok(()),
        }
    }

    /// Waits until the server is there, at most so long.
    pub async fn wait(&self, within: Duration) -> Result<(), String> {
        let mut state = self.away.subscribe();
        let there = timeout(within, state.wait_for(Option::is_none)).await.is_ok_and(|seen| seen.is_ok());
        if there { Ok(()) } else { self.check() }
    }

    /// Answers when the server is known to be away.
    pub async fn closed(&self) -> String {
        let mut state = self.away.subscribe();
        let why =
            state.wait_for(Option::is_some).await.ok().and_then(|away| Some(away.as_ref()?.why.clone()));
        why.unwrap_or_default() // the gate lives as long as we do: there is an answer
    }

    /// A connection failed: looks whether the server is there, and until it is. One prober at a time.
    pub fn suspect(self: &Arc<Self>) {
        if self.probing.swap(true, Ordering::AcqRel) {
            return;
        }
        let guard = Probing(Arc::downgrade(self));
        tokio::spawn(async move {
            let mut wait = FIRST;
            while let Some(gate) = guard.0.upgrade() {
                let probe = (gate.probe)();
                drop(gate);
                let answer = timeout(PROBE_WITHIN, probe).await;
                let answer = answer.unwrap_or_else(|_| Err("the server does not answer".to_owned()));
                let Some(gate) = guard.0.upgrade() else { return };
                match answer {
                    Ok(()) => return gate.open(),
                    Err(why) => gate.close(why),
                }
                drop(gate);
                sleep(wait).await;
                wait = (wait * 2).min(SLOWEST);
            }
        });
    }

    fn open(&self) {
        self.away.send_if_modified(|state| match state.take() {
            Some(away) => {
                let seconds = away.since.elapsed().as_secs();
                tracing::info!(db.away_s = seconds, "{}", self.words.back);
                true
            }
            None => false,
        });
    }

    fn close(&self, why: String) {
        self.away.send_if_modified(|state| match state {
            Some(away) => {
                away.why = why;
                false
            }
            None => {
                tracing::warn!(db.error = %why, "{}", self.words.away);
                *state = Some(Away { since: Instant::now(), why });
                true
            }
        });
    }
}

/// Says, however the prober ends, that it has.
struct Probing(Weak<Gate>);

impl Drop for Probing {
    fn drop(&mut self) {
        if let Some(gate) = self.0.upgrade() {
            gate.probing.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    /// A gate whose server is there when the flag says so, and how often it was probed.
    fn gate() -> (Arc<Gate>, Arc<AtomicBool>, Arc<AtomicU32>) {
        let (there, probes) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
        let (t, p) = (Arc::clone(&there), Arc::clone(&probes));
        let gate = Gate::new(DATABASE, move || {
            p.fetch_add(1, Ordering::Relaxed);
            let answer = if t.load(Ordering::Relaxed) { Ok(()) } else { Err("refused".to_owned()) };
            Box::pin(async move { answer })
        });
        (gate, there, probes)
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_away_refuses_reads_at_once_and_writes_after_a_while_and_then_goes_on() {
        let (gate, there, probes) = gate();
        assert_eq!(gate.check(), Ok(()));
        there.store(false, Ordering::Relaxed);
        gate.suspect();
        assert_eq!(gate.closed().await, "refused");
        let begun = Instant::now();
        assert_eq!(gate.check(), Err("refused".to_owned()));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert!(gate.wait(Duration::from_secs(5)).await.is_err());
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
        sleep(Duration::from_secs(3600)).await;
        gate.suspect(); // everybody says so, one looks
        let probed = probes.load(Ordering::Relaxed);
        assert!((3600..3700).contains(&probed), "{probed} probes in an hour");
        there.store(true, Ordering::Relaxed);
        let back = Instant::now();
        assert_eq!(gate.wait(Duration::from_secs(5)).await, Ok(()));
        assert!(back.elapsed() <= SLOWEST);
        assert_eq!(gate.check(), Ok(()));
        // It can be away again.
        sleep(SLOWEST).await;
        there.store(false, Ordering::Relaxed);
        gate.suspect();
        assert_eq!(gate.closed().await, "refused");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_connection_to_a_server_that_is_there_closes_nothing() {
        let (gate, _, probes) = gate();
        gate.suspect();
        sleep(Duration::from_secs(10)).await;
        assert_eq!((gate.check(), probes.load(Ordering::Relaxed)), (Ok(()), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_accepts_and_never_answers_is_away() {
        let gate = Gate::new(DATABASE, || Box::pin(std::future::pending()));
        gate.suspect();
        let begun = Instant::now();
        assert_eq!(gate.closed().await, "the server does not answer");
        assert_eq!(begun.elapsed(), PROBE_WITHIN);
    }
}
