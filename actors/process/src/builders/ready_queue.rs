//! Which request is built next, and where. No I/O; kept by events, never by a scan of the backlog.
//!
//! Builders with the same workers form a *pool*. A pool keeps the heads of its builders' lines in order and its workers by
//! free slots, so the next decision is found in the logarithm of both. A worker runs one build of a builder at a time
//! (they share a directory); a builder whose head cannot be placed for that reason is set aside until something is freed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use greenroom_model::{BuildId, BuildRequestId, BuilderId, WorkerId};

/// The order of requests: higher priority first, then older.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket {
    priority: Reverse<i64>,
    pub request: BuildRequestId,
}

/// A request, its builder, and the worker that is to build it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision {
    pub request: BuildRequestId,
    pub builder: BuilderId,
    pub worker: WorkerId,
}

/// Whether a worker takes builds, as the data layer knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Readiness {
    pub connected: bool,
    pub paused: bool,
    pub graceful: bool,
}

impl Readiness {
    fn takes_builds(self) -> bool {
        self.connected && !self.paused && !self.graceful
    }
}

#[derive(Debug)]
struct WorkerState {
    name: String,
    slots: u32,
    used: u32,
    readiness: Readiness,
    pools: Vec<usize>,
}

impl WorkerState {
    fn free(&self) -> u32 {
        if self.readiness.takes_builds() { self.slots.saturating_sub(self.used) } else { 0 }
    }
}

#[derive(Debug)]
struct Line {
    pool: usize,
    waiting: BTreeSet<Ticket>,
    running_on: HashSet<WorkerId>,
    set_aside: bool,
}

#[derive(Debug, Default)]
struct Pool {
    workers: Vec<WorkerId>,
    free: BTreeSet<(Reverse<u32>, WorkerId)>,
    heads: BTreeSet<(Ticket, BuilderId)>,
    set_aside: BTreeSet<BuilderId>,
}

/// Requests that wait, and slots that are free.
#[derive(Debug, Default)]
pub(crate) struct ReadyQueue {
    lines: HashMap<BuilderId, Line>,
    workers: BTreeMap<WorkerId, WorkerState>,
    pools: Vec<Pool>,
    /// Pools that have both a head and a free worker, by their best head.
    ready: BTreeSet<(Ticket, usize)>,
    tickets: HashMap<BuildRequestId, (BuilderId, Ticket)>,
    running: HashMap<BuildId, (BuilderId, WorkerId)>,
    /// Requests of builders that this queue has no line for: they wait for a configuration that has one.
    stranded: BTreeMap<BuildRequestId, (BuilderId, i64)>,
}

impl ReadyQueue {
    /// A queue over these workers (name, slots) and builders (their workers).
    pub fn new(
        workers: impl IntoIterator<Item = (WorkerId, String, u32)>,
        builders: impl IntoIterator<Item = (BuilderId, Vec<WorkerId>)>,
    ) -> Self {
        let mut queue = Self::default();
        for (id, name, slots) in workers {
            let readiness = Readiness::default();
            queue.workers.insert(id, WorkerState { name, slots, used: 0, readiness, pools: Vec::new() });
        }
        let mut pool_of: HashMap<Vec<WorkerId>, usize> = HashMap::new();
        for (id, mut allowed) in builders {
            allowed.sort_unstable();
            allowed.dedup();
            let pool = *pool_of.entry(allowed.clone()).or_insert_with(|| {
                let number = queue.pools.len();
                for worker in &allowed {
                    if let Some(worker) = queue.workers.get_mut(worker) {
                        worker.pools.push(number);
                    }
                }
                queue.pools.push(Pool { workers: allowed, ..Pool::default() });
                number
            });
            let line = Line { pool, waiting: BTreeSet::new(), running_on: HashSet::new(), set_aside: false };
            queue.lines.insert(id, line);
        }
        queue
    }

