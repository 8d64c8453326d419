//! Callers on several threads while births come and go: what a caller hears must be true.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use greenroom_runtime::{AskError, ChildSpec, Front, TellError, TestWorld, supervised};

const CALLERS: u64 = 3;
const CALLS: u64 = 3_000;

/// How often each message ran.
type Runs = Arc<Mutex<HashMap<u64, u32>>>;

struct Counter(Runs);

impl Actor for Counter {
    type Context = Context<Self>;
}
supervised!(Counter, "counter");

#[derive(Message)]
#[rtype(result = "u64")]
struct Count(u64);

impl Handler<Count> for Counter {
    type Result = u64;
    fn handle(&mut self, Count(id): Count, _: &mut Self::Context) -> u64 {
        *self.0.lock().unwrap().entry(id).or_default() += 1;
        assert!(!id.is_multiple_of(97), "an unlucky number");
        id
    }
}

#[derive(Default)]
struct Heard {
    asks: Vec<(u64, Result<u64, AskError>)>,
    tells: Vec<(u64, Result<(), TellError>)>,
}

async fn call(front: Front<Counter>, caller: u64) -> Heard {
    let mut heard = Heard::default();
    for call in 0..CALLS {
        let id = (caller * CALLS + call) * 2;
        heard.asks.push((id, front.ask_within(Duration::from_secs(60), Count(id)).await));
        heard.tells.push((id + 1, front.tell(Count(id + 1))));
        // not to call an actor that cannot hear: fewer calls would mean anything
        front.wait_ready(Duration::from_secs(60)).await.unwrap();
    }
    heard
}

#[actix::test]
async fn what_callers_hear_is_true() {
    let mut world = TestWorld::in_real_time();
    world.expect_panic("counter");
    let mut policies = greenroom_runtime::Policies::default();
    let patient =
        greenroom_runtime::Intensity { restarts: 100_000, within: greenroom_runtime::Span::from_secs(60) };
    (policies.defaults.intensity, policies.defaults.period) = (Some(patient.restarts), Some(patient.within));
    world.set_policies(policies);
    let runs = Runs::default();
    let spec = ChildSpec::new("counter").backoff(Duration::ZERO, Duration::ZERO).mailbox_bound(4);
    let front = world.root().spawn(spec, {
        let runs = Arc::clone(&runs);
        move |_| Counter(Arc::clone(&runs))
    });
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let front = front.clone();
            tokio::task::spawn_blocking(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(call(front, caller))
            })
        })
        .collect();
    let mut heard = Heard::default();
    for caller in callers {
        let part = caller.await.unwrap();
        heard.asks.extend(part.asks);
        heard.tells.extend(part.tells);
    }
    front.stop(Duration::from_secs(60)).await;

    let runs = std::mem::take(&mut *runs.lock().unwrap());
    let ran = |id: u64| runs.get(&id).copied().unwrap_or(0);
    for (id, answer) in heard.asks {
        match answer {
            Ok(answer) => assert_eq!((answer, ran(id)), (id, 1)),
            Err(AskError::Restarted) => assert!(ran(id) <= 1),
            Err(AskError::Unavailable) => assert_eq!(ran(id), 0),
            Err(other) => panic!("{id}: {other}"),
        }
    }
    for (id, told) in heard.tells {
        let most = u32::from(told.is_ok());
        assert!(ran(id) <= most, "{id}: {told:?}, ran {} times", ran(id));
    }
    assert!(runs.len() > 1000 && front.births() > 20, "a storm in a teacup");
    assert_eq!((front.in_flight(), front.queue_depth()), (0, 0), "every place is free again");
    world.finish().await;
}
