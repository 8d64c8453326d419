//! Which changes are one, and source stamps.

use greenroom_model::write::*;
use greenroom_model::*;

use crate::both;
use crate::world::{World, change};

both!(
    a_hook_is_known_by_its_delivery,
    a_poll_is_known_by_its_move,
    a_hook_and_a_poller_mean_one_change_until_the_tip_moves,
    without_a_revision_nothing_is_merged,
    by_hand_nothing_is_merged,
    a_change_names_the_one_before_it,
    equal_source_stamps_are_one,
    builds_and_changes_find_each_other,
);

fn hook(delivery: Option<&str>) -> ChangeOrigin {
    ChangeOrigin::Hook { source: "base".into(), delivery: delivery.map(Into::into) }
}

fn poll(old: &str, new: &str) -> ChangeOrigin {
    ChangeOrigin::Poll { source: "p".into(), old_tip: Some(old.into()), new_tip: new.into() }
}

/// Adds a change; answers its id and whether it is new.
async fn add(world: &World, origin: ChangeOrigin, revision: &str) -> (i64, bool) {
    match world.attempt(Op::AddChange(Box::new(change(world.id(), origin, revision)))).await.unwrap() {
        Outcome::Change { id, new } => (id.0, new),
        other => panic!("{other:?}"),
    }
}

async fn a_hook_is_known_by_its_delivery(world: World) {
    let (first, new) = add(&world, hook(Some("d1")), "a").await;
    assert!(new);
    assert_eq!(add(&world, hook(Some("d1")), "a").await, (first, false));
    let other = Op::AddChange(Box::new(change(world.id(), hook(Some("d1")), "b")));
    assert_eq!(world.attempt(other).await.err(), Some(Refusal::KeyUsed("d1".into())));
    let (second, new) = add(&world, hook(Some("d2")), "a").await;
    assert!(new && second != first);
    assert!(add(&world, hook(None), "a").await.1);
    assert_eq!(world.topics().len(), 3);
    // Two at once are one, too.
    let twice = (0..2)
        .map(|_| Op::AddChange(Box::new(change(world.id(), hook(Some("d9")), "z"))))
        .map(|op| world.write(vec![op]))
        .collect();
    let answers = world.commit_together(twice).await;
    let outcomes: Vec<_> = answers.into_iter().map(|a| a.unwrap().outcomes.remove(0)).collect();
    let news = outcomes.iter().filter(|o| matches!(o, Outcome::Change { new: true, .. })).count();
    assert_eq!(news, 1, "{outcomes:?}");
    let others = ["x", "y"]
        .map(|revision| Op::AddChange(Box::new(change(world.id(), hook(Some("d10")), revision))))
        .map(|op| world.write(vec![op]));
    let answers = world.commit_together(others.into()).await;
    let refused =
        answers.iter().filter(|it| matches!(it, Err(greenroom_db::WriteError::Refused(Refusal::KeyUsed(_)))));
    assert_eq!(refused.count(), 1, "{answers:?}");
}

async fn a_poll_is_known_by_its_move(world: World) {
    let (first, _) = add(&world, poll("0", "a"), "a").await;
    assert_eq!(add(&world, poll("0", "a"), "a").await, (first, false));
    assert!(add(&world, poll("a", "b"), "b").await.1);
    // Force-pushed back: the branch is at an old commit again, by another move.
    assert!(add(&world, poll("b", "a"), "a").await.1);
}

async fn a_hook_and_a_poller_mean_one_change_until_the_tip_moves(world: World) {
    let (first, _) = add(&world, hook(Some("d1")), "a").await;
    assert_eq!(add(&world, poll("0", "a"), "a").await, (first, false));
    // The merged move is remembered.
    assert!(add(&world, poll("a", "b"), "b").await.1);
    assert_eq!(add(&world, poll("0", "a"), "a").await, (first, false));
    let (third, new) = add(&world, hook(Some("d2")), "a").await;
    assert!(new && third != first);
    let (fourth, _) = add(&world, poll("c", "d"), "d").await;
    assert_eq!(add(&world, hook(Some("d3")), "d").await, (fourth, false));
}

