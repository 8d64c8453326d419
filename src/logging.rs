//! What the program says on standard error.

use std::io::{self, Write};
use std::sync::LazyLock;

use greenroom_config::mask::SharedMasks;
use tracing_subscriber::EnvFilter;

static MASKS: LazyLock<SharedMasks> = LazyLock::new(SharedMasks::default);

/// What neither logs of commands nor this program's own words may show.
pub fn masks() -> SharedMasks {
    MASKS.clone()
}

/// Standard error without secrets. Each event comes as one piece.
struct MaskedStderr;

impl Write for MaskedStderr {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let masks = MASKS.current();
        match std::str::from_utf8(event) {
            Ok(text) if !masks.is_empty() => io::stderr().write_all(masks.mask(text).as_bytes())?,
            _ => io::stderr().write_all(event)?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Starts logging: `RUST_LOG`, or else this level. Once a process; again is ignored.
pub fn start(level: &str) {
    // What the HTTP server remarks is of no use to whoever runs a master; what becomes of the bus is told in words of our own.
    let usual = format!("{level},actix_server=warn,actix_rt=warn,async_nats=off,lapin=off");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| MaskedStderr)
        .with_ansi(terminal)
        .with_target(false)
        .try_init();
}
