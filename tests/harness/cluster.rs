//! Masters that share a database.

use super::farm::{Farm, Plan};

/// Starts the master `name` on a shared database and bus; `config` is the rest of its configuration.
#[track_caller]
pub fn member(name: &str, database: &str, bus: &str, config: &str) -> Farm {
    let mut farm = lay_out_member(name, database, bus, config);
    farm.start();
    farm
}

/// As [`member`]; it counts as dead after so many seconds without a sign of life. All masters of a database must have the same.
#[track_caller]
pub fn mortal_member(name: &str, database: &str, bus: &str, config: &str, lease: f64) -> Farm {
    let mut farm = lay_out_member(name, database, bus, config);
    farm.set_env("GREENROOM_LEASE", &lease.to_string());
    farm.start();
    farm
}

fn lay_out_member(name: &str, database: &str, bus: &str, config: &str) -> Farm {
    let config = format!("[database]\nurl = \"{database}\"\n[mq]\nurl = \"{bus}\"\n{config}");
    let farm = Plan::new(&config).lay_out();
    let layer = farm.path("farm.d");
    std::fs::create_dir(&layer).expect("a directory");
    std::fs::write(layer.join("name.toml"), format!("[master]\nname = \"{name}\"\n")).expect("a layer");
    farm
}
