//! Domain values shared by every layer: ids, results, entities, topics, clocks, queries, restart policies.
//!
//! No I/O, no actix. To add a resource: its id in [`ids`], its entity in [`entities`], its place in [`event::Record`] with
//! its routing keys, its public fields in [`query::Resource`] and its public form in [`wire`].

pub mod clock;
pub mod entities;
pub mod event;
pub mod field_values;
pub mod ids;
pub mod log_words;
pub mod properties;
pub mod query;
pub mod restart;
pub mod results;
pub mod time;
pub mod topic;
pub mod wire;
pub mod write;

pub use clock::Clock;
pub use entities::*;
pub use event::{EntityKey, Event, EventName, Happening, Record};
pub use field_values::Entity;
pub use ids::*;
pub use properties::{Properties, Property};
pub use query::{FieldValue, Filter, Page, Query, Resource};
pub use results::Results;
pub use time::Timestamp;
pub use topic::{Key, Pattern};
pub use write::{Committed, Op, Outcome, Refusal, Write, WriteId};
