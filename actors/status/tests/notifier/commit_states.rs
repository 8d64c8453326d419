//! That no state of a commit that was put off is shown over a newer one, by what the database says of builds.

use std::sync::Arc;
use std::time::Duration;

use greenroom_config::NotifierKind;
use greenroom_model::{Op, Property, Results};
use greenroom_status::commit_status::CommitStatusTransport;
use greenroom_status::{Outgoing, SendError, Transport};
use serde_json::json;

use crate::farm::*;
use Results::*;

/// What a second attempt at a message comes to. Revisions here are none of a forge, so nothing is ever sent.
async fn second_attempt(farm: &Farm, message: &Outgoing) -> String {
    let config = serde_json::from_value(json!({"token": "t0ken"})).unwrap();
    let kind = NotifierKind::GithubStatus(config);
    let ro = Some(farm.data.ro());
    let mut transport = CommitStatusTransport::new(&kind, ro, Duration::from_secs(1)).unwrap();
    match transport.send(Arc::new(Outgoing { attempt: 2, ..message.clone() })).await {
        Err(SendError::Nobody { why }) => why,
        other => panic!("{other:?}"),
    }
}

const NEWER: &str = "a newer build of the same revision has begun since";
/// It would have been shown, if it were a commit.
const SHOWN: &str = "the build has no whole revision";

#[actix_rt::test]
async fn the_end_of_a_build_is_out_of_date_when_its_revision_is_built_anew() {
    let mut farm = Farm::start(&machine("['all']", "")).await;
    farm.ends("linux", Failure).await;
    farm.until_taken(1).await;
    let first = farm.recorder.last();
    assert_eq!(second_attempt(&farm, &first).await, SHOWN);
    farm.again(wish("windows", Success)).await;
    assert_eq!(second_attempt(&farm, &first).await, SHOWN, "another builder has another state");
    farm.again(wish("linux", Success)).await;
    assert_eq!(second_attempt(&farm, &first).await, NEWER);
    farm.until_taken(3).await;
    let last = farm.recorder.last();
    farm.ends("linux", Failure).await;
    assert_eq!(second_attempt(&farm, &last).await, SHOWN, "a newer build of another revision");
    farm.finish().await;
}

#[actix_rt::test]
async fn the_revision_that_a_build_got_counts() {
    let mut farm = Farm::start(&machine("['all']", "")).await;
    farm.ends("linux", Failure).await;
    farm.until_taken(1).await;
    let first = farm.recorder.last();
    let revision = of_build(&first).sources[0].revision.clone().expect("a revision");
    // It was asked for another revision, or for none, and what it found is the same.
    let build = farm.begin_build(&wish("linux", Success)).await;
    assert_eq!(second_attempt(&farm, &first).await, SHOWN);
    let got = Op::SetProperties {
        build,
        properties: [("got_revision".to_owned(), Property(revision.into(), "git".into()))].into(),
    };
    farm.data.rw().write(vec![got]).await.unwrap();
    assert_eq!(second_attempt(&farm, &first).await, NEWER);
    farm.finish().await;
}

#[actix_rt::test]
async fn the_begin_of_a_build_is_out_of_date_when_it_has_ended() {
    let mut farm = Farm::start(&machine("['started']", "")).await;
    let wanted = wish("linux", Success);
    let build = farm.begin_build(&wanted).await;
    farm.until_taken(1).await;
    let begun = farm.recorder.last();
    assert_eq!(second_attempt(&farm, &begun).await, SHOWN);
    farm.end_build(build, &wanted).await;
    assert_eq!(second_attempt(&farm, &begun).await, "the build has ended since");
    farm.finish().await;
}
