//! The edge: REST, WebSocket, change hooks, control by JSON-RPC and the embedded page, on one port.
//!
//! It owns no truth: reads go through [`greenroom_data::Ro`], acts through [`greenroom_data::Control`].
//!
//! | file | what it is about |
//! |---|---|
//! | `www.rs`, `server.rs` | what the edge is made of, and the HTTP server around it |
//! | `gate.rs`, `origin.rs`, `identity.rs` | what every request passes: limits, Host and Origin, panics, headers; who asks |
//! | `router.rs`, `api/` | path patterns and the endpoints, one file a family |
//! | `query.rs`, `collection.rs`, `rows.rs` | query parameters; collections of entities, and of plain values |
//! | `reply.rs`, `json.rs`, `cache.rs`, `error.rs` | how answers look |
//! | `control.rs`, `hook.rs` | JSON-RPC and change hooks |
//! | `ws/` | the feed: a thin socket and the session behind it |
//! | `page.rs`, `frontend.rs`, `health.rs`, `avatar.rs` | the page and what else it asks for |
//!
//! *To add a collection*: a file in `api/` with its `ROUTES`, and its name in `api::FAMILIES`.

mod api;
mod avatar;
mod body;
mod cache;
mod collection;
mod control;
mod error;
mod expand;
mod feed;
mod frontend;
mod gate;
mod health;
mod hook;
mod identity;
mod json;
mod metrics;
mod origin;
mod page;
mod query;
mod reply;
mod router;
mod rows;
mod schema;
mod server;
mod ws;
mod www;

pub use metrics::HttpCounters;
pub use server::{Extra, ServeError, Serving, serve};
pub use www::{ConfigurationState, Www, WwwParts};
