//! What a guest may import, bound to the engine's [`HostCalls`](tidemill_core::host::HostCalls).
//!
//! One file for each package of interfaces. They translate and count; the engine decides. Functions are
//! async only where the engine may have to wait.

mod batch;
mod bucket;
mod config;
mod emit;
pub(crate) mod handler;
mod keyvalue;
mod log;

use tidemill_core::limits;
use wasmtime::component::{HasSelf, Linker};

use crate::state::State;

#[allow(missing_docs, reason = "generated")]
pub(crate) mod generated {
    wasmtime::component::bindgen!({
        path: "../../functions/wit",
        inline: "
            package tidemill:sandbox;
            world host {
                import tidemill:function/batch@0.1.0;
                import tidemill:function/bucket@0.1.0;
                import tidemill:function/emit@0.1.0;
                import tidemill:function/log@0.1.0;
                import wasi:config/store@0.2.0-rc.1;
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
                import wasi:keyvalue/batch@0.2.0-draft2;
            }
        ",
        world: "tidemill:sandbox/host",
        imports: {
            "tidemill:function/bucket.head": async | trappable,
            "tidemill:function/bucket.read": async | trappable,
            "tidemill:function/bucket.list": async | trappable,
            "wasi:keyvalue/store.[method]bucket.get": async | trappable,
            "wasi:keyvalue/store.[method]bucket.exists": async | trappable,
            "wasi:keyvalue/store.[method]bucket.list-keys": async | trappable,
            "wasi:keyvalue/atomics.[static]cas.new": async | trappable,
            "wasi:keyvalue/atomics.increment": async | trappable,
            "wasi:keyvalue/atomics.swap": async | trappable,
            "wasi:keyvalue/batch.get-many": async | trappable,
            default: trappable,
        },
        with: {
            "wasi:keyvalue/store.bucket": super::keyvalue::Store,
            "wasi:keyvalue/atomics.cas": super::keyvalue::Cas,
        },
    });
}

/// Every interface that [`link`] offers, for the messages about those that it does not.
pub(crate) const INTERFACES: &[&str] = &[
    "tidemill:function/types@0.1.0",
    "tidemill:function/batch@0.1.0",
    "tidemill:function/bucket@0.1.0",
    "tidemill:function/emit@0.1.0",
    "tidemill:function/log@0.1.0",
    "wasi:config/store@0.2.0-rc.1",
    "wasi:keyvalue/store@0.2.0-draft2",
    "wasi:keyvalue/atomics@0.2.0-draft2",
    "wasi:keyvalue/batch@0.2.0-draft2",
    "wasi:cli/environment@0.2.12",
    "wasi:cli/exit@0.2.12",
    "wasi:cli/stdin@0.2.12",
    "wasi:cli/stdout@0.2.12",
    "wasi:cli/stderr@0.2.12",
    "wasi:cli/terminal-input@0.2.12",
    "wasi:cli/terminal-output@0.2.12",
    "wasi:cli/terminal-stdin@0.2.12",
    "wasi:cli/terminal-stdout@0.2.12",
    "wasi:cli/terminal-stderr@0.2.12",
    "wasi:clocks/monotonic-clock@0.2.12",
    "wasi:clocks/wall-clock@0.2.12",
    "wasi:filesystem/preopens@0.2.12",
    "wasi:filesystem/types@0.2.12",
    "wasi:io/error@0.2.12",
    "wasi:io/poll@0.2.12",
    "wasi:io/streams@0.2.12",
    "wasi:random/insecure@0.2.12",
    "wasi:random/insecure-seed@0.2.12",
    "wasi:random/random@0.2.12",
    "wasi:sockets/instance-network@0.2.12",
    "wasi:sockets/ip-name-lookup@0.2.12",
    "wasi:sockets/network@0.2.12",
    "wasi:sockets/tcp@0.2.12",
    "wasi:sockets/tcp-create-socket@0.2.12",
    "wasi:sockets/udp@0.2.12",
    "wasi:sockets/udp-create-socket@0.2.12",
];

/// Offers every interface to the components of a sandbox.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    generated::Host_::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

/// Refuses a name that is too long.
fn name(what: &str, name: &str) -> Result<(), String> {
    if name.len() <= limits::NAME {
        return Ok(());
    }
    Err(format!(
        "the {what} has {} bytes; a name may have {}",
        name.len(),
        limits::NAME
    ))
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, component::Linker};

    use super::*;

    /// One name that each interface defines, in the order of [`INTERFACES`] but for the types alone.
    const DEFINES: &[&str] = &[
        "begin",
        "head",
        "emit",
        "log",
        "get",
        "open",
        "swap",
        "get-many",
        "get-environment",
        "exit",
        "get-stdin",
        "get-stdout",
        "get-stderr",
        "terminal-input",
        "terminal-output",
        "get-terminal-stdin",
        "get-terminal-stdout",
        "get-terminal-stderr",
        "subscribe-duration",
        "now",
        "get-directories",
        "filesystem-error-code",
        "[method]error.to-debug-string",
        "poll",
        "[method]output-stream.flush",
        "get-insecure-random-bytes",
        "insecure-seed",
        "get-random-bytes",
        "instance-network",
        "resolve-addresses",
        "network",
        "[method]tcp-socket.start-bind",
        "create-tcp-socket",
        "[method]udp-socket.start-bind",
        "create-udp-socket",
    ];

    #[test]
    fn everything_listed_is_offered() {
        let engine = Engine::default();
        let mut linker = Linker::new(&engine);
        link(&mut linker).unwrap();
        assert_eq!(INTERFACES.len(), DEFINES.len() + 1);
        for (interface, name) in INTERFACES[1..].iter().zip(DEFINES) {
            // A linker lets nothing be defined twice.
            let again = linker
                .instance(interface)
                .unwrap()
                .func_wrap(name, |_, (): ()| Ok(()));
            assert!(again.is_err(), "{interface} has no `{name}`");
        }
        linker
            .instance("acme:billing/ledger")
            .unwrap()
            .func_wrap("f", |_, (): ()| Ok(()))
            .unwrap();
    }
}
