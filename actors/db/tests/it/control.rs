//! Control acts, and the states that others keep here.

use greenroom_db::*;
use greenroom_model::write::*;
use greenroom_model::*;
use serde_json::{Value, json};

use crate::both;
use crate::world::World;

both!(
    the_same_key_gives_the_first_act,
    a_key_stands_for_one_act,
    acts_are_kept_as_long_as_is_said,
    an_act_is_answered_once,
    workers_connect_pause_and_go,
    states_are_kept,
);

fn ask(world: &World, key: Option<&str>) -> Op {
    Op::AskControl(Box::new(NewControl {
        id: world.id(),
        identity: "ann".into(),
        key: key.map(Into::into),
        target: ControlTarget::Build(BuildId(7)),
        action: "stop".into(),
        params: json!({"reason": "bored"}),
        came_from: Some("192.0.2.7".into()),
    }))
}

fn act(outcome: Outcome) -> ControlAct {
    match outcome {
        Outcome::Control(act) => (*act).clone(),
        other => panic!("{other:?}"),
    }
}

async fn the_same_key_gives_the_first_act(world: World) {
    let first = act(world.attempt(ask(&world, Some("k"))).await.unwrap());
    let answer = ControlAnswer::Done(json!(3));
    world.run(vec![Op::AnswerControl { act: first.id, answer: answer.clone() }]).await;
    let again = act(world.attempt(ask(&world, Some("k"))).await.unwrap());
    assert_eq!((again.id, again.answer), (first.id, Some(answer)));
    assert_ne!(act(world.attempt(ask(&world, None)).await.unwrap()).id, first.id);
    assert_ne!(act(world.attempt(ask(&world, None)).await.unwrap()).id, first.id);
    let both = vec![world.write(vec![ask(&world, Some("n"))]), world.write(vec![ask(&world, Some("n"))])];
    let both = world.commit_together(both).await;
    let ids: Vec<_> = both.into_iter().map(|a| act(a.unwrap().outcomes.remove(0)).id).collect();
    assert_eq!(ids[0], ids[1]);
    assert_eq!(world.topics().iter().filter(|t| *t == "control/builds/7/stop").count(), 4);
}

async fn a_key_stands_for_one_act(world: World) {
    world.run(vec![ask(&world, Some("k"))]).await;
    let Op::AskControl(first) = ask(&world, Some("k")) else { panic!("it asks") };
    let others = [
        NewControl { action: "rebuild".into(), ..(*first).clone() },
        NewControl { target: ControlTarget::Build(BuildId(8)), ..(*first).clone() },
        NewControl { params: json!({"reason": "tired"}), ..(*first).clone() },
    ];
    for other in others {
        let refused = world.attempt(Op::AskControl(Box::new(NewControl { id: world.id(), ..other }))).await;
        assert_eq!(refused.err(), Some(Refusal::KeyUsed("k".into())));
    }
    // Somebody else's keys are their own.
    let bob = NewControl { identity: "bob".into(), action: "rebuild".into(), id: world.id(), ..*first };
    world.run(vec![Op::AskControl(Box::new(bob))]).await;
}

async fn removed(world: &World, what: Remove) -> Removed {
    world.writer.send(Remove { at: world.write(vec![]).at, ..what }).await.unwrap().unwrap()
}

async fn acts_are_kept_as_long_as_is_said(world: World) {
    let answered = act(world.attempt(ask(&world, Some("k"))).await.unwrap());
    let open = act(world.attempt(ask(&world, None)).await.unwrap());
    world.run(vec![Op::AnswerControl { act: answered.id, answer: ControlAnswer::Done(Value::Null) }]).await;
    let remove = |before: i64| Remove { acts_before: Some(Timestamp(before)), ..Remove::default() };
    assert_eq!(removed(&world, remove(answered.requested_at.0)).await.acts, 0);
    assert_eq!(removed(&world, remove(answered.requested_at.0 + 1)).await.acts, 1);
    assert_eq!(removed(&world, remove(i64::MAX)).await.acts, 0, "what waits for its answer stays");
    assert_eq!(world.read(ControlActOf { act: answered.id }).await, None);
    assert!(world.read(ControlActOf { act: open.id }).await.is_some());
    // The key is free again.
    assert_ne!(act(world.attempt(ask(&world, Some("k"))).await.unwrap()).id, answered.id);
}

