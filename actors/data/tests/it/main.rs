//! Tests of the data layer from outside: the feed against models, real stores, lying buses, panics and kills.

mod feed;
mod judge;
mod kill;
mod merge_model;
mod world;
