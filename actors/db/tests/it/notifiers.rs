//! Outboxes and records of notifiers.

use greenroom_model::write::*;
use greenroom_model::*;
use serde_json::{Value, json};

use crate::both;
use crate::world::World;

both!(
    a_notifier_is_claimed_and_given_back,
    a_message_is_added_once_by_its_key,
    what_is_settled_stays_so,
    the_record_is_pruned_by_kind_of_outcome,
);

fn claim(world: &World, kind: &str) -> Op {
    Op::Claim(Duty::Notifier { name: "team".into(), new: Some((world.id(), kind.into())) })
}

fn message(world: &World, key: &str, silenced: Option<&str>) -> (DeliveryId, Op) {
    let id = world.id();
    let new = NewDelivery {
        id,
        notifier: "team".into(),
        due_at: Timestamp(7),
        dedup_key: key.into(),
        subject: format!("about {key}"),
        build: Some(BuildId(3)),
        notice: json!({"about": key}),
        silenced: silenced.map(Into::into),
    };
    (id, Op::AddDelivery(Box::new(new)))
}

fn settle(delivery: DeliveryId, state: DeliveryState) -> Op {
    let (target, reason) = (Some("#b".to_owned()), None);
    Op::SettleDelivery { delivery, state, attempted: true, target, reason }
}

async fn deliveries(world: &World) -> Vec<(i64, DeliveryState)> {
    let query = Query::default().eq("notifier", "team").order_by("deliveryid", false);
    world.list::<Delivery>(query).await.items.iter().map(|it| (it.id.0, it.state)).collect()
}

async fn a_notifier_is_claimed_and_given_back(world: World) {
    world.run(vec![claim(&world, "irc")]).await;
    world.run(vec![claim(&world, "irc")]).await;
    let release = |name: &str| Op::Release(Duty::Notifier { name: name.into(), new: None });
    world.run(vec![claim(&world, "mail"), release("team")]).await;
    world.run(vec![release("nobody")]).await;
    let all = world.list::<Notifier>(Query::default()).await.items;
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].kind.as_str(), all[0].master), ("mail", None));
    assert_eq!(world.topics(), ["notifiers/1/new", "notifiers/1/updated", "notifiers/1/updated"]);
}

async fn a_message_is_added_once_by_its_key(world: World) {
    let (first, add) = message(&world, "a", None);
    world.run(vec![add, message(&world, "a", None).1]).await;
    world.run(vec![message(&world, "a", None).1, message(&world, "b", Some("why")).1]).await;
    let states: Vec<_> = deliveries(&world).await.into_iter().map(|it| it.1).collect();
    assert_eq!(states, [DeliveryState::Waiting, DeliveryState::Silenced]);
    let stored = world.get::<Delivery>(first.0).await;
    assert_eq!((stored.due_at, stored.notice.clone()), (Timestamp(7), json!({"about": "a"})));
}

async fn what_is_settled_stays_so(world: World) {
    let (id, add) = message(&world, "a", None);
    world.run(vec![add]).await;
    let retry = || Op::RetryDelivery { delivery: id, due_at: Timestamp(9), reason: "busy".into() };
    world.run(vec![retry()]).await;
    let stored = world.get::<Delivery>(id.0).await;
    assert_eq!((stored.attempts, stored.due_at, stored.reason.as_deref()), (1, Timestamp(9), Some("busy")));
    assert!(world.attempt(settle(id, DeliveryState::Waiting)).await.is_err());
    world.run(vec![settle(id, DeliveryState::Sent)]).await;
    world.run(vec![settle(id, DeliveryState::Failed), retry()]).await;
    let stored = world.get::<Delivery>(id.0).await;
    assert_eq!((stored.state, stored.attempts), (DeliveryState::Sent, 2));
    assert_eq!((stored.target.as_deref(), stored.notice.clone()), (Some("#b"), Value::Null));
    assert!(stored.settled_at.is_some());
    let topics = world.topics();
    let of_notifier = |name: &str| format!("notifiers/team/deliveries/{id}/{name}");
    assert_eq!(topics, [of_notifier("new"), of_notifier("updated"), of_notifier("settled")]);
}

async fn the_record_is_pruned_by_kind_of_outcome(world: World) {
    let mut sent = Vec::new();
    for n in 0..6 {
        let (id, add) = message(&world, &format!("s{n}"), None);
        world.run(vec![add, settle(id, DeliveryState::Sent)]).await;
        world.run(vec![message(&world, &format!("q{n}"), Some("why")).1]).await;
        sent.push(id.0);
    }
    let (waiting, add) = message(&world, "w", None);
    world.run(vec![add]).await;
    world.run(vec![Op::PruneDeliveries { notifier: "team".into(), keep: 2 }]).await;
    let left = deliveries(&world).await;
    let of = |state| left.iter().filter(|it| it.1 == state).map(|it| it.0).collect::<Vec<_>>();
    assert_eq!(of(DeliveryState::Sent), sent[4..]);
    assert_eq!(of(DeliveryState::Silenced).len(), 2);
    assert_eq!(of(DeliveryState::Waiting), [waiting.0]);
}
