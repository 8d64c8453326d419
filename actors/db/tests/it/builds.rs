//! The life of a build: events, outcomes, refusals.

use greenroom_model::*;

use crate::both;
use crate::world::World;

both!(
    a_small_build_is_announced_in_the_contracts_order,
    a_request_is_claimed_once,
    a_lost_build_is_repeated_and_then_gives_up,
    what_is_open_ends_with_the_build,
    steps_that_end_with_their_build_say_how,
    a_finished_build_never_changes,
    a_buildset_completes_with_its_last_request,
    a_free_request_can_be_cancelled,
    properties_are_announced_when_they_differ,
    slugs_are_unique_in_a_step,
    build_numbers_count_by_builder,
    versions_rise_by_one_with_each_event,
);

async fn a_small_build_is_announced_in_the_contracts_order(world: World) {
    world.configure().await;
    let (_, requests) = world.submit(&[1]).await;
    let build = world.start_build(requests[0]).await;
    let step = world.add_step(build, 0).await;
    let log = world.id();
    world
        .run(vec![
            Op::StartStep { step, state_string: "running".into() },
            Op::SetStepCommand { step, command: "c1".into() },
            Op::AddLog { id: log, step, name: "stdio".into(), kind: LogKind::Stdio },
            Op::GrowLog { log, num_lines: 3 },
            Op::GrowLog { log, num_lines: 2 },
            Op::FinishLog { log, num_lines: 5 },
            Op::DescribeStep { step, state_string: Some("ran".into()), urls: vec![] },
            Op::FinishStep { step, results: Results::Success, state_string: "ran".into(), hidden: false },
            Op::DescribeBuild { build, state_string: "nearly".into() },
        ])
        .await;
    world.finish_build(build, Results::Success).await.unwrap();
    let wanted = "buildsets/1/new buildsets/1/builders/1/buildrequests/1/new buildsets/1/builders/1/buildrequests/1/claimed \
        builders/1/builds/1/new builds/1/steps/1/new builds/1/steps/1/started logs/1/new logs/1/append logs/1/finished \
        builds/1/steps/1/updated builds/1/steps/1/finished builders/1/builds/1/update builders/1/builds/1/finished \
        buildsets/1/builders/1/buildrequests/1/complete buildsets/1/complete";
    assert_eq!(world.topics().join(" "), wanted);
    let log = world.get::<Log>(1).await;
    assert_eq!((log.num_lines, log.complete), (5, true));
    assert_eq!(world.get::<Step>(1).await.command.as_deref(), Some("c1"));
    assert_eq!(world.get::<Buildset>(1).await.results, Some(Results::Success));
}

async fn a_request_is_claimed_once(world: World) {
    world.configure().await;
    let (_, requests) = world.submit(&[1]).await;
    let writes = (0..5).map(|_| world.write(vec![world.start_op(requests[0]).1])).collect();
    let answers = world.commit_together(writes).await;
    assert_eq!(answers.iter().filter(|a| a.is_ok()).count(), 1);
    let lost = Err(greenroom_db::WriteError::Refused(Refusal::ClaimLost));
    assert_eq!(answers.iter().filter(|a| **a == lost).count(), 4);
    assert_eq!(world.list::<Build>(Query::default()).await.total, 1);
    let request = world.get::<BuildRequest>(requests[0].0).await;
    assert_eq!((request.claimed_by, request.version), (Some(world.store.master()), 2));
}

async fn a_lost_build_is_repeated_and_then_gives_up(world: World) {
    world.configure().await;
    let (set, requests) = world.submit(&[1]).await;
    for retries in 1..=MAX_RETRIES {
        let build = world.start_build(requests[0]).await;
        world.events();
        world.finish_build(build, Results::Retry).await.unwrap();
        let wanted =
            format!("builders/1/builds/{retries}/finished buildsets/1/builders/1/buildrequests/1/unclaimed");
        assert_eq!(world.topics().join(" "), wanted);
        let request = world.get::<BuildRequest>(requests[0].0).await;
        assert_eq!((request.retries, request.claimed_at, request.complete_at), (retries, None, None));
        assert_eq!(world.get::<Build>(build.0).await.results, Some(Results::Retry));
    }
    let build = world.start_build(requests[0]).await;
    world.finish_build(build, Results::Retry).await.unwrap();
    assert_eq!(world.get::<Build>(build.0).await.results, Some(Results::Exception));
    assert_eq!(world.get::<BuildRequest>(requests[0].0).await.results, Some(Results::Exception));
    assert_eq!(world.get::<Buildset>(set.0).await.results, Some(Results::Exception));
}

