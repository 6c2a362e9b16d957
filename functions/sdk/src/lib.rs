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
//! What it may reach are the modules of this crate and nothing else: the sandbox has no file system, no
//! environment and no clock of `std`. Effects in the engine's journal ([`kv`], [`emit`]) happen exactly once, when the
//! handler has answered ok; [objects](bucket) are written at least once.
//!
//! The crate also compiles for the host, so that the pure parts of a handler can be tested by `cargo test`;
//! calling the engine from there panics.

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
}

#[doc(hidden)]
pub mod private {
    //! What the macros of this crate expand to; not for use by hand.
    #[cfg(target_family = "wasm")]
    pub use crate::memory::{Allocator, allocator};
    pub use crate::run::run;
}

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
        #[cfg(target_family = "wasm")]
        #[global_allocator]
        static TIDEMILL_ALLOCATOR: $crate::private::Allocator = {
            static mut ARENA: [::core::mem::MaybeUninit<u8>; $bytes] =
                [::core::mem::MaybeUninit::uninit(); $bytes];
            // SAFETY: ARENA is named nowhere else.
            unsafe { $crate::private::allocator(&raw mut ARENA) }
        };

        struct TidemillHandler;

        impl $crate::bindings::exports::tidemill::function::handler::Guest for TidemillHandler {
            fn handle(
                event: $crate::bindings::tidemill::function::types::Event,
            ) -> ::core::result::Result<
                ::core::option::Option<$crate::bindings::tidemill::function::types::Reply>,
                $crate::bindings::tidemill::function::types::Failure,
            > {
                $crate::private::run($handler, event)
            }
        }

        $crate::bindings::export!(TidemillHandler with_types_in $crate::bindings);
    };
}
