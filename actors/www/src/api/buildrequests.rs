//! `buildrequests`, and what belongs to one.

use greenroom_model::{Build, BuildRequest};

use crate::collection;
use crate::router::{Route, route};

pub(super) const ROUTES: &[Route] = &[
    route!("buildrequests", "buildrequests", c => collection::all::<BuildRequest>(&c)),
    route!("buildrequests/n:buildrequestid", "buildrequests",
        c => async { collection::one::<BuildRequest>(&c, c.number(0)?).await }),
    route!("buildrequests/n:buildrequestid/builds", "builds",
        c => async { collection::of::<Build>(&c, "buildrequestid", c.number(0)?).await }),
];
