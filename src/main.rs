//! The `greenroom` binary: a buildmaster, its agent and its tools behind subcommands.
fn main() {}
