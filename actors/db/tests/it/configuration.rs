//! A configuration writes and announces only what differs.

use greenroom_model::write::*;
use greenroom_model::*;

use crate::both;
use crate::world::World;

both!(only_differences_are_announced, faults_leave_nothing);

fn configuration() -> Configuration {
    let builder = |name: &str, workers: &[&str]| ConfiguredBuilder {
        name: name.into(),
        project: Some("p".into()),
        workers: workers.iter().map(|w| (*w).into()).collect(),
        ..Default::default()
    };
    Configuration {
        builders: vec![builder("b1", &["w1"]), builder("b2", &["w1", "w2"])],
        workers: vec!["w1".into(), "w2".into()],
        schedulers: vec!["s1".into()],
        change_sources: vec!["c1".into()],
        projects: vec![("p".into(), Some("text".into()))],
    }
}

async fn configure(world: &World, configuration: Configuration) -> String {
    world.run(vec![Op::Configure(Box::new(configuration))]).await;
    world.topics().join(" ")
}

async fn only_differences_are_announced(world: World) {
    let wanted = "projects/1/update builders/1/started builders/2/started workers/1/state_updated \
        workers/2/state_updated schedulers/1/updated changesources/1/updated";
    assert_eq!(configure(&world, configuration()).await, wanted);
    assert_eq!(configure(&world, configuration()).await, "");
    let mut other = configuration();
    other.builders[1].tags = vec!["fast".into()];
    other.builders.remove(0);
    other.schedulers = vec!["s2".into()];
    let wanted = "builders/2/update builders/1/stopped workers/1/state_updated schedulers/2/updated schedulers/1/updated";
    assert_eq!(configure(&world, other).await, wanted);
    assert_eq!(world.get::<Builder>(1).await.masters, []);
    assert_eq!(world.get::<Scheduler>(1).await.master, None);
    let wanted = "builders/1/started builders/2/update workers/1/state_updated schedulers/1/updated schedulers/2/updated";
    assert_eq!(configure(&world, configuration()).await, wanted);
    let builder = world.get::<Builder>(1).await;
    assert_eq!(
        (builder.masters.as_slice(), builder.project),
        (&[world.store.master()][..], Some(ProjectId(1)))
    );
    let mut on: Vec<_> = world.get::<Worker>(1).await.configured_on.iter().map(|(_, b)| b.0).collect();
    on.sort_unstable();
    assert_eq!(on, [1, 2]);
}

async fn faults_leave_nothing(world: World) {
    let mut twice = configuration();
    twice.workers.push("w1".into());
    let mut unknown = configuration();
    unknown.builders[1].workers.push("w9".into());
    let mut project = configuration();
    project.builders[0].project = Some("q".into());
    for wrong in [twice, unknown, project] {
        let answer = world.attempt(Op::Configure(Box::new(wrong))).await;
        assert!(answer.is_err(), "{answer:?}");
    }
    assert_eq!(world.topics(), Vec::<String>::new());
    assert_eq!(world.list::<Builder>(Query::default()).await.total, 0);
    assert_eq!(world.list::<Project>(Query::default()).await.total, 0);
}
