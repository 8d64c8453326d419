//! `configurations`: the numbered versions of each master's configuration; the newest of a master is in force.

use greenroom_model::ConfigurationVersion;

use crate::collection;
use crate::router::{Route, route};

pub(super) const ROUTES: &[Route] = &[
    route!("configurations", "configurations", c => collection::all::<ConfigurationVersion>(&c)),
    route!("configurations/n:configurationid", "configurations",
        c => async { collection::one::<ConfigurationVersion>(&c, c.number(0)?).await }),
    route!("masters/n:masterid/configurations", "configurations",
        c => async { collection::of::<ConfigurationVersion>(&c, "masterid", c.number(0)?).await }),
];
