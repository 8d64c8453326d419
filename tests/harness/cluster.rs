//! Masters that share a database.

use super::farm::{Farm, Plan};

/// Starts the master `name` on a shared database and bus; `config` is the rest of its configuration.
#[track_caller]
pub fn member(name: &str, database: &str, bus: &str, config: &str) -> Farm {
    let config = format!("[database]\nurl = \"{database}\"\n[mq]\nurl = \"{bus}\"\n{config}");
    let mut farm = Plan::new(&config).lay_out();
    let layer = farm.path("farm.d");
    std::fs::create_dir(&layer).expect("a directory");
    std::fs::write(layer.join("name.toml"), format!("[master]\nname = \"{name}\"\n")).expect("a layer");
    farm.start();
    farm
}