    /// The same queue over other workers and builders: what waits and what runs stays, requests of builders that are gone are
    /// stranded, those of builders that are back wait again. A worker that is new here is not ready yet.
    pub fn over(
        self,
        workers: impl IntoIterator<Item = (WorkerId, String, u32)>,
        builders: impl IntoIterator<Item = (BuilderId, Vec<WorkerId>)>,
    ) -> Self {
        let mut queue = Self::new(workers, builders);
        for (id, worker) in &self.workers {
            queue.set_readiness(*id, worker.readiness);
        }
        for (build, (builder, worker)) in self.running {
            queue.occupy(build, builder, worker);
        }
        for (request, (builder, ticket)) in self.tickets {
            queue.add(request, builder, ticket.priority.0);
        }
        for (request, (builder, priority)) in self.stranded {
            queue.add(request, builder, priority);
        }
        queue
    }

    /// Whether builds may be given to a worker.
    pub fn knows_worker(&self, worker: WorkerId) -> bool {
        self.workers.contains_key(&worker)
    }

    /// The workers.
    pub fn workers(&self) -> impl Iterator<Item = WorkerId> {
        self.workers.keys().copied()
    }

    /// Whether any build runs on a worker, also on one that is not configured any more.
    pub fn is_idle(&self, worker: WorkerId) -> bool {
        match self.workers.get(&worker) {
            Some(known) => known.used == 0,
            None => self.running.values().all(|(_, it)| *it != worker),
        }
    }

    /// How many requests of each unknown builder wait.
    pub fn stranded(&self) -> BTreeMap<BuilderId, usize> {
        let mut counts = BTreeMap::new();
        for (builder, _) in self.stranded.values() {
            *counts.entry(*builder).or_default() += 1;
        }
        counts
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.tickets.len()
    }

    /// How many builds hold a slot.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether a build holds a slot.
    pub fn holds_slot(&self, build: BuildId) -> bool {
        self.running.contains_key(&build)
    }

    /// How many builds a worker runs.
    pub fn used(&self, worker: WorkerId) -> u32 {
        self.workers.get(&worker).map_or(0, |it| it.used)
    }

    /// A request waits. One that waits already keeps its place, or takes that of its new priority.
    pub fn add(&mut self, request: BuildRequestId, builder: BuilderId, priority: i64) {
        let ticket = Ticket { priority: Reverse(priority), request };
        match self.tickets.get(&request) {
            Some((_, known)) if *known == ticket => return,
            Some(_) => self.remove(request),
            None => {}
        }
        if !self.lines.contains_key(&builder) {
            self.stranded.insert(request, (builder, priority));
            return;
        }
        self.tickets.insert(request, (builder, ticket));
        self.change_line(builder, |line| {
            line.waiting.insert(ticket);
        });
    }

    /// A request does not wait any more.
    pub fn remove(&mut self, request: BuildRequestId) {
        self.stranded.remove(&request);
        if let Some((builder, ticket)) = self.tickets.remove(&request) {
            self.change_line(builder, |line| {
                line.waiting.remove(&ticket);
            });
        }
    }

    /// What is known about a worker has changed.
    pub fn set_readiness(&mut self, worker: WorkerId, readiness: Readiness) {
        self.change_worker(worker, |it| it.readiness = readiness);
    }

    /// Takes the next request and its slot, if there are any.
    pub fn decide(&mut self, build: BuildId) -> Option<Decision> {
        loop {
            let (ticket, pool) = *self.ready.first()?;
            let (_, builder) = *self.pools[pool].heads.first()?;
            let line = self.lines.get(&builder)?;
            let worker = self.pools[pool].free.iter().map(|(_, worker)| *worker);
            let worker = worker.into_iter().find(|worker| !line.running_on.contains(worker));
            match worker {
                Some(worker) => {
                    self.remove(ticket.request);
                    self.occupy(build, builder, worker);
                    return Some(Decision { request: ticket.request, builder, worker });
                }
                None => self.change_line(builder, |line| line.set_aside = true),
            }
        }
    }

