//! Totals that are kept, pages of index ranges, and what surrounds a build.

use greenroom_db::*;
use greenroom_model::query::Compare;
use greenroom_model::write::*;
use greenroom_model::*;

use crate::both;
use crate::world::{START, World, change};

both!(
    totals_are_kept_exactly,
    lists_of_values_are_merged_in_order,
    what_surrounds_a_build_is_found,
    the_console_tells_builds_of_changes,
    histories_of_many_builders_are_those_of_each,
);

async fn built(world: &World, builder: i64, results: Results) -> BuildId {
    world.advance(1);
    let (_, requests) = world.submit(&[builder]).await;
    let build = world.start_build(requests[0]).await;
    world.finish_build(build, results).await.unwrap();
    build
}

/// The total of a page of one against how many there are.
async fn checked<E: Stored>(world: &World, query: Query) {
    let all = world.list::<E>(query.clone()).await.items.len() as u64;
    let page = world.list::<E>(query.clone().limit(1)).await;
    assert_eq!((page.total, page.at_least), (all, false), "{} {query:?}", E::RESOURCE.plural());
}

async fn totals_are_kept_exactly(world: World) {
    world.configure().await;
    let mut builds = Vec::new();
    for n in 0..12 {
        let results = if n % 3 == 0 { Results::Failure } else { Results::Success };
        builds.push(built(&world, 1 + n % 2, results).await);
        let new = change(world.id(), ChangeOrigin::Manual, &format!("r{n}"));
        world.run(vec![Op::AddChange(Box::new(new))]).await;
    }
    let (_, requests) = world.submit(&[1, 2]).await;
    world.start_build(requests[0]).await;
    // A refused write counts nothing.
    world.attempt(world.start_op(requests[0]).1).await.unwrap_err();
    let gone =
        Remove { at: Timestamp::from_seconds(START), builds: builds[..5].to_vec(), ..Remove::default() };
    assert_eq!(world.writer.send(gone).await.unwrap().unwrap().builds, 5);
    for complete in [None, Some(true), Some(false)] {
        for builder in [None, Some(1), Some(2), Some(9)] {
            let query = builder.map_or_else(Query::default, |b: i64| Query::default().eq("builderid", b));
            let query = match complete {
                Some(complete) => query.eq("complete", complete),
                None => query,
            };
            checked::<Build>(&world, query.clone()).await;
            checked::<BuildRequest>(&world, query).await;
        }
    }
    checked::<Buildset>(&world, Query::default()).await;
    checked::<Change>(&world, Query::default()).await;
    checked::<Build>(&world, Query::default().eq("results", 2)).await;
    checked::<Build>(&world, Query::default().eq("results", 2).eq("builderid", 1)).await;
    let hot = world.read(LoadHot { builds: 2, changes: 2, buildsets: 2, requests: 2 }).await;
    assert_eq!((hot.totals.builds, hot.totals.changes, hot.totals.requests), (8, 12, 9));
    assert_eq!(hot.totals_of[&BuilderId(1)].0 + hot.totals_of[&BuilderId(2)].0, 8);
}

async fn lists_of_values_are_merged_in_order(world: World) {
    world.configure().await;
    for n in 0..9 {
        built(&world, 1 + n % 2, Results::Success).await;
    }
    let any = |values: &[i64]| Filter {
        field: "builderid",
        compare: Compare::Eq,
        values: values.iter().map(|v| FieldValue::Int(*v)).collect(),
    };
    let ids = |query: Query| {
        let world = &world;
        async move { world.list::<Build>(query).await.items.iter().map(|b| b.id.0).collect::<Vec<_>>() }
    };
    for values in [&[1, 2][..], &[2, 1, 7, 2], &[2]] {
        let query = Query { filters: vec![any(values)], ..Query::default() }.order_by("started_at", true);
        let whole = ids(query.clone()).await;
        assert!(whole.is_sorted_by(|a, b| a > b) && whole.len() >= 4, "{whole:?}");
        for (offset, limit) in [(0, 3), (2, 3), (7, 5), (20, 1)] {
            let page = ids(Query { offset, ..query.clone().limit(limit) }).await;
            let wanted: Vec<_> = whole.iter().copied().skip(offset as usize).take(limit as usize).collect();
            assert_eq!(page, wanted, "{values:?} {offset} {limit}");
        }
    }
    // By key, page after page.
    let (mut below, mut seen) = (i64::MAX, Vec::new());
    loop {
        let key = Filter { field: "buildid", compare: Compare::Lt, values: vec![below.into()] };
        let query = Query { filters: vec![key], ..Query::default() }.order_by("buildid", true).limit(4);
        let page = ids(query).await;
        let Some(last) = page.last() else { break };
        below = *last;
        seen.extend(page);
    }
    assert_eq!(seen, (1..=9).rev().collect::<Vec<_>>());
}

