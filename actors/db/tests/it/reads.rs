//! Reads: queries say the same as a filter over the entities; snapshots for caches and recovery.

use std::cmp::Ordering;

use greenroom_db::*;
use greenroom_model::query::{Compare, FieldType};
use greenroom_model::*;

use crate::both;
use crate::world::World;

both!(
    every_field_of_every_resource_is_filtered_alike,
    pages_are_cut_from_a_total_order,
    times_are_compared_by_the_second,
    nested_fields_are_searched,
    a_cache_begins_with_what_matters,
    unfinished_builds_come_with_all_they_need,
);

/// Builds in several states, changes, a patch, logs.
async fn fill(world: &World) {
    world.configure().await;
    for (n, results) in
        [Some(Results::Success), Some(Results::Failure), None, Some(Results::Retry)].iter().enumerate()
    {
        world.advance(1);
        let origin = greenroom_model::write::ChangeOrigin::Manual;
        let mut change = crate::world::change(world.id(), origin, &format!("r{n}"));
        change.branch = (n % 2 == 0).then(|| "main".into());
        world.run(vec![Op::AddChange(Box::new(change))]).await;
        let (_, requests) = world.submit(&[1, 2]).await;
        let build = world.start_build(requests[n % 2]).await;
        let step = world.add_step(build, 0).await;
        let log = world.id();
        world
            .run(vec![
                Op::StartStep { step, state_string: format!("run {n}") },
                Op::AddLog { id: log, step, name: format!("log{n}"), kind: LogKind::Stdio },
                Op::GrowLog { log, num_lines: n as i64 + 1 },
            ])
            .await;
        if let Some(results) = results {
            world.finish_build(build, *results).await.unwrap();
        }
    }
}

/// What a filter says, told again in the plainest way.
fn plain(field: &FieldValue, compare: Compare, with: &FieldValue) -> bool {
    let key = |v: &FieldValue| match v {
        FieldValue::Null | FieldValue::List(_) => (0, 0, String::new()),
        FieldValue::Bool(b) => (1, i64::from(*b), String::new()),
        FieldValue::Int(i) => (1, *i, String::new()),
        FieldValue::Time(t) => (1, t.seconds(), String::new()),
        FieldValue::Text(t) => (2, 0, t.clone()),
    };
    let order = key(field).cmp(&key(with));
    let null = *field == FieldValue::Null;
    match compare {
        Compare::Eq => order == Ordering::Equal,
        Compare::Ne => order != Ordering::Equal,
        Compare::Lt => !null && order == Ordering::Less,
        Compare::Le => !null && order != Ordering::Greater,
        Compare::Gt => !null && order == Ordering::Greater,
        Compare::Ge => !null && order != Ordering::Less,
        Compare::Contains => match (field, with) {
            (FieldValue::Text(text), FieldValue::Text(part)) => text.contains(part.as_str()),
            _ => false,
        },
    }
}

async fn check<E: Stored>(world: &World) -> usize {
    use Compare::*;
    let all = world.list::<E>(Query::default()).await.items;
    let mut checked = 0;
    for field in E::RESOURCE.fields().iter().filter(|f| f.ty != FieldType::Nested) {
        let values: Vec<FieldValue> = all.iter().map(|e| e.field(field.name)).collect();
        for value in values.iter().filter(|v| **v != FieldValue::Null) {
            for compare in [Eq, Ne, Lt, Le, Gt, Ge, Contains] {
                if compare == Contains && field.ty != FieldType::Text {
                    continue;
                }
                let filter = Filter { field: field.name, compare, values: vec![value.clone()] };
                let found =
                    world.list::<E>(Query { filters: vec![filter.clone()], ..Default::default() }).await;
                let found: Vec<i64> = found.items.iter().map(|e| e.id()).collect();
                let mut wanted: Vec<i64> = all
                    .iter()
                    .filter(|e| plain(&e.field(field.name), compare, value))
                    .map(|e| e.id())
                    .collect();
                let mut sorted = found.clone();
                sorted.sort_unstable();
                wanted.sort_unstable();
                assert_eq!(sorted, wanted, "{} {filter:?}", E::RESOURCE.plural());
                checked += 1;
            }
        }
        let both: Vec<FieldValue> =
            values.iter().filter(|v| **v != FieldValue::Null).take(2).cloned().collect();
        if !both.is_empty() {
            let filter = |compare| Filter { field: field.name, compare, values: both.clone() };
            let count = |compare| {
                let query = Query { filters: vec![filter(compare)], ..Default::default() };
                async move { world.list::<E>(query).await.total }
            };
            assert_eq!(count(Eq).await + count(Ne).await, all.len() as u64, "{}", field.name);
        }
    }
    checked
}

async fn every_field_of_every_resource_is_filtered_alike(world: World) {
    fill(&world).await;
    let checked = [
        check::<Master>(&world).await,
        check::<Builder>(&world).await,
        check::<Worker>(&world).await,
        check::<Scheduler>(&world).await,
        check::<ChangeSource>(&world).await,
        check::<Project>(&world).await,
        check::<Change>(&world).await,
        check::<SourceStamp>(&world).await,
        check::<Buildset>(&world).await,
        check::<BuildRequest>(&world).await,
        check::<Build>(&world).await,
        check::<Step>(&world).await,
        check::<Log>(&world).await,
    ];
    assert!(checked.iter().all(|n| *n >= 6), "{checked:?}");
}

