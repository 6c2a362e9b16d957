//! Tidemill from outside: a real engine in a process of its own, real files, and counts that are
//! taken where the engine cannot reach them.

mod harness;

mod architecture;
mod buckets;
mod command_line;
mod faults;
mod handlers;
mod idle;
mod quickstart;
mod start;
