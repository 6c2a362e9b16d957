//! Tidemill from outside: a real engine in a process of its own, real files, and counts that are
//! taken where the engine cannot reach them.

mod harness;

mod architecture;
mod batches;
mod buckets;
mod chains;
mod command_line;
mod examples;
mod faults;
mod handlers;
mod help;
mod http;
mod idle;
mod instances;
mod lanes;
mod notifications;
mod queues;
mod quickstart;
mod reload;
mod retention;
mod scale;
mod schedules;
mod start;
mod stores;
mod tail;
mod templates;
