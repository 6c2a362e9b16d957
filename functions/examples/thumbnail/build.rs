//! Chooses the stack of the guest.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        // The image decoders keep tables on it; 1 MiB, the default, would only make the first page of the heap far away.
        println!("cargo::rustc-link-arg-cdylib=-zstack-size=262144");
    }
}
