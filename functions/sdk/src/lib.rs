//! Write Tidemill handlers in Rust.
//!
//! A handler is a function from an [`Event`] to a reply or a [`Failure`], named by [`handler!`]:
//!
//! ```
//! use tidemill_sdk::{Event, Failure, handler, kv, log};
//!
//! fn count(event: Event) -> Result<(), Failure> {
//!     let seen = kv::open("counts")?.increment(event.source(), 1)?;
//!     log::info!("counted"; source = event.source(), seen = seen);
//!     Ok(())
//! }
//!
//! handler!(count);
//! ```
//!
//! [`batch_handler!`] names one for triggers with `batch`, which give it many events in one call.
//!
//! What it may reach are the modules of this crate and nothing else: the sandbox has no file system, no
//! environment and no clock of `std`. Effects in the engine's journal ([`kv`], [`emit`]) happen exactly once, when the
//! handler has answered ok; [objects](bucket) are written at least once.
//!
//! The crate also compiles for the host, so that the pure parts of a handler can be tested by `cargo test`;
//! calling the engine from there panics.

mod batch;
pub mod bucket;
pub mod clock;
pub mod config;
pub mod emit;
mod event;
mod failure;
pub mod kv;
pub mod log;
#[cfg(target_family = "wasm")]
mod memory;
pub mod random;
mod reader;
mod reply;
mod run;

#[doc(hidden)]
#[allow(missing_docs, reason = "generated from the WIT, which documents it")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "function",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "tidemill_sdk::bindings",
    });

    pub mod batch {
        wit_bindgen::generate!({
            path: "../wit",
            inline: "
                package tidemill:sdk;
                world batch {
                    import tidemill:function/batch@0.1.0;
                    export tidemill:function/batch-handler@0.1.0;
                }
            ",
            world: "tidemill:sdk/batch",
            generate_all,
            with: { "tidemill:function/types@0.1.0": crate::bindings::tidemill::function::types },
            pub_export_macro: true,
            export_macro_name: "export_batch",
            default_bindings_module: "tidemill_sdk::bindings::batch",
        });
    }
}

#[doc(hidden)]
pub mod private {
    //! What the macros of this crate expand to; not for use by hand.
    #[cfg(target_family = "wasm")]
    pub use crate::memory::{Allocator, allocator};
    pub use crate::{
        bindings::tidemill::function::types::Event as RawEvent,
        run::{RawAnswer, run, run_each, run_whole},
    };
}

pub use batch::Batch;
pub use event::{Event, ObjectEvent};
pub use failure::Failure;
pub use reply::{IntoReply, Reply};

/// Makes a function the handler of this component.
///
/// ```
/// # use tidemill_sdk::{Event, Failure, handler};
/// # fn resize(_: Event) -> Result<(), Failure> { Ok(()) }
/// handler!(resize, arena = 4 << 20);
/// ```
///
/// `arena` is the heap, in bytes, that every instance has from its start; 1 MiB if not given. Within it a handler
/// never asks the engine for memory, which is what makes a fresh instance for each event cheap. Beyond it the heap
/// grows, up to the `memory` of the function; pages that are not touched cost nothing.
#[macro_export]
macro_rules! handler {
    ($handler:path) => {
        $crate::handler!($handler, arena = 1 << 20);
    };
    ($handler:path, arena = $bytes:expr) => {
        $crate::__allocator!($bytes);
        $crate::__handler!($handler);
    };
}

/// Makes a function the handler for triggers with `batch`, which give it many events in one call.
///
/// With `each` it is a function for one event, like that of [`handler!`]. It runs for one event of the batch after the
/// other, and each has its own answer: what it emits and writes for an event that fails is thrown away, whatever
/// becomes of the others. Such a component is also good for triggers without `batch`. A panic still ends the whole
/// call, for all events.
///
/// ```
/// # use tidemill_sdk::{Event, Failure, batch_handler, kv};
/// fn count(event: Event) -> Result<(), Failure> {
///     kv::open("counts")?.increment(event.source(), 1)?;
///     Ok(())
/// }
///
/// batch_handler!(each = count);
/// ```
///
/// With `whole` it gets the [`Batch`], for work that is better done once for all events.
///
/// ```
/// # use tidemill_sdk::{Batch, Failure, batch_handler, emit, kv};
/// fn name(batch: &mut Batch) -> Result<(), Failure> {
///     let sensors: Vec<_> = batch.events().iter().map(|event| event.subject().unwrap_or("").to_owned()).collect();
///     // Before an event has begun: for all of them.
///     let names = kv::open("names")?.get_many(&sensors)?;
///     batch.each(|n, event| {
///         let name = names[n].1.as_deref().ok_or_else(|| Failure::retry("the sensor has no name yet"))?;
///         emit::event("reading.named").header("name", String::from_utf8_lossy(name)).data(event.data()).send()?;
///         Ok(())
///     });
///     Ok(())
/// }
///
/// batch_handler!(whole = name);
/// ```
///
/// `arena` follows as with [`handler!`]; it has to hold all events of a batch if the memory is not to grow, and is
/// 4 MiB if not given.
#[macro_export]
macro_rules! batch_handler {
    ($form:ident = $handler:path) => {
        $crate::batch_handler!($form = $handler, arena = 4 << 20);
    };
    (each = $handler:path, arena = $bytes:expr) => {
        $crate::__allocator!($bytes);
        $crate::__handler!($handler);
        $crate::__batch_handler!($crate::private::run_each, $handler);
    };
    (whole = $handler:path, arena = $bytes:expr) => {
        $crate::__allocator!($bytes);
        $crate::__batch_handler!($crate::private::run_whole, $handler);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __allocator {
    ($bytes:expr) => {
        #[cfg(target_family = "wasm")]
        #[global_allocator]
        static TIDEMILL_ALLOCATOR: $crate::private::Allocator = {
            static mut ARENA: [::core::mem::MaybeUninit<u8>; $bytes] =
                [::core::mem::MaybeUninit::uninit(); $bytes];
            // SAFETY: ARENA is named nowhere else.
            unsafe { $crate::private::allocator(&raw mut ARENA) }
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __handler {
    ($handler:path) => {
        struct TidemillHandler;

        impl $crate::bindings::exports::tidemill::function::handler::Guest for TidemillHandler {
            fn handle(event: $crate::private::RawEvent) -> $crate::private::RawAnswer {
                $crate::private::run($handler, event)
            }
        }

        $crate::bindings::export!(TidemillHandler with_types_in $crate::bindings);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __batch_handler {
    ($run:path, $handler:path) => {
        struct TidemillBatchHandler;

        impl $crate::bindings::batch::exports::tidemill::function::batch_handler::Guest
            for TidemillBatchHandler
        {
            fn handle(
                events: ::std::vec::Vec<$crate::private::RawEvent>,
            ) -> ::std::vec::Vec<$crate::private::RawAnswer> {
                $run($handler, events)
            }
        }

        $crate::bindings::batch::export_batch!(
            TidemillBatchHandler with_types_in $crate::bindings::batch
        );
    };
}
