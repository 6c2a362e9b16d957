//! Sources and destinations: what turns the world into events.

pub mod amqp;
pub mod bucket;
pub mod cloudevent;
pub mod http;
pub mod kafka;
pub mod schedule;

mod clock;
