//! What arrives at the port.
