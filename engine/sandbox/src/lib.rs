//! The WebAssembly host: runs one attempt of a handler within its limits.
//!
//! [`Sandbox::load`] makes a [`Function`] of a component's bytes, compiling it unless the cache has
//! it; [`Function::run`] handles one event in a fresh instance, and [`Function::run_batch`] many.
//! [`Function::keeping`] makes a function that keeps instances, ready or from one event to the next. An attempt has its own memory, its own
//! resources and a limit on everything: time, memory, output, log. What it may ask of the engine goes
//! through [`HostCalls`](tidemill_core::host::HostCalls).
//!
//! This crate never retries, never decides what becomes of an event, keeps nothing from one event to
//! the next unless it is told to, and knows neither journal nor configuration.

mod batch;
mod bind;
mod budget;
mod cache;
mod compiler;
mod engine;
mod imports;
mod kept;
mod limiter;
mod load;
mod output;
mod run;
mod seat;
mod state;
mod stdio;
mod ticker;
mod turns;
mod verdict;

pub use batch::{Answered, FinishedBatch};
pub use compiler::{Compiler, serve_compiler};
pub use engine::{Sandbox, SandboxError, Settings, config};
pub use kept::Keep;
pub use load::{LoadError, Problem};
pub use run::{DeliveryInfo, Entry, Finished, Function, Limits};
pub use seat::Spare;
pub use turns::{computes, cpu_time};