async fn an_act_is_answered_once(world: World) {
    let first = act(world.attempt(ask(&world, None)).await.unwrap());
    assert_eq!(world.read(OpenControlActs { limit: 9 }).await.len(), 1);
    let answer = |text: &str| Op::AnswerControl { act: first.id, answer: ControlAnswer::Failed(text.into()) };
    world.run(vec![answer("one")]).await;
    // Whoever carried it out a second time must not have an effect a second time.
    let twice = world.commit(world.write(vec![Op::Heartbeat, answer("two")])).await;
    assert!(matches!(twice, Err(WriteError::Refused(Refusal::Final(_)))), "{twice:?}");
    let stored = world.read(ControlActOf { act: first.id }).await.unwrap();
    assert_eq!(stored.answer, Some(ControlAnswer::Failed("one".into())));
    assert!(stored.answered_at.is_some());
    assert_eq!(world.read(OpenControlActs { limit: 9 }).await, []);
    assert_eq!(world.topics(), ["control/builds/7/stop", "control/acts/1/answered"]);
}

async fn workers_connect_pause_and_go(world: World) {
    world.configure().await;
    let worker = WorkerId(1);
    let info = WorkerInfo { admin: Some("ann".into()), ..Default::default() };
    let pause =
        |paused, reason: Option<&str>| Op::PauseWorker { worker, paused, reason: reason.map(Into::into) };
    world
        .run(vec![
            Op::ConnectWorker { worker, info: info.clone() },
            pause(true, Some("disk")),
            pause(true, Some("disk")),
            Op::SetWorkerGraceful { worker, graceful: true },
            pause(false, None),
            Op::DisconnectWorker { worker },
            Op::DisconnectWorker { worker },
        ])
        .await;
    let wanted = "connected state_updated state_updated state_updated disconnected";
    let words: Vec<_> = world.events().iter().map(|e| e.what.name.word()).collect();
    assert_eq!(words.join(" "), wanted);
    let stored = world.get::<Worker>(1).await;
    assert_eq!((&stored.info, stored.paused, stored.graceful), (&Some(info), false, true));
    assert!(stored.connected_to.is_empty());
    world.run(vec![Op::ConnectWorker { worker, info: WorkerInfo::default() }]).await;
    world.events();
    world.run(vec![Op::Heartbeat]).await;
    assert_eq!(world.topics(), Vec::<String>::new());
    world.run(vec![Op::StopMaster]).await;
    let wanted =
        ["workers/1/disconnected", "schedulers/1/updated", "changesources/1/updated", "masters/1/stopped"];
    assert_eq!(world.topics(), wanted, "it gives back its workers and its duties");
    assert!(!world.get::<Master>(1).await.active);
}

async fn states_are_kept(world: World) {
    world.configure().await;
    let (scheduler, source) = (SchedulerId(1), ChangeSourceId(1));
    assert_eq!(world.read(SchedulerStateOf { scheduler }).await, SchedulerState::default());
    assert_eq!(world.read(ChangeSourceStateOf { source }).await, Value::Null);
    assert_eq!(world.read(ListenerOf { name: "irc".into() }).await, None);
    let clock = world.snapshot(CurrentClock).await.clock;
    let state = |n: i64| SchedulerState { clock: Some(clock.clone()), pending: json!([n]) };
    let listener = ListenerRecord { clock: Some(clock.clone()), settings: json!({"a": 1}) };
    world
        .run(vec![
            Op::SaveScheduler { scheduler, state: state(1) },
            Op::SaveScheduler { scheduler, state: state(2) },
            Op::SaveChangeSource { source, state: json!({"main": "abc"}) },
            Op::SaveListener { name: "irc".into(), state: listener.clone() },
            Op::EnableScheduler { scheduler, enabled: false },
            Op::EnableScheduler { scheduler, enabled: false },
        ])
        .await;
    assert_eq!(world.read(SchedulerStateOf { scheduler }).await, state(2));
    assert_eq!(world.read(ChangeSourceStateOf { source }).await, json!({"main": "abc"}));
    assert_eq!(world.read(ListenerOf { name: "irc".into() }).await, Some(listener));
    assert_eq!(world.topics(), ["schedulers/1/updated"]);
    let answer = world.attempt(Op::SaveScheduler { scheduler: SchedulerId(9), state: state(1) }).await;
    assert!(matches!(answer, Err(Refusal::NotFound(_))), "{answer:?}");
}