async fn without_a_revision_nothing_is_merged(world: World) {
    assert!(add(&world, hook(Some("d1")), "").await.1);
    assert!(add(&world, poll("0", "a"), "").await.1);
}

async fn by_hand_nothing_is_merged(world: World) {
    assert!(add(&world, hook(Some("d1")), "a").await.1);
    assert!(add(&world, ChangeOrigin::Manual, "a").await.1);
    assert!(add(&world, ChangeOrigin::Manual, "a").await.1);
    assert!(add(&world, poll("0", "a"), "a").await.1);
}

async fn a_change_names_the_one_before_it(world: World) {
    let (first, _) = add(&world, ChangeOrigin::Manual, "a").await;
    let (second, _) = add(&world, ChangeOrigin::Manual, "b").await;
    let mut other = change(world.id(), ChangeOrigin::Manual, "c");
    other.branch = None;
    let other_id = other.id;
    world.run(vec![Op::AddChange(Box::new(other))]).await;
    assert_eq!(world.get::<Change>(first).await.parents, []);
    assert_eq!(world.get::<Change>(second).await.parents, [ChangeId(first)]);
    assert_eq!(world.get::<Change>(other_id.0).await.parents, []);
    // What the event said is what is stored.
    for event in world.events() {
        let Record::Change(announced) = event.what.record else { panic!("not a change") };
        assert_eq!(world.get::<Change>(announced.id.0).await, announced);
    }
}

async fn equal_source_stamps_are_one(world: World) {
    world.configure().await;
    let patch = |body: &str| NewPatch {
        level: 1,
        subdir: String::new(),
        author: "a".into(),
        comment: "c".into(),
        body: body.into(),
    };
    let mut ids = Vec::new();
    for body in [None, Some("x"), None, Some("x"), Some("y")] {
        let mut new = world.new_buildset(&[]);
        let stamp =
            NewSourceStamp { revision: Some("r".into()), patch: body.map(patch), ..Default::default() };
        new.sourcestamps = vec![StampRef::New(stamp)];
        let id = new.id;
        world.run(vec![Op::AddBuildset(Box::new(new))]).await;
        let set = world.get::<Buildset>(id.0).await;
        assert_eq!(set.sourcestamps[0].patch.as_ref().map(|p| p.body.as_str()), body);
        ids.push(set.sourcestamps[0].id.0);
    }
    assert_eq!(ids, [1, 2, 1, 2, 3]);
    let mut new = world.new_buildset(&[]);
    new.sourcestamps = vec![StampRef::Existing(SourceStampId(2)), StampRef::Existing(SourceStampId(3))];
    let answer = world.attempt(Op::AddBuildset(Box::new(new.clone()))).await;
    assert!(matches!(answer, Err(Refusal::Invalid(_))), "{answer:?}");
    new.sourcestamps = vec![StampRef::Existing(SourceStampId(77))];
    let answer = world.attempt(Op::AddBuildset(Box::new(new))).await;
    assert!(matches!(answer, Err(Refusal::NotFound(_))), "{answer:?}");
}

async fn builds_and_changes_find_each_other(world: World) {
    world.configure().await;
    let (id, _) = add(&world, ChangeOrigin::Manual, "a").await;
    let stamp = world.get::<Change>(id).await.sourcestamp.id;
    let mut new = world.new_buildset(&[1, 2]);
    new.sourcestamps = vec![StampRef::Existing(stamp)];
    let requests: Vec<_> = new.requests.iter().map(|(id, _)| *id).collect();
    world.run(vec![Op::AddBuildset(Box::new(new))]).await;
    let builds = [world.start_build(requests[0]).await, world.start_build(requests[1]).await];
    let found = world.read(greenroom_db::BuildsOfChange { change: ChangeId(id), limit: 10 }).await;
    assert_eq!(found.iter().map(|b| b.id).collect::<Vec<_>>(), [builds[1], builds[0]]);
    let found = world.read(greenroom_db::ChangesOfBuild { build: builds[0] }).await;
    assert_eq!(found.iter().map(|c| c.id.0).collect::<Vec<_>>(), [id]);
    let (_, requests) = world.submit(&[1]).await;
    let other = world.start_build(requests[0]).await;
    assert_eq!(world.read(greenroom_db::ChangesOfBuild { build: other }).await, []);
}
