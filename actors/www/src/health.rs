//! `/health`: whether this master can do its work, for people, probes and load balancers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use greenroom_model::{Query, SourceStamp};
use greenroom_runtime::State;
use serde_json::json;

use crate::reply::Reply;
use crate::www::Www;

/// A database that does not answer a read of one row for so long is away.
const PROBE: Duration = Duration::from_secs(2);

/// Answers `/health`: 200 with `ok` or `degraded`; 503 when the data layer does not answer, or `unwritable` when it
/// takes no writes (a full disk answers reads).
pub(crate) async fn health(request: HttpRequest, www: web::Data<Www>) -> HttpResponse {
    // A replica may answer the probe.
    let away = www.ro.stale_for().map(|it| format!("the database has been away for {} s", it.as_secs()));
    let database = probe(&www).await.or(away);
    let unwell: Vec<_> = www
        .runtime
        .snapshot()
        .into_iter()
        .filter(|it| matches!(it.state, State::BackingOff | State::Failed))
        .map(|it| {
            format!(
                "actor {} is {}",
                it.name,
                if it.state == State::Failed { "failed" } else { "backing off" }
            )
        })
        .collect();
    let refusing = (!www.ro.writable()).then(|| "the database takes no writes".to_owned());
    let is_away = database.is_some() || refusing.is_some();
    let code = if is_away { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let is_writable = refusing.is_none();
    let configuration = &www.configured().state;
    // a restart would meet the same faults
    let bad_file = configuration.refused_at.map(|_| {
        format!("the last reload was refused; configuration {} is still in force", configuration.number)
    });
    let why: Vec<_> = refusing.into_iter().chain(database).chain(bad_file).chain(unwell).collect();
    let status = match (is_writable, why.is_empty()) {
        (false, _) => "unwritable",
        (true, false) => "degraded",
        (true, true) => "ok",
    };
    let body = json!({
        "status": status, "why": why, "masterid": www.ro.me().0,
        "configuration": {
            "number": configuration.number,
            "reload_refused_at": configuration.refused_at.map(|at| at.div_euclid(1_000_000)),
        },
    });
    Reply::json(code, &body).with(header::CACHE_CONTROL, "no-store").respond(&request).await
}

/// What is wrong with the database, if something is. One probe at a time: a flood of requests is no load on it.
async fn probe(www: &Www) -> Option<String> {
    struct Done<'a>(&'a Www);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.probing.store(false, Ordering::Release);
        }
    }
    if www.probing.swap(true, Ordering::AcqRel) {
        return None;
    }
    let _done = Done(www);
    let read = www.ro.list::<SourceStamp>(Query::default().limit(1));
    match tokio::time::timeout(PROBE, read).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("the database has not answered within {} s", PROBE.as_secs())),
    }
}
