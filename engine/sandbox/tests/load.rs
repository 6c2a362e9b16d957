//! What a person reads whose component cannot be loaded.

mod common;

use std::error::Error;

use common::*;
use insta::assert_snapshot;
use tidemill_sandbox::Limits;

/// The whole message, with its causes, as the command line prints it.
fn refusal_with(bytes: &[u8], limits: Limits) -> String {
    let error = rig_with(4)
        .sandbox
        .load("resize", bytes, limits, Vec::new())
        .unwrap_err();
    let mut text = error.to_string();
    let mut cause = error.problem.source();
    while let Some(error) = cause {
        text.push_str(&format!("\ncaused by: {error}"));
        cause = error.source();
    }
    text
}

fn refusal(bytes: &[u8]) -> String {
    refusal_with(bytes, limits())
}

fn importing(name: &str) -> String {
    let outer = format!(r#"(import "{name}" (instance (export "f" (func))))"#);
    refusal(&parts(&outer, "", OK))
}

fn refusal_of(text: &str) -> String {
    refusal(&wat::parse_str(text).unwrap())
}

#[test]
fn nothing() {
    assert_snapshot!(refusal(b""), @"the component of function `resize` is empty; build it again, or copy it again if the copy was cut short");
}

#[test]
fn no_webassembly() {
    assert_snapshot!(refusal(b"<!DOCTYPE html><html>"), @"the component of function `resize` is not WebAssembly: it starts with `<!DOCTYPE html><`; deploy the .wasm file that your compiler made");
    assert_snapshot!(refusal(b"(component)"), @"the component of function `resize` is not WebAssembly: it starts with `(component)`; it looks like the text format; `wasm-tools parse IN.wat -o OUT.wasm` makes the binary");
    assert_snapshot!(refusal(b"\x7fELF\x02\x01\x01\0"), @"the component of function `resize` is not WebAssembly: it starts with the bytes [7f, 45, 4c, 46, 02, 01, 01, 00]; it is a program for this machine (or an already compiled component); deploy the .wasm file");
    assert_snapshot!(refusal(b"\x89PNG\r\n\x1a\n"), @"the component of function `resize` is not WebAssembly: it starts with the bytes [89, 50, 4e, 47, 0d, 0a, 1a, 0a]; deploy the .wasm file that your compiler made");
}

#[test]
fn a_core_module() {
    assert_snapshot!(refusal_of("(module)"), @"the component of function `resize` is a core WebAssembly module, not a component; build it with `cargo build --target wasm32-wasip2`, or make a component of the module: `wasm-tools component new MODULE.wasm -o COMPONENT.wasm`");
}

#[test]
fn damaged() {
    let whole = component(OK);
    assert_snapshot!(refusal(&whole[..whole.len() / 2]), @r"
    the component of function `resize` does not compile: it is damaged, or it uses a feature of WebAssembly that this engine does not have, such as the async functions of WASI 0.3; build it again for WASI 0.2
    caused by: failed to parse WebAssembly module
    caused by: unexpected end-of-file (at offset 0x140)
    ");
    assert_snapshot!(refusal(b"\0asm\x0a\0\x01\0"), @r"
    the component of function `resize` does not compile: it is damaged, or it uses a feature of WebAssembly that this engine does not have, such as the async functions of WASI 0.3; build it again for WASI 0.2
    caused by: failed to parse WebAssembly module
    caused by: unknown binary version:    0x1000a (at offset 0x4)
    ");
    assert_snapshot!(refusal(b"\0asm"), @r"
    the component of function `resize` does not compile: it is damaged, or it uses a feature of WebAssembly that this engine does not have, such as the async functions of WASI 0.3; build it again for WASI 0.2
    caused by: failed to parse WebAssembly module
    caused by: unexpected end-of-file (at offset 0x4)
    ");
}

#[test]
fn no_handler() {
    assert_snapshot!(refusal_of("(component)"), @"the component of function `resize` has no handler: it exports nothing, and a function exports `tidemill:function/handler@0.1.0` or `tidemill:function/batch-handler@0.1.0`; build it for the world `function` or `batch-function` of the package `tidemill:function`");
    let text = r#"(component
        (import "wasi:cli/environment@0.2.12" (instance $i))
        (export "wasi:cli/run@0.2.12" (instance $i))
        (export "wasi:http/incoming-handler@0.2.12" (instance $i)))"#;
    assert_snapshot!(refusal_of(text), @"the component of function `resize` has no handler: it exports `wasi:cli/run@0.2.12` and `wasi:http/incoming-handler@0.2.12`, and a function exports `tidemill:function/handler@0.1.0` or `tidemill:function/batch-handler@0.1.0`; build it for the world `function` or `batch-function` of the package `tidemill:function`");
}

#[test]
fn another_version_of_the_handler() {
    let text = r#"(component
        (import "wasi:cli/environment@0.2.12" (instance $i))
        (export "tidemill:function/handler@0.7.0" (instance $i)))"#;
    assert_snapshot!(refusal_of(text), @"the component of function `resize` exports `tidemill:function/handler@0.7.0`, and this engine has `tidemill:function/handler@0.1.0`; build it against this engine's version of the package `tidemill:function`");
}

#[test]
fn another_version_of_the_batch_handler() {
    let text = r#"(component
        (import "wasi:cli/environment@0.2.12" (instance $i))
        (export "tidemill:function/batch-handler@0.7.0" (instance $i)))"#;
    assert_snapshot!(refusal_of(text), @"the component of function `resize` exports `tidemill:function/batch-handler@0.7.0`, and this engine has `tidemill:function/batch-handler@0.1.0`; build it against this engine's version of the package `tidemill:function`");
}

#[test]
fn a_handler_of_other_types() {
    let text = r#"(component
        (core module $m (func (export "handle")))
        (core instance $i (instantiate $m))
        (func $handle (canon lift (core func $i "handle")))
        (instance $handler (export "handle" (func $handle)))
        (export "tidemill:function/handler@0.1.0" (instance $handler)))"#;
    assert_snapshot!(refusal_of(text), @"the component of function `resize` exports `tidemill:function/handler@0.1.0` with other types than this engine: expected 1-tuple, found 0-tuple; build it against the WIT files of this engine");
    let batch = text.replace("function/handler@", "function/batch-handler@");
    assert_snapshot!(refusal_of(&batch), @"the component of function `resize` exports `tidemill:function/batch-handler@0.1.0` with other types than this engine: expected 1-tuple, found 0-tuple; build it against the WIT files of this engine");
}

