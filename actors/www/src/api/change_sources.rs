//! `changesources`.

use greenroom_model::ChangeSource;

use crate::collection;
use crate::router::{Route, route};

pub(super) const ROUTES: &[Route] = &[
    route!("changesources", "changesources", c => collection::all::<ChangeSource>(&c)),
    route!("changesources/n:changesourceid", "changesources",
        c => async { collection::one::<ChangeSource>(&c, c.number(0)?).await }),
];
