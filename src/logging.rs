//! What the program says on standard error.

use tracing_subscriber::EnvFilter;

/// Starts logging: `RUST_LOG`, or else this level. Once a process; again is ignored.
pub fn start(level: &str) {
    // The HTTP server's own remarks are of no use to whoever runs a master.
    let usual = format!("{level},actix_server=warn,actix_rt=warn");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal)
        .with_target(false)
        .try_init();
}
