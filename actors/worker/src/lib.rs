//! The agent: connects to a master, runs commands and streams their output. No actix, no database.