async fn what_is_open_ends_with_the_build(world: World) {
    world.configure().await;
    let (_, requests) = world.submit(&[1]).await;
    let build = world.start_build(requests[0]).await;
    let (first, second) = (world.add_step(build, 0).await, world.add_step(build, 1).await);
    let log = world.id();
    world.run(vec![Op::AddLog { id: log, step: first, name: "stdio".into(), kind: LogKind::Stdio }]).await;
    world.run(vec![Op::GrowLog { log, num_lines: 7 }]).await;
    world.events();
    world.finish_build(build, Results::Cancelled).await.unwrap();
    let wanted = "logs/1/finished builds/1/steps/1/finished builds/1/steps/2/finished builders/1/builds/1/finished \
        buildsets/1/builders/1/buildrequests/1/complete buildsets/1/complete";
    assert_eq!(world.topics().join(" "), wanted);
    assert_eq!(world.get::<Step>(second.0).await.results, Some(Results::Cancelled));
    let log = world.get::<Log>(log.0).await;
    assert_eq!((log.complete, log.num_lines), (true, 7));
}

async fn steps_that_end_with_their_build_say_how(world: World) {
    world.configure().await;
    for (results, text) in
        [(Results::Retry, "lost"), (Results::Cancelled, "cancelled"), (Results::Exception, "exception")]
    {
        let (_, requests) = world.submit(&[1]).await;
        let build = world.start_build(requests[0]).await;
        let (done, open) = (world.add_step(build, 0).await, world.add_step(build, 1).await);
        let (state_string, hidden) = (String::from("compiled"), false);
        world.run(vec![Op::FinishStep { step: done, results: Results::Success, state_string, hidden }]).await;
        world.run(vec![Op::StartStep { step: open, state_string: "running".into() }]).await;
        world.finish_build(build, results).await.unwrap();
        assert_eq!(world.get::<Step>(open.0).await.state_string, text);
        assert_eq!(world.get::<Step>(done.0).await.state_string, "compiled");
    }
}

async fn a_finished_build_never_changes(world: World) {
    world.configure().await;
    let (_, requests) = world.submit(&[1]).await;
    let build = world.start_build(requests[0]).await;
    let step = world.add_step(build, 0).await;
    let log = world.id();
    world.run(vec![Op::AddLog { id: log, step, name: "a".into(), kind: LogKind::Text }]).await;
    world.finish_build(build, Results::Success).await.unwrap();
    world.events();
    let text = String::from("x");
    for op in [
        Op::FinishBuild { build, results: Results::Failure, state_string: text.clone() },
        Op::DescribeBuild { build, state_string: text.clone() },
        Op::SetProperties { build, properties: Properties::new() },
        Op::AddStep { id: world.id(), build, number: 5, name: text.clone(), hidden: false },
        Op::StartStep { step, state_string: text.clone() },
        Op::DescribeStep { step, state_string: None, urls: vec![] },
        Op::FinishStep { step, results: Results::Failure, state_string: text.clone(), hidden: false },
        Op::AddLog { id: world.id(), step, name: text.clone(), kind: LogKind::Text },
        Op::FinishLog { log, num_lines: 9 },
        Op::CancelRequest { request: requests[0] },
    ] {
        let answer = world.attempt(op.clone()).await;
        assert!(matches!(answer, Err(Refusal::Final(_))), "{op:?}: {answer:?}");
    }
    // A late announcement is no fault, and changes nothing.
    world.run(vec![Op::GrowLog { log, num_lines: 9 }]).await;
    assert_eq!(world.topics(), Vec::<String>::new());
    assert!(matches!(world.finish_build(BuildId(99), Results::Success).await, Err(Refusal::NotFound(_))));
}

async fn a_buildset_completes_with_its_last_request(world: World) {
    world.configure().await;
    let (set, requests) = world.submit(&[1, 2]).await;
    let first = world.start_build(requests[0]).await;
    world.finish_build(first, Results::Warnings).await.unwrap();
    assert_eq!(world.get::<Buildset>(set.0).await.complete_at, None);
    let second = world.start_build(requests[1]).await;
    world.finish_build(second, Results::Success).await.unwrap();
    assert_eq!(world.get::<Buildset>(set.0).await.results, Some(Results::Warnings));
    let empty = world.submit(&[]).await.0;
    assert_eq!(world.get::<Buildset>(empty.0).await.results, Some(Results::Success));
}

