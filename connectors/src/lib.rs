//! Sources and destinations: what turns the world into events.

pub mod bucket;
