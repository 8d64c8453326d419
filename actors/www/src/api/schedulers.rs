//! `schedulers`.

use greenroom_model::Scheduler;

use crate::collection;
use crate::router::{Route, route};

pub(super) const ROUTES: &[Route] = &[
    route!("schedulers", "schedulers", c => collection::all::<Scheduler>(&c)),
    route!("schedulers/n:schedulerid", "schedulers",
        c => async { collection::one::<Scheduler>(&c, c.number(0)?).await }),
];
