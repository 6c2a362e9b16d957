//! Sources and destinations: what turns the world into events.

pub mod amqp;
pub mod bucket;
pub mod check;
pub mod cloudevent;
pub mod http;
pub mod kafka;
pub mod schedule;

mod client;
mod clock;
#[cfg(test)]
mod fake_holds;
#[cfg(test)]
#[path = "../../tests/services/addresses.rs"]
mod services;