    /// Takes a slot for a build (also beyond the number of slots: it runs already).
    pub fn occupy(&mut self, build: BuildId, builder: BuilderId, worker: WorkerId) {
        if self.running.insert(build, (builder, worker)).is_some() {
            return;
        }
        if self.lines.contains_key(&builder) {
            self.change_line(builder, |line| {
                line.running_on.insert(worker);
            });
        }
        self.change_worker(worker, |it| it.used += 1);
    }

    /// Frees a build's slot; says whose.
    pub fn release(&mut self, build: BuildId) -> Option<WorkerId> {
        let (builder, worker) = self.running.remove(&build)?;
        if self.lines.contains_key(&builder) {
            self.change_line(builder, |line| {
                line.running_on.remove(&worker);
                line.set_aside = false;
            });
        }
        self.change_worker(worker, |it| it.used = it.used.saturating_sub(1));
        Some(worker)
    }

    fn change_line(&mut self, builder: BuilderId, change: impl FnOnce(&mut Line)) {
        let Some(line) = self.lines.get_mut(&builder) else { return };
        let pool = line.pool;
        let old_ready = Self::ready_key(&self.pools[pool], pool);
        if let Some(head) = line.waiting.first() {
            self.pools[pool].heads.remove(&(*head, builder));
        }
        change(line);
        match line.waiting.first() {
            Some(head) if !line.set_aside => {
                self.pools[pool].heads.insert((*head, builder));
                self.pools[pool].set_aside.remove(&builder);
            }
            _ if line.set_aside => {
                self.pools[pool].set_aside.insert(builder);
            }
            _ => {
                self.pools[pool].set_aside.remove(&builder);
            }
        }
        self.refresh(pool, old_ready);
    }

