//! An opened store with its actors, and verbs for tests.

use std::path::Path;
use std::sync::{Arc, Mutex};

use actix::{Actor, Addr, Handler, MailboxError, Message};
use greenroom_db::*;
use greenroom_model::ids::AllocatedId;
use greenroom_model::write::*;
use greenroom_model::*;

/// Write ids of another world on the same file must be others.
fn first_write() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    u128::from(RandomState::new().hash_one(0)) << 64
}

/// The time at which stores are opened, in seconds.
pub const START: i64 = 1_800_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Memory,
    Sqlite,
    Postgres,
    MariaDb,
}

impl Engine {
    /// The url of a new, empty database.
    pub fn fresh(self) -> String {
        match self {
            Engine::Memory => "memory:".into(),
            Engine::Sqlite => "sqlite://test.db".into(),
            Engine::Postgres => crate::databases::fresh("postgres"),
            Engine::MariaDb => crate::databases::fresh("mariadb"),
        }
    }
}

pub struct World {
    pub store: Store,
    pub writer: Addr<DbWriter>,
    pub reader: Addr<DbReader>,
    pub dir: Arc<tempfile::TempDir>,
    /// Where its database is, if it was opened by a url.
    pub url: String,
    announced: Arc<Mutex<Vec<Event>>>,
    now: Mutex<i64>,
    next_write: Mutex<u128>,
}

/// Runs tests over every engine.
#[macro_export]
macro_rules! both {
    ($($name:ident),* $(,)?) => {
        $crate::over!(memory, Memory, $($name),*);
        $crate::over!(sqlite, Sqlite, $($name),*);
        $crate::servers!($($name),*);
    };
}

/// Runs tests over the engines that are servers.
#[macro_export]
macro_rules! servers {
    ($($name:ident),* $(,)?) => {
        $crate::over!(postgres, Postgres, $($name),*);
        $crate::over!(mariadb, MariaDb, $($name),*);
    };
}

/// Runs tests over one engine.
#[macro_export]
macro_rules! over {
    ($module:ident, $engine:ident, $($name:ident),*) => {
        mod $module { $(
            #[actix_rt::test]
            async fn $name() { super::$name($crate::world::World::open($crate::world::Engine::$engine).await).await }
        )* }
    };
}

async fn ask<A, M, T>(addr: &Addr<A>, msg: M) -> T
where
    A: Actor<Context = actix::Context<A>> + Handler<M>,
    M: Message<Result = T> + Send + 'static,
    T: Send + 'static,
{
    let answer: Result<T, MailboxError> = addr.send(msg).await;
    answer.expect("the actor lives")
}

