//! The heart of Tidemill: its vocabulary, its decisions, and the traits that join its rooms.
//!
//! Everything here is pure. There is no I/O, no clock, no randomness and no runtime: time and
//! randomness are arguments, so that every decision can be tested by tables and properties.

pub mod delivery;
pub mod destination;
pub mod dispatch;
pub mod event;
pub mod filter;
pub mod hold;
pub mod host;
pub mod identity;
pub mod intake;
pub mod ledger;
pub mod limits;
pub mod outcome;
pub mod rate;
pub mod retry;
pub mod schedule;
pub mod selector;
pub mod time;
pub mod turn;
pub mod watermark;

use std::{future::Future, pin::Pin};

/// A future that an object-safe trait can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