async fn pages_are_cut_from_a_total_order(world: World) {
    fill(&world).await;
    let query = || Query::default().order_by("results", true).order_by("builderid", false);
    let all = world.list::<BuildRequest>(query()).await;
    assert_eq!((all.items.len(), all.total), (8, 8));
    let keys: Vec<_> = all
        .items
        .iter()
        .map(|r| (std::cmp::Reverse(r.results.map_or(-1, |r| r.code())), r.builder, r.id))
        .collect();
    assert!(keys.is_sorted(), "{keys:?}");
    let mut pieces = Vec::new();
    for offset in [0, 3, 6] {
        let page = world.list::<BuildRequest>(Query { offset, ..query().limit(3) }).await;
        assert_eq!(page.total, 8);
        pieces.extend(page.items);
    }
    assert_eq!(pieces, all.items);
    let page = world.list::<BuildRequest>(Query { offset: 20, ..query() }).await;
    assert_eq!((page.items.len(), page.total), (0, 8));
    // Nulls come first.
    let builds = world.list::<Build>(Query::default().order_by("complete_at", false)).await.items;
    assert_eq!(builds[0].complete_at, None);
    let ids: Vec<i64> = world.list::<Build>(Query::default()).await.items.iter().map(|b| b.id.0).collect();
    assert_eq!(ids, [1, 2, 3, 4]);
}

async fn times_are_compared_by_the_second(world: World) {
    world.configure().await;
    let mut write = world.write(vec![Op::AddBuildset(Box::new(world.new_buildset(&[])))]);
    write.at = Timestamp(5_700_000);
    world.commit(write).await.unwrap();
    let count = |compare, seconds: i64, micros: i64| {
        let values = vec![FieldValue::Time(Timestamp(seconds * 1_000_000 + micros))];
        let filter = Filter { field: "submitted_at", compare, values };
        let query = Query { filters: vec![filter], ..Default::default() };
        let world = &world;
        async move { world.list::<Buildset>(query).await.total }
    };
    use Compare::*;
    for (compare, seconds, wanted) in [
        (Eq, 5, 1),
        (Eq, 6, 0),
        (Ne, 5, 0),
        (Lt, 5, 0),
        (Lt, 6, 1),
        (Le, 5, 1),
        (Le, 4, 0),
        (Gt, 5, 0),
        (Gt, 4, 1),
        (Ge, 5, 1),
        (Ge, 6, 0),
    ] {
        for micros in [0, 999_999] {
            assert_eq!(count(compare, seconds, micros).await, wanted, "{compare:?} {seconds}");
        }
    }
}

async fn nested_fields_are_searched(world: World) {
    let builder = |name: &str, tags: &[&str]| greenroom_model::write::ConfiguredBuilder {
        name: name.into(),
        tags: tags.iter().map(|t| (*t).into()).collect(),
        ..Default::default()
    };
    let configuration = greenroom_model::write::Configuration {
        builders: vec![builder("a", &["x", "y"]), builder("b", &["y"]), builder("c", &[])],
        ..Default::default()
    };
    world.run(vec![Op::Configure(Box::new(configuration))]).await;
    let filter = |tag: &str| Filter { field: "tags", compare: Compare::Contains, values: vec![tag.into()] };
    let names = |query: Query| {
        let world = &world;
        async move {
            let page = world.list::<Builder>(query).await;
            (page.items.iter().map(|b| b.name.clone()).collect::<String>(), page.total)
        }
    };
    let tagged = |tag: &str| Query { filters: vec![filter(tag)], ..Default::default() };
    assert_eq!(names(tagged("y")).await, ("ab".into(), 2));
    assert_eq!(names(tagged("x").eq("name", "b")).await, (String::new(), 0));
    assert_eq!(names(tagged("y").order_by("name", true).limit(1)).await, ("b".into(), 2));
    // A field that no column holds is null everywhere.
    assert_eq!(names(Query::default().eq("description_format", "rst")).await.1, 0);
}

async fn a_cache_begins_with_what_matters(world: World) {
    fill(&world).await;
    let hot = world.snapshot(LoadHot { builds: 2, changes: 2, buildsets: 1, requests: 1 }).await;
    assert_eq!(hot.clock, world.snapshot(CurrentClock).await.clock);
    let hot = hot.value;
    // The build 3 runs; 4 and 2 are the newest others.
    assert_eq!(hot.builds.iter().map(|b| b.id.0).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(hot.changes.iter().map(|c| c.id.0).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(hot.steps.iter().map(|s| s.build.0).collect::<Vec<_>>(), [3]);
    assert_eq!(hot.logs.len(), 1);
    let open = hot.requests.iter().filter(|r| r.complete_at.is_none()).count();
    assert_eq!((open, hot.requests.len()), (6, 7));
    assert_eq!((hot.buildsets.len(), hot.masters.len(), hot.builders.len(), hot.workers.len()), (4, 1, 2, 2));
    assert_eq!((hot.schedulers.len(), hot.change_sources.len(), hot.projects.len()), (1, 1, 1));
    // What a cache holds is what single reads give.
    for set in &hot.buildsets {
        assert_eq!(world.get::<Buildset>(set.id.0).await, *set);
        assert_eq!(set.sourcestamps.len(), 1);
    }
}

async fn unfinished_builds_come_with_all_they_need(world: World) {
    fill(&world).await;
    let properties = Properties::from([("p".to_owned(), Property(1.into(), "t".into()))]);
    world.run(vec![Op::SetProperties { build: BuildId(3), properties: properties.clone() }]).await;
    let unfinished = world.read(UnfinishedBuilds { master: world.store.master() }).await;
    assert_eq!(unfinished.len(), 1);
    let one = &unfinished[0];
    assert_eq!((one.build.id, one.request.id, &one.properties), (BuildId(3), one.build.request, &properties));
    assert_eq!((one.steps.len(), one.logs.len(), one.logs[0].step), (1, 1, one.steps[0].id));
    assert_eq!(world.read(UnfinishedBuilds { master: MasterId(9) }).await, []);
}
