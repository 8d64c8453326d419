//! Tests of the edge from outside: a real server over the real data layer.

mod client;
mod contract;
mod control;
mod feed;
mod hooks;
mod http;
mod logs;
mod security;
mod seed;
mod world;