    fn change_worker(&mut self, id: WorkerId, change: impl FnOnce(&mut WorkerState)) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let before = worker.free();
        change(worker);
        let after = worker.free();
        if before == after {
            return;
        }
        for pool in worker.pools.clone() {
            let old_ready = Self::ready_key(&self.pools[pool], pool);
            self.pools[pool].free.remove(&(Reverse(before), id));
            if after > 0 {
                self.pools[pool].free.insert((Reverse(after), id));
            }
            self.refresh(pool, old_ready);
            if after > before {
                self.reconsider(pool, id);
            }
        }
    }

    /// A worker has more room: builders that were set aside and do not run on it may have their turn.
    fn reconsider(&mut self, pool: usize, worker: WorkerId) {
        let aside: Vec<BuilderId> = self.pools[pool].set_aside.iter().copied().collect();
        for builder in aside {
            if self.lines.get(&builder).is_some_and(|line| !line.running_on.contains(&worker)) {
                self.change_line(builder, |line| line.set_aside = false);
            }
        }
    }

    fn ready_key(pool: &Pool, number: usize) -> Option<(Ticket, usize)> {
        let (head, _) = pool.heads.first()?;
        pool.free.first().map(|_| (*head, number))
    }

    fn refresh(&mut self, pool: usize, old: Option<(Ticket, usize)>) {
        let new = Self::ready_key(&self.pools[pool], pool);
        if old != new {
            if let Some(old) = old {
                self.ready.remove(&old);
            }
            self.ready.extend(new);
        }
    }

    /// Why a request waits; none if it does not.
    pub fn why(&self, request: BuildRequestId) -> Option<String> {
        if self.stranded.contains_key(&request) {
            return Some(STRANDED.to_owned());
        }
        let (builder, ticket) = self.tickets.get(&request)?;
        let line = self.lines.get(builder)?;
        if let Some(head) = line.waiting.first().filter(|head| *head != ticket) {
            return Some(format!("request {} of the same builder goes first", head.request));
        }
        let pool = &self.pools[line.pool];
        if let Some(reason) = self.why_no_slot(pool) {
            return Some(reason);
        }
        if line.set_aside {
            return Some("every worker with a free slot runs a build of this builder already".to_owned());
        }
        Some("about to start".to_owned())
    }

    fn why_no_slot(&self, pool: &Pool) -> Option<String> {
        if !pool.free.is_empty() {
            return None;
        }
        let workers: Vec<&WorkerState> = pool.workers.iter().filter_map(|id| self.workers.get(id)).collect();
        if workers.is_empty() {
            return Some("no worker is configured for the builder".to_owned());
        }
        let connected: Vec<_> = workers.iter().filter(|it| it.readiness.connected).collect();
        if connected.is_empty() {
            return Some(format!("no worker is connected ({})", names(workers.iter().copied())));
        }
        let open: Vec<_> = connected.iter().filter(|it| it.readiness.takes_builds()).collect();
        if open.is_empty() {
            return Some(format!(
                "every connected worker is paused ({})",
                names(connected.into_iter().copied())
            ));
        }
        Some(format!("all slots are busy ({})", names(open.into_iter().map(|it| **it))))
    }

    /// The heads of lines, best first, at most `most`, with the reason why each waits.
    pub fn heads(&self, most: usize) -> Vec<(BuilderId, BuildRequestId, String)> {
        let heads = self.pools.iter().flat_map(|pool| pool.heads.iter().take(most));
        let aside = self.pools.iter().flat_map(|pool| pool.set_aside.iter().take(most));
        let aside = aside.filter_map(|id| Some((*self.lines.get(id)?.waiting.first()?, *id)));
        let mut all: Vec<(Ticket, BuilderId)> = heads.copied().chain(aside).collect();
        all.sort_unstable();
        all.truncate(most);
        let told = all.into_iter().map(|(ticket, id)| (id, ticket.request));
        let stranded = self.stranded.iter().map(|(request, (id, _))| (*id, *request));
        let told = told.chain(stranded).take(most);
        told.filter_map(|(id, request)| Some((id, request, self.why(request)?))).collect()
    }
}

/// Why a request of an unknown builder waits.
const STRANDED: &str = "its builder is not configured on this master (any more)";

