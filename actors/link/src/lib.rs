//! The master's side of worker connections: one session actor each.
