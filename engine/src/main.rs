//! The `tidemill` binary.

use std::{env, process::ExitCode};

/// Events are many small allocations that one thread makes and another one frees: a tenth of the work
/// of an event was in libc's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The stack of threads that libraries start, in bytes, of which only what is used is memory. lapin
/// reads the headers of a message by recursion: with less, one whose headers are nested as deep as a
/// frame has room for would end the process.
const STACK: &str = "268435456";

fn main() -> ExitCode {
    if env::var_os("RUST_MIN_STACK").is_none() {
        // SAFETY: no other thread runs yet that could read the environment meanwhile.
        unsafe { env::set_var("RUST_MIN_STACK", STACK) };
    }
    tidemill::cli::main()
}