/// A few names, for people.
fn names<'a>(workers: impl Iterator<Item = &'a WorkerState>) -> String {
    const SHOWN: usize = 5;
    let mut names: Vec<&str> = workers.map(|it| it.name.as_str()).collect();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let text = names.join(", ");
    if more > 0 { format!("{text} and {more} more") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: Readiness = Readiness { connected: true, paused: false, graceful: false };

    fn queue(workers: &[(i64, u32)], builders: &[(i64, &[i64])]) -> ReadyQueue {
        ReadyQueue::new(
            workers.iter().map(|(id, slots)| (WorkerId(*id), format!("w{id}"), *slots)),
            builders.iter().map(|(id, w)| (BuilderId(*id), w.iter().map(|w| WorkerId(*w)).collect())),
        )
    }

    fn ready(mut queue: ReadyQueue, workers: &[i64]) -> ReadyQueue {
        workers.iter().for_each(|w| queue.set_readiness(WorkerId(*w), READY));
        queue
    }

    fn decide(queue: &mut ReadyQueue, build: i64) -> Option<(i64, i64)> {
        queue.decide(BuildId(build)).map(|it| (it.request.0, it.worker.0))
    }

    #[test]
    fn higher_priority_goes_first_then_the_older_one() {
        let mut queue = ready(queue(&[(1, 9)], &[(1, &[1]), (2, &[1]), (3, &[1])]), &[1]);
        queue.add(BuildRequestId(1), BuilderId(1), 0);
        queue.add(BuildRequestId(2), BuilderId(2), 0);
        queue.add(BuildRequestId(3), BuilderId(3), 5);
        assert_eq!(decide(&mut queue, 1), Some((3, 1)));
        assert_eq!(decide(&mut queue, 2), Some((1, 1)));
        assert_eq!(decide(&mut queue, 3), Some((2, 1)));
        assert_eq!(decide(&mut queue, 4), None);
    }

    #[test]
    fn the_worker_with_most_free_slots_is_taken() {
        let mut queue = ready(queue(&[(1, 2), (2, 3)], &[(1, &[1, 2]), (2, &[1, 2]), (3, &[1, 2])]), &[1, 2]);
        for id in 1..=3 {
            queue.add(BuildRequestId(id), BuilderId(id), 0);
        }
        assert_eq!(decide(&mut queue, 1), Some((1, 2)));
        assert_eq!(decide(&mut queue, 2), Some((2, 1)));
        assert_eq!(decide(&mut queue, 3), Some((3, 2)));
    }

    #[test]
    fn a_worker_runs_one_build_of_a_builder_at_a_time() {
        let mut queue = ready(queue(&[(1, 4), (2, 4)], &[(1, &[1, 2]), (2, &[1, 2])]), &[1, 2]);
        for id in 1..=3 {
            queue.add(BuildRequestId(id), BuilderId(1), 9);
        }
        queue.add(BuildRequestId(4), BuilderId(2), 0);
        let first = decide(&mut queue, 1).unwrap();
        let second = decide(&mut queue, 2).unwrap();
        assert_ne!(first.1, second.1);
        assert_eq!(decide(&mut queue, 3).map(|it| it.0), Some(4), "the other builder is not held up");
        assert_eq!(decide(&mut queue, 4), None);
        assert!(queue.why(BuildRequestId(3)).unwrap().contains("runs a build of this builder"));
        queue.release(BuildId(1));
        assert_eq!(decide(&mut queue, 5), Some((3, first.1)));
    }

    #[test]
    fn a_worker_that_comes_frees_builders_set_aside() {
        let mut queue = ready(queue(&[(1, 4), (2, 4)], &[(1, &[1, 2])]), &[1]);
        queue.add(BuildRequestId(1), BuilderId(1), 0);
        queue.add(BuildRequestId(2), BuilderId(1), 0);
        assert_eq!(decide(&mut queue, 1), Some((1, 1)));
        assert_eq!(decide(&mut queue, 2), None);
        queue.set_readiness(WorkerId(2), READY);
        assert_eq!(decide(&mut queue, 2), Some((2, 2)));
    }

    #[test]
    fn paused_leaving_and_absent_workers_get_nothing_and_the_reason_is_told() {
        let mut queue = queue(&[(1, 1)], &[(1, &[1])]);
        queue.add(BuildRequestId(1), BuilderId(1), 0);
        assert_eq!(decide(&mut queue, 1), None);
        assert_eq!(queue.why(BuildRequestId(1)).unwrap(), "no worker is connected (w1)");
        queue.set_readiness(WorkerId(1), Readiness { paused: true, ..READY });
        assert_eq!(queue.why(BuildRequestId(1)).unwrap(), "every connected worker is paused (w1)");
        queue.set_readiness(WorkerId(1), Readiness { graceful: true, ..READY });
        assert_eq!(decide(&mut queue, 1), None);
        queue.set_readiness(WorkerId(1), READY);
        queue.occupy(BuildId(9), BuilderId(7), WorkerId(1));
        assert_eq!(queue.why(BuildRequestId(1)).unwrap(), "all slots are busy (w1)");
        queue.release(BuildId(9));
        assert_eq!(decide(&mut queue, 1), Some((1, 1)));
    }

    #[test]
    fn a_removed_request_is_not_built() {
        let mut queue = ready(queue(&[(1, 1)], &[(1, &[1])]), &[1]);
        queue.add(BuildRequestId(1), BuilderId(1), 0);
        queue.remove(BuildRequestId(1));
        assert_eq!(decide(&mut queue, 1), None);
        assert_eq!(queue.waiting(), 0);
    }

    /// 500 builders on 50 workers with a backlog: what a decision costs must not follow the backlog. (A scan of it would
    /// take a hundred times as long at ten times the size, all decisions together.)
    #[test]
    fn a_decision_does_not_cost_more_when_more_is_waiting() {
        let time = |backlog: i64| {
            let ids: Vec<i64> = (1..=50).collect();
            let workers: Vec<(i64, u32)> = ids.iter().map(|id| (*id, 8)).collect();
            let builders: Vec<(i64, &[i64])> = (1..=500).map(|id| (id, ids.as_slice())).collect();
            let mut queue = ready(queue(&workers, &builders), &ids);
            for request in 1..=backlog {
                queue.add(BuildRequestId(request), BuilderId(1 + request % 500), request % 3);
            }
            let begun = std::time::Instant::now();
            for build in 1..=2_000 {
                assert!(queue.decide(BuildId(build)).is_some());
                queue.release(BuildId(build));
            }
            begun.elapsed()
        };
        let (small, large) = (time(2_000), time(50_000));
        assert!(large < small * 8, "{small:?} with 2,000 waiting, {large:?} with 50,000");
    }

    /// A plain model: look at everything, each time.
    #[derive(Default)]
    struct Model {
        waiting: Vec<(i64, i64, i64)>,
        running: Vec<(i64, i64, i64)>,
    }

    impl Model {
        fn best(&self, workers: &[(i64, u32)], allowed: &HashMap<i64, Vec<i64>>) -> Option<i64> {
            let can = |builder: i64| {
                workers.iter().any(|(w, slots)| {
                    let used = self.running.iter().filter(|it| it.2 == *w).count();
                    let same = self.running.iter().any(|it| it.2 == *w && it.1 == builder);
                    allowed[&builder].contains(w) && used < *slots as usize && !same
                })
            };
            let mut fit: Vec<_> = self.waiting.iter().filter(|it| can(it.1)).collect();
            fit.sort_by_key(|it| (Reverse(it.2), it.0));
            fit.first().map(|it| it.0)
        }
    }

    /// Against the model, over many random histories.
    #[test]
    fn decisions_are_those_of_a_full_scan() {
        for seed in 0..200_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut roll = |n: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                i64::try_from(state % n).unwrap()
            };
            let workers = [(1, 2_u32), (2, 1), (3, 3)];
            let builders: [(i64, &[i64]); 4] = [(1, &[1, 2, 3]), (2, &[1, 2, 3]), (3, &[2]), (4, &[1, 3])];
            let allowed: HashMap<i64, Vec<i64>> = builders.iter().map(|(b, w)| (*b, w.to_vec())).collect();
            let mut queue = ready(queue(&workers, &builders), &[1, 2, 3]);
            let mut model = Model::default();
            for step in 1..200_i64 {
                match roll(5) {
                    0 | 1 => {
                        let (builder, priority) = (1 + roll(4), roll(3));
                        queue.add(BuildRequestId(step), BuilderId(builder), priority);
                        model.waiting.push((step, builder, priority));
                    }
                    2 if !model.running.is_empty() => {
                        let gone = model
                            .running
                            .swap_remove(usize::try_from(roll(model.running.len() as u64)).unwrap());
                        assert_eq!(queue.release(BuildId(gone.0)), Some(WorkerId(gone.2)));
                    }
                    _ => {
                        let wanted = model.best(&workers, &allowed);
                        let decided = queue.decide(BuildId(step));
                        assert_eq!(decided.map(|it| it.request.0), wanted, "seed {seed} step {step}");
                        if let Some(it) = decided {
                            model.waiting.retain(|w| w.0 != it.request.0);
                            model.running.push((step, it.builder.0, it.worker.0));
                        }
                    }
                }
            }
        }
    }
}