/// A change on a branch with a build of it.
async fn change_built(world: &World, n: i64, branch: &str, results: Results) -> (ChangeId, BuildId) {
    let mut new = change(world.id(), ChangeOrigin::Manual, &format!("r{n}"));
    new.branch = Some(branch.into());
    let id = new.id;
    let stamp = NewSourceStamp {
        branch: new.branch.clone(),
        revision: new.revision.clone(),
        repository: new.repository.clone(),
        ..NewSourceStamp::default()
    };
    world.run(vec![Op::AddChange(Box::new(new))]).await;
    let set = NewBuildset { sourcestamps: vec![StampRef::New(stamp)], ..world.new_buildset(&[1]) };
    let request = set.requests[0].0;
    world.run(vec![Op::AddBuildset(Box::new(set))]).await;
    let build = world.start_build(request).await;
    world.finish_build(build, results).await.unwrap();
    (id, build)
}

async fn what_surrounds_a_build_is_found(world: World) {
    use Results::{Exception, Failure, Success, Warnings};
    world.configure().await;
    let mut all = Vec::new();
    for (n, (branch, results)) in [
        ("main", Failure),
        ("main", Success),
        ("topic", Success),
        ("main", Warnings),
        ("main", Failure),
        ("topic", Failure),
        ("main", Exception),
        ("main", Failure),
    ]
    .into_iter()
    .enumerate()
    {
        all.push(change_built(&world, n as i64, branch, results).await);
    }
    let around = |n: usize, changes| {
        let (world, build) = (&world, all[n].1);
        async move {
            let it = world.read(BuildContextOf { build, changes }).await.unwrap();
            let changes: Vec<i64> = it.changes.iter().map(|c| c.id.0).collect();
            (
                it.previous.map(|b| b.number),
                it.next.map(|b| b.number),
                it.good.map(|b| b.number),
                changes,
                it.more,
            )
        }
    };
    assert_eq!(around(7, 10).await, (Some(7), None, Some(4), vec![8, 7, 5], false));
    assert_eq!(around(7, 2).await, (Some(7), None, Some(4), vec![8, 7], true));
    assert_eq!(around(5, 10).await, (Some(5), Some(7), Some(3), vec![6], false));
    assert_eq!(around(0, 10).await, (None, Some(2), None, vec![1], false));
    assert!(world.read(BuildContextOf { build: BuildId(99), changes: 1 }).await.is_none());
    let rows = world.read(HistoriesOf { builders: vec![BuilderId(1), BuilderId(2)] }).await;
    assert_eq!(rows[0].recent.iter().map(|(b, _)| b.number).collect::<Vec<_>>(), [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(rows[0].successes.iter().map(|s| s.0).collect::<Vec<_>>(), [3, 2]);
    let source = &rows[0].recent[0].1;
    assert_eq!(
        (source.change, &*source.what, source.branch.as_deref()),
        (Some(ChangeId(8)), "fix it", Some("main"))
    );
    assert_eq!((rows[0].before, rows[1].recent.len()), (Before::Nothing, 0));
    // More than are shown, all broken: what came before is looked up.
    for _ in 0..25 {
        built(&world, 1, Failure).await;
    }
    let rows = world.read(HistoriesOf { builders: vec![BuilderId(1)] }).await;
    let Before::Row(row) = rows[0].before else { panic!("{:?}", rows[0].before) };
    assert_eq!((row.verdict, row.count, row.since.0), (Verdict::Broken, 9, 5));
}

async fn the_console_tells_builds_of_changes(world: World) {
    world.configure().await;
    for (n, branch) in ["main", "topic", "main"].into_iter().enumerate() {
        change_built(&world, n as i64, branch, Results::Success).await;
    }
    let page = |wanted: ConsoleOf| {
        let world = &world;
        async move {
            let page = world.read(wanted).await;
            let row = |row: &ConsoleRow| (row.change.id.0, row.cells.iter().map(|c| c.builds).sum::<u64>());
            (page.rows.iter().map(row).collect::<Vec<_>>(), page.more)
        }
    };
    let of = |limit| ConsoleOf { limit, ..ConsoleOf::default() };
    assert_eq!(page(of(2)).await, (vec![(3, 1), (2, 1)], true));
    assert_eq!(page(ConsoleOf { before: Some(ChangeId(2)), ..of(2) }).await, (vec![(1, 1)], false));
    let main = || vec!["main".to_owned()];
    assert_eq!(page(ConsoleOf { branches: main(), ..of(9) }).await, (vec![(3, 1), (1, 1)], false));
    let both = vec!["topic".to_owned(), "main".to_owned()];
    assert_eq!(page(ConsoleOf { branches: both, ..of(2) }).await, (vec![(3, 1), (2, 1)], true));
    let repositories = vec!["elsewhere".to_owned()];
    assert_eq!(page(ConsoleOf { repositories, ..of(2) }).await, (vec![], false));
}

/// What a builder's history says, from the results of all its builds, oldest first: recent numbers, successes, and what precedes them.
fn history_of(builds: &[(BuildId, Results)]) -> (Vec<i64>, Vec<i64>, Before) {
    let number = |at: usize| at as i64 + 1;
    let last = |fits: &dyn Fn(Results) -> bool| {
        let all = builds.iter().enumerate().rev().filter(|(_, (_, results))| fits(*results));
        all.map(|(at, _)| number(at)).take(RECENT_OF_BUILDER).collect::<Vec<_>>()
    };
    let recent = last(&|_| true);
    let successes = last(&|results| results == Results::Success);
    let split = builds.len().saturating_sub(RECENT_OF_BUILDER);
    let says = |(_, results): &(BuildId, Results)| verdict(Some(*results));
    let shown: Vec<_> = builds[split..].iter().filter_map(says).collect();
    if recent.len() == RECENT_OF_BUILDER && shown.iter().any(|verdict| *verdict != shown[0]) {
        return (recent, successes, Before::Unknown);
    }
    let older = builds[..split].iter().enumerate().filter_map(|(at, it)| Some((at, says(it)?)));
    let older: Vec<_> = older.collect();
    let Some((_, verdict)) = older.last().copied() else { return (recent, successes, Before::Nothing) };
    let row: Vec<_> = older.iter().rev().take_while(|(_, says)| *says == verdict).collect();
    let first = row.last().map_or(0, |(at, _)| *at);
    let since = (number(first), builds[first].0);
    (recent, successes, Before::Row(Streak { verdict, count: (row.len() as u64).min(LONGEST_STREAK), since }))
}

async fn histories_of_many_builders_are_those_of_each(world: World) {
    use Results::*;
    let all_of = |parts: &[(usize, Results)]| -> Vec<Results> {
        parts.iter().flat_map(|(count, results)| vec![*results; *count]).collect()
    };
    // More than one statement takes, then all that a streak can be, then any mixture.
    let mut wanted: Vec<Vec<Results>> = (0..70).map(|n| all_of(&[(n % 3, Success)])).collect();
    wanted.extend([
        all_of(&[(20, Success)]),
        all_of(&[(25, Failure)]),
        all_of(&[(5, Failure), (25, Success)]),
        all_of(&[(30, Success), (20, Exception)]),
        all_of(&[(3, Failure), (2, Success), (2, Cancelled), (4, Warnings), (20, Skipped)]),
        all_of(&[(3, Cancelled), (20, Retry)]),
        all_of(&[(1, Failure), (130, Success)]),
        all_of(&[(2, Success), (1, Exception), (30, Failure), (19, Cancelled), (1, Failure)]),
    ]);
    let kinds = [Success, Success, Success, Warnings, Skipped, Failure];
    wanted.extend((0..4).map(|n| (0..60).map(|at| kinds[(at * (at + n) / 7) % kinds.len()]).collect()));
    let builder = |n: usize| ConfiguredBuilder {
        name: format!("b{n}"),
        workers: vec!["w1".into()],
        ..Default::default()
    };
    let configuration = Configuration {
        builders: (1..=wanted.len()).map(builder).collect(),
        workers: vec!["w1".into()],
        ..Default::default()
    };
    world.run(vec![Op::Configure(Box::new(configuration))]).await;
    let mut made: Vec<Vec<(BuildId, Results)>> = Vec::new();
    let (mut ops, mut last) = (Vec::new(), 0);
    for (builder, results) in wanted.into_iter().enumerate() {
        let ids = results.into_iter().map(|results| {
            last += 1;
            (BuildId(last), results)
        });
        made.push(ids.collect());
        for (build, results) in &made[builder] {
            let request = BuildRequestId(build.0);
            let mut set = world.new_buildset(&[]);
            set.id = BuildsetId(build.0);
            set.requests = vec![(request, BuilderId(builder as i64 + 1))];
            let state_string = String::new();
            let properties = Properties::new();
            let new = NewBuild {
                id: *build,
                request,
                worker: WorkerId(1),
                state_string: state_string.clone(),
                properties,
            };
            ops.push(Op::AddBuildset(Box::new(set)));
            ops.push(Op::StartBuild(Box::new(new)));
            ops.push(Op::FinishBuild { build: *build, results: *results, state_string });
        }
    }
    let now = Timestamp::from_seconds(START);
    let mut filling = Filling::begin(world.store.clone(), "histories", 1, &[]).await.unwrap();
    filling.commit(1, &ops.into_iter().map(|op| (now, op)).collect::<Vec<_>>(), now).await.unwrap();
    let builders: Vec<_> = (1..=made.len()).map(|n| BuilderId(n as i64)).collect();
    let found = world.read(HistoriesOf { builders: builders.clone() }).await;
    assert_eq!(found.iter().map(|it| it.builder).collect::<Vec<_>>(), builders);
    for (found, made) in found.iter().zip(&made) {
        let recent = found.recent.iter().map(|(build, _)| build.number).collect();
        let successes = found.successes.iter().map(|(number, _)| *number).collect();
        assert_eq!((recent, successes, found.before), history_of(made), "{:?}", found.builder);
    }
}
