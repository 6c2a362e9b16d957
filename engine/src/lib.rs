//! Tidemill: a self-hosted serverless engine in one binary.
//!
//! `assemble` builds the parts from a plan, `dispatcher` is the engine proper, `admin` and `cli` are
//! how people look at it. See ARCHITECTURE.md for the way of an event.

pub mod admin;
pub mod assemble;
mod buckets;
mod by_hand;
pub mod cli;
mod clock;
mod destinations;
pub mod dispatcher;
mod functions;
mod logging;
mod memory;
mod metrics;
mod objects;
mod operations;
mod reload;
mod retention;
mod roster;
mod sources;
mod trace;
pub mod views;
