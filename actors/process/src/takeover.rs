//! Takes over from masters that are dead: fences them when their lease is over, ends the builds that they have left.
//!
//! Every master looks; who is first does it, the others find nothing to do. All is in small writes under this master's own name,
//! and each may be the last: whoever looks next goes on with what is left. What a master that returns finds still running, it
//! ends itself ([`crate::recovery`]).
//!
//! When the database was away, nobody could renew a lease. So a master takes nobody's place until it has been able to look,
//! at its usual pace, for as long as a lease lasts: whoever lives has renewed by then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use actix::prelude::*;
use greenroom_data::DataError;
use greenroom_model::*;
use greenroom_runtime::{Birth, Supervised, TaskEnd, fail};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::handles::Handles;
use crate::lost_logs;

/// Builds ended in one write.
const ENDED_AT_ONCE: u64 = 50;
/// So many looks fit into a lease: a death is found soon after it, without asking the database all the time.
const LOOKS_IN_A_LEASE: u32 = 15;

#[derive(Message)]
#[rtype(result = "()")]
struct LookTick;

#[derive(Message)]
#[rtype(result = "()")]
struct Looked(TaskEnd<Result<Found, DataError>>);

/// What one look found to do.
#[derive(Debug, Default)]
struct Found {
    masters: u64,
    builds: u64,
}

/// See the module.
pub struct Takeover {
    h: Handles,
    birth: Birth<Self>,
    is_looking: bool,
    /// When the last look began.
    looked: Instant,
    /// Nobody is taken over before: who lives may not have been able to say so.
    quiet_until: Instant,
    /// How many builds masters that are not active have left, and since when so many.
    left: BTreeMap<MasterId, (usize, Instant)>,
    masters: u64,
    builds: u64,
    error: Option<String>,
}

impl Takeover {
    pub(crate) fn new(h: Handles, birth: Birth<Self>) -> Self {
        let (looked, quiet) = (Instant::now(), if h.rw.is_shared() { h.rw.lease() } else { Duration::ZERO });
        let (is_looking, masters, builds, error) = (false, 0, 0, None);
        let left = BTreeMap::new();
        Self { h, birth, is_looking, looked, quiet_until: looked + quiet, left, masters, builds, error }
    }

    /// The masters that are not active and whose builds do not become fewer: whoever took them over has died over it.
    fn unattended(&mut self) -> BTreeSet<MasterId> {
        let patience = if self.h.rw.is_shared() { self.h.rw.lease() / 3 } else { Duration::ZERO };
        let (before, now) = (std::mem::take(&mut self.left), Instant::now());
        for (master, builds) in left_behind(&self.h) {
            let known = before.get(&master).filter(|(left, _)| *left == builds);
            self.left.insert(master, (builds, known.map_or(now, |(_, since)| *since)));
        }
        let waits = |(_, since): &(usize, Instant)| now.duration_since(*since) >= patience;
        self.left.iter().filter(|(_, it)| waits(it)).map(|(master, _)| *master).collect()
    }

    fn be_quiet(&mut self) {
        self.quiet_until = Instant::now() + self.h.rw.lease();
    }
}

impl Supervised for Takeover {
    const KIND: &'static str = "takeover";

    fn observe(&self) -> Value {
        json!({ "masters_taken_over": self.masters, "builds_ended": self.builds, "error": self.error })
    }
}

impl Actor for Takeover {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.notify(LookTick);
        // Who has the database alone finds all that there will ever be at once.
        if self.h.rw.is_shared() {
            ctx.run_interval(self.h.rw.lease() / LOOKS_IN_A_LEASE, |_, ctx| ctx.notify(LookTick));
        }
    }
}

impl Handler<LookTick> for Takeover {
    type Result = ();

    fn handle(&mut self, _: LookTick, _: &mut Context<Self>) {
        if self.is_looking {
            return;
        }
        self.is_looking = true;
        if self.looked.elapsed() > self.h.rw.lease() / 3 {
            self.be_quiet(); // this process was paused, or the last look took long
        }
        self.looked = Instant::now();
        let (h, may_take, gone) = (self.h.clone(), self.looked >= self.quiet_until, self.unattended());
        self.birth.tasks().spawn(async move { look(&h, may_take, gone).await }, Looked);
    }
}

impl Handler<Looked> for Takeover {
    type Result = ();

    fn handle(&mut self, Looked(end): Looked, ctx: &mut Context<Self>) {
        self.is_looking = false;
        match end {
            TaskEnd::Done(Ok(found)) => {
                self.masters += found.masters;
                self.builds += found.builds;
                self.error = None;
            }
            TaskEnd::Done(Err(error)) => {
                self.be_quiet();
                let text = error.to_string();
                if self.error.as_ref() != Some(&text) {
                    tracing::warn!(%error, "it could not be looked for dead masters; the next look may");
                }
                self.error = Some(text);
                if !self.h.rw.is_shared() {
                    fail(ctx, error); // nothing else would look again
                }
            }
            TaskEnd::Panicked(why) => fail(ctx, why),
        }
    }
}

/// `gone`: masters that nobody attends to, as far as is known.
async fn look(h: &Handles, may_take: bool, mut gone: BTreeSet<MasterId>) -> Result<Found, DataError> {
    let mut found = Found::default();
    let begun = Instant::now();
    let lapsed = h.rw.lapsed_masters().await?;
    let is_prompt = begun.elapsed() < h.rw.lease() / 3;
    for master in lapsed.into_iter().filter(|_| may_take && is_prompt) {
        match h.rw.take_over(master).await {
            Ok(_) => {
                tracing::warn!(
                    master.id = master.0,
                    "a master did not renew its lease in time; its place is taken from it, its builds will be repeated"
                );
                found.masters += 1;
                gone.insert(master);
            }
            // it lives after all, or another master was faster
            Err(DataError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    for master in gone {
        let ended = end_builds(h, master).await?;
        if ended > 0 {
            tracing::info!(
                master.id = master.0,
                builds = ended,
                "builds that a dead master has left were ended"
            );
        }
        found.builds += ended;
    }
    Ok(found)
}

/// How many builds each master that is not active still has.
fn left_behind(h: &Handles) -> BTreeMap<MasterId, usize> {
    let hot = h.ro().hot();
    let is_gone =
        |master: &MasterId| *master != h.me() && hot.masters.get(&master.0).is_some_and(|it| !it.active);
    let mut left = BTreeMap::new();
    for master in hot.running_builds().map(|it| it.master).filter(is_gone) {
        *left.entry(master).or_default() += 1;
    }
    left
}

/// Ends the builds of a master, a few in each write.
async fn end_builds(h: &Handles, master: MasterId) -> Result<u64, DataError> {
    let hot = h.ro().hot();
    let left: Vec<BuildId> = hot.running_builds().filter(|it| it.master == master).map(|it| it.id).collect();
    let mut pieces = left.chunks(usize::try_from(ENDED_AT_ONCE).unwrap_or(usize::MAX));
    let mut ended = 0;
    loop {
        // Both go by id: these are the builds that are ended next.
        if let Some(some) = pieces.next() {
            lost_logs::end(h, some, "the master that ran the build died").await?;
        }
        let op = Op::EndBuilds { master, limit: ENDED_AT_ONCE };
        match h.rw.write(vec![op]).await {
            Ok(committed) => match committed.outcomes.first() {
                Some(Outcome::Ended(some)) if *some > 0 => ended += some,
                _ => return Ok(ended),
            },
            // it has come back, and goes on with them itself
            Err(DataError::Refused(_)) => return Ok(ended),
            Err(error) => return Err(error),
        }
    }
}
