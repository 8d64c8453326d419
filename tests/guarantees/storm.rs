//! A cluster in bad weather: masters, workers, bus and database server that are killed and come back.

use std::time::{Duration, Instant};

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use crate::harness::{Agent, Farm, Rest, StockWorker, member, patience};
use crate::history::History;
use crate::load::{Asked, Load};
use crate::{buses, databases};

/// Builders of a cluster; a worker runs one build of a builder at a time.
const BUILDERS: u64 = 8;

/// What may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A master is killed and started again.
    Master,
    /// A worker is killed with what it runs orphaned, and started again.
    Worker,
    /// The bus is away for a while.
    Bus,
    /// The database server is killed and started again.
    Database,
}

/// A cluster. Worker `wN` belongs to the N-th master.
pub struct Cluster {
    pub masters: Vec<Farm>,
    workers: Vec<Worker>,
    /// None: a master by itself, on SQLite and without a bus.
    servers: Option<(databases::Server, buses::Server)>,
    /// What has happened so far.
    faults: Vec<Fault>,
    /// Which masters have served since their start.
    served: Vec<bool>,
    /// How often a master gave up at its start or had lost its place, and was started again.
    restarts: usize,
}

enum Worker {
    Ours(Agent),
    /// Held until the end; what a stock worker leaves behind when it is killed nobody ends.
    Stock {
        _process: StockWorker,
    },
}

/// A master that lost its place to another process ends so, to be started again.
const LOST_ITS_PLACE: i32 = 75;

const NAMES: [&str; 4] = ["one", "two", "three", "four"];

pub fn config(history: &History, master: usize, masters: usize, seconds: &str) -> String {
    let workers: Vec<String> = (1..=masters).map(|n| format!("\"w{n}\"")).collect();
    let workers = workers.join(", ");
    let mut config = "[schedulers.force]\nkind = \"force\"\nbuilders = \"*\"\n\
         parameters = [{ name = \"job\", kind = \"int\" }]\n"
        .to_owned();
    for n in 1..=masters {
        config += &format!("[workers.w{n}]\npassword = \"pw\"\nmax-builds = 4\n");
    }
    for n in 0..BUILDERS {
        let env = format!(
            "{{ JOB = \"${{{{ prop.job }}}}\", BUILD = \"${{{{ build.id }}}}\", MASTER = \"{}\" }}",
            NAMES[master]
        );
        config += &format!(
            "[builders.linux-{n}]\nworkers = [{workers}]\nenv = {env}\n[[builders.linux-{n}.steps]]\nname = \"work\"\nrun = '''\n{}'''\n",
            history.script(seconds)
        );
    }
    config
}

impl Cluster {
    /// Masters on a new database server, with a worker each, whose builds take so many seconds.
    pub fn raise(kind: &'static str, masters: usize, history: &History, seconds: &str) -> Self {
        let (database, bus) = (databases::Server::start(kind), buses::Server::start("nats"));
        let raise = |n: usize| {
            let config = config(history, n, masters, seconds);
            member(NAMES[n], &database.url, &bus.url, &config)
        };
        let masters: Vec<Farm> = (0..masters).map(raise).collect();
        let agent = |(n, farm): (usize, &Farm)| Worker::Ours(farm.agent(&format!("w{}", n + 1)));
        let workers = masters.iter().enumerate().map(agent).collect();
        Self::of(masters, workers, Some((database, bus)))
    }

    /// One master on SQLite, with our agent or a stock worker.
    pub fn alone(history: &History, seconds: &str, stock: bool) -> Self {
        let farm = member(NAMES[0], "sqlite://greenroom.db", "local:", &config(history, 0, 1, seconds));
        let worker = match stock {
            true => Worker::Stock { _process: farm.stock_worker("w1") },
            false => Worker::Ours(farm.agent("w1")),
        };
        Self::of(vec![farm], vec![worker], None)
    }

    fn of(
        masters: Vec<Farm>,
        workers: Vec<Worker>,
        servers: Option<(databases::Server, buses::Server)>,
    ) -> Self {
        let served = vec![true; masters.len()];
        Self { masters, workers, servers, faults: Vec::new(), served, restarts: 0 }
    }

    /// REST of each master.
    pub fn rests(&self) -> Vec<Rest> {
        self.masters.iter().map(|it| it.rest().clone()).collect()
    }