async fn a_free_request_can_be_cancelled(world: World) {
    world.configure().await;
    let (set, requests) = world.submit(&[1]).await;
    world.events();
    world.attempt(Op::CancelRequest { request: requests[0] }).await.unwrap();
    let wanted = "buildsets/1/builders/1/buildrequests/1/claimed buildsets/1/builders/1/buildrequests/1/complete \
        buildsets/1/complete";
    assert_eq!(world.topics().join(" "), wanted);
    assert_eq!(world.get::<Buildset>(set.0).await.results, Some(Results::Cancelled));
    assert_eq!(world.attempt(world.start_op(requests[0]).1).await, Err(Refusal::ClaimLost));
    let (_, requests) = world.submit(&[1]).await;
    world.start_build(requests[0]).await;
    assert_eq!(world.attempt(Op::CancelRequest { request: requests[0] }).await, Err(Refusal::ClaimLost));
}

async fn properties_are_announced_when_they_differ(world: World) {
    world.configure().await;
    let (_, requests) = world.submit(&[1]).await;
    let build = world.start_build(requests[0]).await;
    world.events();
    let one = |name: &str, value: i64| {
        let properties = Properties::from([(name.to_owned(), Property(value.into(), "test".into()))]);
        Op::SetProperties { build, properties }
    };
    world.run(vec![one("a", 1), one("b", 2), one("a", 1), one("a", 3)]).await;
    let events = world.events();
    let changed: Vec<_> = events
        .iter()
        .map(|e| match &e.what.record {
            Record::BuildProperties(p) => (p.changed.keys().next().unwrap().as_str(), p.version),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(changed, [("a", 2), ("b", 3), ("a", 4)]);
    let read = world.read(greenroom_db::BuildPropertiesOf { builds: vec![build, BuildId(99)] }).await;
    assert_eq!(read.len(), 1);
    assert_eq!((&read[&build]["a"].0, &read[&build]["b"].0), (&3.into(), &2.into()));
    let large = Properties::from([("l".to_owned(), Property("x".repeat(70_000).into(), "test".into()))]);
    let answer = world.attempt(Op::SetProperties { build, properties: large }).await;
    assert!(matches!(answer, Err(Refusal::Invalid(_))), "{answer:?}");
}

async fn slugs_are_unique_in_a_step(world: World) {
    world.configure().await;
    let (_, requests) = world.submit(&[1]).await;
    let build = world.start_build(requests[0]).await;
    let step = world.add_step(build, 0).await;
    for _ in 0..2 {
        let id = world.id();
        world.run(vec![Op::AddLog { id, step, name: "test log".into(), kind: LogKind::Text }]).await;
        world.run(vec![Op::FinishLog { log: id, num_lines: 0 }]).await;
    }
    let slugs: Vec<String> =
        world.list::<Log>(Query::default()).await.items.iter().map(|l| l.slug.clone()).collect();
    assert_eq!(slugs, ["test_log", "test_log_2"]);
}

async fn build_numbers_count_by_builder(world: World) {
    world.configure().await;
    let mut numbers = Vec::new();
    for builder in [1, 2, 1, 1, 2] {
        let (_, requests) = world.submit(&[builder]).await;
        let build = world.start_build(requests[0]).await;
        numbers.push(world.get::<Build>(build.0).await.number);
    }
    assert_eq!(numbers, [1, 1, 2, 3, 2]);
}

async fn versions_rise_by_one_with_each_event(world: World) {
    world.configure().await;
    for results in [Results::Success, Results::Retry, Results::Failure] {
        let (_, requests) = world.submit(&[1, 2]).await;
        for request in requests {
            let build = world.start_build(request).await;
            let step = world.add_step(build, 0).await;
            world.run(vec![Op::StartStep { step, state_string: "r".into() }]).await;
            world.run(vec![Op::DescribeBuild { build, state_string: "b".into() }]).await;
            world.finish_build(build, results).await.unwrap();
        }
    }
    let mut versions = std::collections::HashMap::new();
    let mut last = None;
    for event in world.events() {
        let version = versions.entry(event.what.record.entity()).or_insert(0);
        assert_eq!(event.what.record.version(), *version + 1, "{event:?}");
        *version += 1;
        assert!(last.is_none_or(|last| event.seq == last + 1), "{event:?} after {last:?}");
        last = Some(event.seq);
    }
    assert!(last.is_some());
}
