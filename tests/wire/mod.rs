//! What arrives at the port.

mod worker_socket;
