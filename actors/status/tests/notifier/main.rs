//! Notifiers over the real data layer in memory, on paused time, with a transport that records.

mod about;
mod farm;
mod outbox;
mod stories;
mod words;