impl World {
    pub async fn open(engine: Engine) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::open_in(&engine.fresh(), dir).await
    }

    pub async fn open_in(url: &str, dir: Arc<tempfile::TempDir>) -> Self {
        let store = Store::open(url, dir.path(), "main", Timestamp::from_seconds(START)).await.unwrap();
        Self { url: url.to_owned(), ..Self::over(store, dir) }
    }

    /// Over a database with settings of its own.
    pub async fn open_as(options: DatabaseOptions, dir: Arc<tempfile::TempDir>) -> Self {
        let url = options.url.clone();
        let store = Store::open(options, dir.path(), "main", Timestamp::from_seconds(START)).await.unwrap();
        Self { url, ..Self::over(store, dir) }
    }

    pub fn over(store: Store, dir: Arc<tempfile::TempDir>) -> Self {
        let announced: Arc<Mutex<Vec<Event>>> = Arc::default();
        let into = Arc::clone(&announced);
        let sink: EventSink = Arc::new(move |events| into.lock().unwrap().extend(events.iter().cloned()));
        Self {
            writer: DbWriter::new(store.clone(), sink).start(),
            reader: DbReader::new(store.clone()).start(),
            store,
            dir,
            url: String::new(),
            announced,
            now: Mutex::new(START * 1_000_000),
            next_write: Mutex::new(first_write()),
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn id<T: AllocatedId>(&self) -> T {
        self.store.ids().new_id().unwrap()
    }

    /// Moves the time of further writes.
    pub fn advance(&self, seconds: i64) {
        *self.now.lock().unwrap() += seconds * 1_000_000;
    }

    /// A write of these operations, with an id and the time.
    pub fn write(&self, ops: Vec<Op>) -> Write {
        let mut next = self.next_write.lock().unwrap();
        *next += 1;
        Write { id: WriteId(*next), at: Timestamp(*self.now.lock().unwrap()), ops }
    }

    pub async fn commit(&self, write: Write) -> Result<Committed, WriteError> {
        ask(&self.writer, Commit(write)).await
    }

    /// Commits writes that are asked for at once, so that they go in one group.
    pub async fn commit_together(&self, writes: Vec<Write>) -> Vec<Result<Committed, WriteError>> {
        let asked: Vec<_> = writes.into_iter().map(|w| self.writer.send(Commit(w))).collect();
        futures_util::future::join_all(asked).await.into_iter().map(Result::unwrap).collect()
    }

    /// Does operations that must succeed.
    pub async fn run(&self, ops: Vec<Op>) -> Vec<Outcome> {
        self.commit(self.write(ops)).await.unwrap().outcomes
    }

    /// Does one operation, which may be refused.
    pub async fn attempt(&self, op: Op) -> Result<Outcome, Refusal> {
        match self.commit(self.write(vec![op])).await {
            Ok(committed) => Ok(committed.outcomes.into_iter().next().unwrap()),
            Err(WriteError::Refused(refusal)) => Err(refusal),
            Err(other) => panic!("{other}"),
        }
    }

    pub async fn read<M, T>(&self, msg: M) -> T
    where
        DbReader: Handler<M>,
        M: Message<Result = ReadResult<T>> + Send + 'static,
        T: Send + 'static,
    {
        self.snapshot(msg).await.value
    }

    pub async fn snapshot<M, T>(&self, msg: M) -> Snapshot<T>
    where
        DbReader: Handler<M>,
        M: Message<Result = ReadResult<T>> + Send + 'static,
        T: Send + 'static,
    {
        ask(&self.reader, msg).await.unwrap()
    }

    pub async fn get<E: Stored>(&self, id: i64) -> Arc<E> {
        self.read(Get::<E>::new(id)).await.unwrap()
    }

    pub async fn list<E: Stored>(&self, query: Query) -> Page<Arc<E>> {
        self.read(List::<E>::new(query)).await
    }

    /// The events announced since the last call.
    pub fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.announced.lock().unwrap())
    }

    /// Their topics: how people write down what happened.
    pub fn topics(&self) -> Vec<String> {
        self.events().iter().map(|e| e.what.topic().to_string()).collect()
    }

    /// Two builders `b1`, `b2` on workers `w1`, `w2`, a scheduler `s` and a change source `c`.
    pub async fn configure(&self) {
        let builder = |name: &str| ConfiguredBuilder {
            name: name.into(),
            workers: vec!["w1".into(), "w2".into()],
            ..Default::default()
        };
        let configuration = Configuration {
            builders: vec![builder("b1"), builder("b2")],
            workers: vec!["w1".into(), "w2".into()],
            schedulers: vec!["s".into()],
            change_sources: vec!["c".into()],
            projects: vec![("p".into(), None)],
        };
        self.run(vec![Op::Configure(Box::new(configuration))]).await;
        self.events();
    }

    /// A buildset of one request per builder.
    pub fn new_buildset(&self, builders: &[i64]) -> NewBuildset {
        NewBuildset {
            id: self.id(),
            requests: builders.iter().map(|b| (self.id(), BuilderId(*b))).collect(),
            sourcestamps: vec![StampRef::New(NewSourceStamp {
                branch: Some("main".into()),
                ..Default::default()
            })],
            reason: "test".into(),
            external_id: None,
            properties: Properties::new(),
            priority: 0,
            waited_for: false,
            scheduler: Some("s".into()),
            parent: None,
            rebuilt_build: None,
        }
    }

    pub async fn submit(&self, builders: &[i64]) -> (BuildsetId, Vec<BuildRequestId>) {
        let new = self.new_buildset(builders);
        let (id, requests) = (new.id, new.requests.iter().map(|(id, _)| *id).collect());
        self.run(vec![Op::AddBuildset(Box::new(new))]).await;
        (id, requests)
    }

    pub fn start_op(&self, request: BuildRequestId) -> (BuildId, Op) {
        let id = self.id();
        let new = NewBuild {
            id,
            request,
            worker: WorkerId(1),
            state_string: "starting".into(),
            properties: Properties::new(),
        };
        (id, Op::StartBuild(Box::new(new)))
    }

    pub async fn start_build(&self, request: BuildRequestId) -> BuildId {
        let (id, op) = self.start_op(request);
        self.run(vec![op]).await;
        id
    }

    pub async fn add_step(&self, build: BuildId, number: i64) -> StepId {
        let id = self.id();
        let name = format!("step{number}");
        self.run(vec![Op::AddStep { id, build, number, name, hidden: false }]).await;
        id
    }

    pub async fn finish_build(&self, build: BuildId, results: Results) -> Result<Outcome, Refusal> {
        self.attempt(Op::FinishBuild { build, results, state_string: results.word().into() }).await
    }
}

pub fn change(id: ChangeId, origin: ChangeOrigin, revision: &str) -> NewChange {
    NewChange {
        id,
        origin,
        author: "Ann <ann@example.org>".into(),
        committer: None,
        comments: "fix it".into(),
        branch: Some("main".into()),
        revision: (!revision.is_empty()).then(|| revision.into()),
        revlink: None,
        when: Timestamp::from_seconds(START),
        category: None,
        repository: "https://example.org/r.git".into(),
        codebase: String::new(),
        project: String::new(),
        files: vec!["a.c".into(), "b.c".into()],
        properties: Properties::new(),
    }
}
