//! Structured logging, into the log of the engine, which adds the function and the delivery to each line.
//!
//! ```no_run
//! use tidemill_sdk::log;
//! # let (width, key) = (64, "a.jpg");
//! log::info!("made a thumbnail");
//! log::info!("made a thumbnail of {width} pixels"; key = key, width = width);
//! ```

use std::fmt::Display;

pub use crate::bindings::tidemill::function::log::Level;
use crate::bindings::tidemill::function::log::log;
#[doc(inline)]
pub use crate::{
    __debug as debug, __error as error, __info as info, __trace as trace, __warn as warn,
};

/// Writes one line; the macros of this module are the comfortable way.
pub fn write(level: Level, message: &str, fields: &[(&str, &dyn Display)]) {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.to_string()))
        .collect();
    log(level, message, &fields);
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, $text:literal $(, $value:expr)* $(; $($name:ident = $field:expr),+ $(,)?)?) => {
        $crate::log::write(
            $crate::log::Level::$level,
            &::std::format!($text $(, $value)*),
            &[$($((::core::stringify!($name), &$field)),+)?],
        )
    };
}

/// Logs at the level trace: `trace!("text {}", value; name = value)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __trace {
    ($($line:tt)+) => { $crate::__log!(Trace, $($line)+) };
}

/// Logs at the level debug: `debug!("text {}", value; name = value)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($line:tt)+) => { $crate::__log!(Debug, $($line)+) };
}

/// Logs at the level info: `info!("text {}", value; name = value)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($line:tt)+) => { $crate::__log!(Info, $($line)+) };
}

/// Logs at the level warn: `warn!("text {}", value; name = value)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($line:tt)+) => { $crate::__log!(Warn, $($line)+) };
}

/// Logs at the level error: `error!("text {}", value; name = value)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($line:tt)+) => { $crate::__log!(Error, $($line)+) };
}
