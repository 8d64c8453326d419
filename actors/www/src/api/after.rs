//! `after=CLOCK`: a read that must contain what its client has seen, whichever master or replica answers.

use std::sync::Arc;
use std::time::Duration;

use greenroom_data::{Hot, Ro};
use greenroom_model::Clock;
use tokio::time::{Instant, sleep};

use crate::error::ApiError;
use crate::query::Params;

/// How long a read waits for its clock.
const WITHIN: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Takes `after` out of the parameters and waits until the published state contains that clock; whatever is read from the database
/// afterwards contains it too. None: no clock was named.
pub(super) async fn reach(ro: &Ro, params: &mut Params) -> Result<Option<Arc<Hot>>, ApiError> {
    let Some(at) = params.iter().position(|(name, _)| name == "after") else { return Ok(None) };
    let (_, text) = params.remove(at);
    if params.iter().any(|(name, _)| name == "after") {
        return Err(ApiError::BadQuery("after= names one clock".to_owned()));
    }
    let bad =
        || ApiError::BadQuery(format!("after={text} is no clock: give one that a reply or an event had"));
    let clock: Clock = text.parse().map_err(|_| bad())?;
    let until = Instant::now() + WITHIN;
    let mut told = false;
    loop {
        let hot = ro.hot();
        if clock.generation != hot.clock.generation {
            return Err(ApiError::BadQuery(format!("after={text} is a clock of another database")));
        }
        if hot.clock.covers(&clock) {
            return Ok(Some(hot));
        }
        if !std::mem::replace(&mut told, true) {
            ro.heard_of(&clock);
        }
        if Instant::now() >= until {
            let why = format!("this master has not heard of {text} within {} s", WITHIN.as_secs());
            return Err(ApiError::Unavailable { why, retry_after: Duration::from_secs(1) });
        }
        sleep(LOOK_AGAIN).await;
    }
}
