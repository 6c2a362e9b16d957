//! Randomness of cryptographic quality, from the engine.

use crate::bindings::wasi::random::random;

/// So many random bytes.
pub fn bytes(length: usize) -> Vec<u8> {
    random::get_random_bytes(length as u64)
}

/// A random number.
pub fn u64() -> u64 {
    random::get_random_u64()
}