#[test]
fn imports_that_nobody_offers() {
    assert_snapshot!(importing("wasi:http/outgoing-handler@0.2.3"), @"the component of function `resize` imports `wasi:http/outgoing-handler@0.2.3`, which this engine does not have; it has the interfaces of `tidemill:function`, `wasi:keyvalue`, `wasi:config` and WASI 0.2 without HTTP");
    assert_snapshot!(importing("wasi:keyvalue/watch@0.2.0-draft2"), @"the component of function `resize` imports `wasi:keyvalue/watch@0.2.0-draft2`, which this engine does not have; of that package it has `wasi:keyvalue/store@0.2.0-draft2`, `wasi:keyvalue/atomics@0.2.0-draft2` and `wasi:keyvalue/batch@0.2.0-draft2`");
    assert_snapshot!(importing("tidemill:functions/emit@0.1.0"), @"the component of function `resize` imports `tidemill:functions/emit@0.1.0`, which this engine does not have; near it are `tidemill:function/emit@0.1.0`, `tidemill:function/types@0.1.0` and `tidemill:function/bucket@0.1.0`");
    assert_snapshot!(importing("acme:billing/ledger"), @"the component of function `resize` imports `acme:billing/ledger`, which this engine does not have; it has the interfaces of `tidemill:function`, `wasi:keyvalue`, `wasi:config` and WASI 0.2 without HTTP");
}

#[test]
fn imports_in_another_version() {
    assert_snapshot!(importing("tidemill:function/emit@0.3.0"), @"the component of function `resize` imports `tidemill:function/emit@0.3.0`, and this engine has `tidemill:function/emit@0.1.0`; build it against this engine's version of the package `tidemill:function`");
    assert_snapshot!(importing("wasi:keyvalue/store@0.2.0-draft"), @"the component of function `resize` imports `wasi:keyvalue/store@0.2.0-draft`, and this engine has `wasi:keyvalue/store@0.2.0-draft2`; build it against this engine's version of the package `wasi:keyvalue`");
    assert_snapshot!(importing("wasi:cli/stdout@0.3.0"), @"the component of function `resize` imports `wasi:cli/stdout@0.3.0`, and this engine has `wasi:cli/stdout@0.2.12`; build it against this engine's version of the package `wasi:cli`");
}

#[test]
fn imports_with_other_types() {
    let outer = r#"(import "tidemill:function/log@0.1.0" (instance
        (export "log" (func (param "text" string)))))"#;
    assert_snapshot!(refusal(&parts(outer, "", OK)), @"the component of function `resize` imports `tidemill:function/log@0.1.0` with other types than this engine: instance export `log` has the wrong type: type mismatch with parameters: expected 3-tuple, found 1-tuple; build it against the WIT files of this engine");
    let outer = r#"(import "tidemill:function/log@0.1.0" (instance
        (export "flush" (func))))"#;
    assert_snapshot!(refusal(&parts(outer, "", OK)), @"the component of function `resize` imports `tidemill:function/log@0.1.0` with other types than this engine: instance export `flush` has the wrong type: function implementation is missing; build it against the WIT files of this engine");
}

#[test]
fn more_memory_than_its_limit() {
    let small = Limits {
        memory: MIB,
        ..limits()
    };
    let bytes = component(&OK.replace(
        "(memory (export \"memory\") 1)",
        "(memory (export \"memory\") 17)",
    ));
    assert_snapshot!(refusal_with(&bytes, small), @"the component of function `resize` needs 1088 KiB of memory to start, and its limit is 1 MiB; raise `memory` of the function, or build it with less initial memory");
}

#[test]
fn more_parts_than_the_engine_has() {
    let memories = "(memory 0)".repeat(4);
    assert_snapshot!(refusal(&component(&format!("{OK} {memories}"))), @"the component of function `resize` is composed of too many parts: one instance takes 5 memories and 0 tables, and all instances of this engine together have 4 and 16; compose it of fewer");
}
