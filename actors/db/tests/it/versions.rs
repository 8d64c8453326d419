//! Each entity has a version, and each of its events brings the next one: so a reader of several masters' events sees what is missing.

use std::collections::{BTreeMap, BTreeSet};

use greenroom_db::*;
use greenroom_model::write::*;
use greenroom_model::*;
use serde_json::json;

use crate::both;
use crate::world::{START, World, change};

both!(every_event_brings_the_next_version_of_its_entity);

/// A bit of everything that entities go through.
async fn live(world: &World) {
    world.configure().await;
    for revision in ["abc", "def"] {
        let new = change(world.id(), ChangeOrigin::Manual, revision);
        world.run(vec![Op::AddChange(Box::new(new))]).await;
    }
    let worker = WorkerId(1);
    let scheduler = SchedulerId(1);
    world
        .run(vec![
            Op::ConnectWorker { worker, info: WorkerInfo::default() },
            Op::PauseWorker { worker, paused: true, reason: None },
            Op::PauseWorker { worker, paused: false, reason: None },
            Op::EnableScheduler { scheduler, enabled: false },
            Op::Claim(Duty::Scheduler(scheduler)),
            Op::Claim(Duty::ChangeSource(ChangeSourceId(1))),
            Op::Claim(Duty::Notifier { name: "team".into(), new: Some((world.id(), "irc".into())) }),
        ])
        .await;
    for results in [Results::Success, Results::Failure] {
        let (_, requests) = world.submit(&[1]).await;
        let build = world.start_build(requests[0]).await;
        let step = world.add_step(build, 0).await;
        let log: LogId = world.id();
        let job = Property(json!(7), "test".into());
        let properties = Properties::from([("job".to_owned(), job)]);
        world
            .run(vec![
                Op::StartStep { step, state_string: "runs".into() },
                Op::AddLog { id: log, step, name: "stdio".into(), kind: LogKind::Stdio },
                Op::GrowLog { log, num_lines: 3 },
                Op::SetProperties { build, properties },
                Op::DescribeBuild { build, state_string: "compiling".into() },
                Op::FinishLog { log, num_lines: 4 },
            ])
            .await;
        world.finish_build(build, results).await.unwrap();
        world.run(vec![Op::PinBuild { build, pinned: true, by: "ann".into() }]).await;
        world.run(vec![Op::PinBuild { build, pinned: false, by: "ann".into() }]).await;
    }
    let act = Op::AskControl(Box::new(NewControl {
        id: world.id(),
        identity: "ann".into(),
        key: None,
        target: ControlTarget::Worker(worker),
        action: "pause".into(),
        params: json!({}),
        came_from: None,
    }));
    let Some(Outcome::Control(act)) = world.run(vec![act]).await.pop() else { panic!("it was asked") };
    world.run(vec![Op::AnswerControl { act: act.id, answer: ControlAnswer::Done(json!(null)) }]).await;
    let delivery = world.id();
    let message = Op::AddDelivery(Box::new(NewDelivery {
        id: delivery,
        notifier: "team".into(),
        due_at: Timestamp(7),
        dedup_key: "k".into(),
        subject: "s".into(),
        build: None,
        notice: json!({}),
        silenced: None,
    }));
    let (due_at, reason) = (Timestamp(9), "not now".to_owned());
    let settle = Op::SettleDelivery {
        delivery,
        state: DeliveryState::Sent,
        attempted: true,
        target: None,
        reason: None,
    };
    world.run(vec![message, Op::RetryDelivery { delivery, due_at, reason }, settle]).await;
    let remove = Remove {
        builds: vec![BuildId(1)],
        changes: vec![ChangeId(1)],
        at: Timestamp::from_seconds(START),
        ..Remove::default()
    };
    let removed = world.writer.send(remove).await.unwrap().unwrap();
    assert_eq!((removed.builds, removed.changes), (1, 1), "{removed:?}");
    world.run(vec![Op::StopMaster]).await;
}

async fn every_event_brings_the_next_version_of_its_entity(world: World) {
    live(&world).await;
    let mut versions: BTreeMap<EntityKey, i64> = BTreeMap::new();
    let mut kinds = BTreeSet::new();
    for event in world.events() {
        let (entity, version) = (event.what.record.entity(), event.what.version());
        kinds.insert(entity.0);
        // What is configured was told before.
        let configured = ["masters", "workers", "schedulers", "changesources"].contains(&entity.0);
        let first = if configured { version - 1 } else { 0 };
        let known = versions.insert(entity, version).unwrap_or(first);
        assert_eq!(version, known + 1, "{}", event.what.topic());
    }
    let wanted = [
        "buildrequests",
        "builds",
        "buildsets",
        "changes",
        "changesources",
        "control",
        "deliveries",
        "logs",
        "masters",
        "notifiers",
        "schedulers",
        "steps",
        "workers",
    ];
    let lacking: Vec<_> = wanted.iter().filter(|kind| !kinds.contains(*kind)).collect();
    assert!(lacking.is_empty(), "no event of {lacking:?}, only of {kinds:?}");
}