    /// The ports of its masters.
    pub fn ports(&self) -> Vec<u16> {
        self.masters.iter().map(Farm::port).collect()
    }

    /// Something goes wrong, and is over again.
    pub fn suffer(&mut self, fault: Fault, history: &History, dice: &mut StdRng) {
        self.faults.push(fault);
        let away = Duration::from_millis(dice.random_range(0..1_500));
        let which = dice.random_range(0..self.masters.len());
        match fault {
            Fault::Master => {
                self.masters[which].kill_master();
                self.served[which] = false;
                std::thread::sleep(away);
                self.masters[which].launch();
            }
            Fault::Worker => {
                let Worker::Ours(agent) = &mut self.workers[which] else { panic!("no worker of ours") };
                history.worker_killed();
                agent.kill();
                std::thread::sleep(away);
                *agent = self.masters[which].launch_agent(&format!("w{}", which + 1), "pw");
            }
            Fault::Bus => {
                let (_, bus) = self.servers.as_ref().expect("a bus");
                bus.stop();
                std::thread::sleep(away);
                bus.again();
            }
            Fault::Database => {
                let (database, _) = self.servers.as_mut().expect("a database server");
                database.stop();
                std::thread::sleep(away);
                database.resume();
            }
        }
    }

    /// One fault after the other for so long: these, in an order of chance, then these again. Each happens once at least.
    pub fn storm(&mut self, faults: &[Fault], lasts: Duration, history: &History, dice: &mut StdRng) {
        let (start, mut bag) = (Instant::now(), faults.to_vec());
        bag.shuffle(dice);
        while start.elapsed() < lasts || !bag.is_empty() {
            std::thread::sleep(Duration::from_millis(dice.random_range(100..1_500)));
            if bag.is_empty() {
                bag = faults.to_vec();
                bag.shuffle(dice);
            }
            let fault = bag.pop().expect("a fault");
            self.suffer(fault, history, dice);
            self.tend();
        }
        patience(Duration::from_secs(60), "all masters to serve", || {
            self.tend();
            self.served.iter().all(|it| *it).then_some(())
        });
    }

    /// Does what an init system does: starts a master again that found no database at its start, or has lost its place. Nothing
    /// else may end one.
    fn tend(&mut self) {
        for (farm, served) in self.masters.iter_mut().zip(&mut self.served) {
            if let Some(status) = farm.master().ended() {
                let allowed = !*served || status.code() == Some(LOST_ITS_PLACE);
                assert!(allowed, "a master ended by itself ({status}): {}", farm.master_log());
                farm.kill_master();
                farm.launch();
                (*served, self.restarts) = (false, self.restarts + 1);
            } else if farm.rest().try_get("/health").is_ok_and(|it| it.status == 200) {
                *served = true;
            }
        }
    }

    /// What happened, counted.
    pub fn weather(&self) -> String {
        let count = |fault| self.faults.iter().filter(|it| **it == fault).count();
        format!(
            "{} master kills ({} starts in vain), {} worker kills, {} bus and {} database restarts",
            count(Fault::Master),
            self.restarts,
            count(Fault::Worker),
            count(Fault::Bus),
            count(Fault::Database)
        )
    }

    /// Waits until every request has ended; gives how long that took.
    pub fn settle(&self, within: Duration) -> Duration {
        let (start, rest) = (Instant::now(), self.masters[0].rest());
        patience(within, "the end of every build request", || {
            let open = rest.try_get("/api/v2/buildsets?complete=false&limit=1").ok()?;
            (open.status == 200 && open.json()["buildsets"].as_array()?.is_empty()).then_some(())
        });
        start.elapsed()
    }
}

/// A client that forces builds, at any master, each until it is answered, until it is stopped.
pub fn force_on(load: &Load, masters: &[Rest], dice: &mut StdRng) {
    while !load.is_stopped() {
        let job = load.number();
        let builder = format!("linux-{}", job % BUILDERS);
        let asked = Asked::force(job, &[builder], Some(format!("key-{job}")));
        let first = dice.random_range(0..masters.len());
        let turn = std::cell::Cell::new(first);
        let whom = || {
            turn.set(turn.get() + 1);
            masters[turn.get() % masters.len()].clone()
        };
        load.insist(whom, &asked);
        std::thread::sleep(Duration::from_millis(dice.random_range(0..250)));
    }
}
