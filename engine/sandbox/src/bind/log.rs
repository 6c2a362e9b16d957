//! `tidemill:function/log`: structured lines of log.

use tidemill_core::{event::Field, host::LogLevel};

use super::generated::tidemill::function::log::{Host, Level};
use crate::state::State;

impl Host for State {
    fn log(&mut self, level: Level, message: String, fields: Vec<Field>) -> wasmtime::Result<()> {
        let level = match level {
            Level::Trace => LogLevel::Trace,
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
        };
        Ok(self.output.log(level, &message, &fields)?)
    }
}
