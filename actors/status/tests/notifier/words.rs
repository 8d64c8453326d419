//! What a message says.

use greenroom_config::Mode;
use greenroom_model::Results;

use crate::farm::*;
use Results::*;

#[actix_rt::test]
async fn a_failure_says_what_where_since_when_and_who() {
    let mut farm = Farm::start(&people("['problem', 'change']", "")).await;
    farm.build(Wish { author: Some("ann"), ..wish("linux", Success) }).await;
    // Two changes came in one after the other, and only the second was built.
    farm.change("bob", "main", "early").await;
    farm.change("eve", "next", "elsewhere").await;
    let output = "hello\n0 errors so far\nsrc/a.c:3: error: expected ';'\nthe password is secret-of-w\nbye\n";
    farm.build(Wish { author: Some("cat"), output, step: "compile", ..wish("linux", Failure) }).await;
    farm.until_taken(1).await;
    let message = farm.recorder.last();
    let notice = of_build(&message);
    assert_eq!((message.notifier.as_str(), message.farm.title.as_str()), ("x", "Farm"));
    assert_eq!((notice.builder_name.as_str(), notice.number, notice.results), ("linux", 2, Some(Failure)));
    assert_eq!(notice.modes, [Mode::Failing, Mode::Problem, Mode::Change]);
    assert_eq!(notice.url, "https://ci.example.org/builders/linux/builds/2");
    assert_eq!(notice.blame, ["cat", "bob"]);
    assert_eq!(notice.changes[0].subject(), "change r2");
    assert_eq!(notice.previous.as_ref().map(|it| (it.number, it.results)), Some((1, Success)));
    assert_eq!(notice.last_good.as_ref().map(|it| it.number), Some(1));
    assert_eq!(notice.first_failure.as_ref().map(|it| it.number), Some(2));
    assert_eq!(notice.source().and_then(|it| it.branch.as_deref()), Some("main"));
    assert_eq!(notice.scheduler.as_deref(), Some("ci"));
    let step = notice.step.expect("a step");
    assert_eq!(step.name, "compile");
    assert_eq!(step.first_error.as_deref(), Some("src/a.c:3: error: expected ';'"));
    assert_eq!(step.tail.len(), 5);
    assert_eq!(step.tail[3], "the password is ***");
    let log = step.log.expect("a log");
    assert_eq!(log.url, "https://ci.example.org/builders/linux/builds/2/steps/0/logs/stdio");
    assert!(!format!("{message:?}").contains("secret-of-w"));
    farm.finish().await;
}

#[actix_rt::test]
async fn the_blame_of_a_long_failure_goes_back_to_the_last_good_build() {
    let mut farm = Farm::start(&machine("['all']", "")).await;
    farm.build(Wish { author: Some("ann"), ..wish("linux", Success) }).await;
    for author in ["bob", "cat", "dan"] {
        farm.build(Wish { author: Some(author), ..wish("linux", Failure) }).await;
    }
    farm.build(Wish { author: Some("eve"), ..wish("linux", Success) }).await;
    farm.until_taken(5).await;
    let taken = farm.recorder.server().taken.clone();
    let notices: Vec<_> = taken.iter().map(|(_, it)| of_build(it)).collect();
    assert_eq!(notices[3].blame, ["dan", "cat", "bob"]);
    assert_eq!(notices[3].first_failure.as_ref().map(|it| it.number), Some(2));
    assert_eq!(notices[4].blame, ["eve"]);
    // The failure, its repetitions and its repair belong together; what was before does not.
    let threads: Vec<_> = notices.iter().map(|it| it.thread.clone()).collect();
    assert_ne!(threads[0], threads[1]);
    assert!(threads[1..].iter().all(|it| *it == threads[1]), "{threads:?}");
    farm.finish().await;
}

#[actix_rt::test]
async fn only_the_last_hundred_builds_are_looked_at() {
    let mut farm = Farm::quiet(&machine("['failing']", "")).await;
    farm.build(Wish { author: Some("ann"), ..wish("linux", Success) }).await;
    for _ in 0..120 {
        farm.ends("linux", Failure).await;
    }
    farm.begin().await;
    farm.ends("linux", Failure).await;
    farm.until_taken(1).await;
    let notice = of_build(&farm.recorder.last());
    assert_eq!(notice.last_good, None);
    assert_eq!(notice.previous.as_ref().map(|it| it.number), Some(121));
    assert_eq!(notice.first_failure.as_ref().map(|it| it.number), Some(22));
    farm.finish().await;
}
