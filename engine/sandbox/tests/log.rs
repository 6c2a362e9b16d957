//! The log of an attempt: its lines, its bounds, and the last words of a guest that breaks.

mod common;

use common::*;
use tidemill_core::{host::LogLevel, outcome::Outcome};
use tidemill_sandbox::Limits;

/// A handler that logs the same message at info level again and again.
fn logger(times: u32, bytes: u32) -> Vec<u8> {
    let outer = r#"
        (import "tidemill:function/log@0.1.0" (instance $log
            (type $l (enum "trace" "debug" "info" "warn" "error"))
            (export "level" (type $level (eq $l)))
            (export "log" (func (param "level" $level) (param "message" string)
                (param "fields" (list (tuple string string)))))))
        (core module $memory (memory (export "memory") 20))
        (core instance $memory (instantiate $memory))
        (core func $log (canon lower (func $log "log") (memory (core memory $memory "memory"))))
        (core instance $host (export "log" (func $log)))"#;
    let body = format!(
        r#"(import "memory" "memory" (memory 20))
           (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
           (export "memory" (memory 0))
           (func $handle (param i32) (result i32)
               (local $left i32)
               (memory.fill (i32.const 65536) (i32.const 0x61) (i32.const {bytes}))
               (local.set $left (i32.const {times}))
               (loop $again
                   (call $log (i32.const 2)
                       (i32.const 65536) (i32.const {bytes}) (i32.const 0) (i32.const 0))
                   (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                   (br_if $again (local.get $left)))
               (i32.const 0))"#
    );
    parts(
        outer,
        r#"(with "host" (instance $host)) (with "memory" (instance $memory))"#,
        &body,
    )
}

/// A handler that writes a text to standard output or error in pieces of 7 bytes, and then ends with
/// `end`.
fn writer(stream: &str, text: &str, end: &str) -> Vec<u8> {
    let outer = format!(
        r#"
        (import "wasi:io/error@0.2.12" (instance $error (export "error" (type (sub resource)))))
        (alias export $error "error" (type $error))
        (import "wasi:io/streams@0.2.12" (instance $streams
            (alias outer 1 $error (type $outer))
            (export "error" (type $e (eq $outer)))
            (export "output-stream" (type $o (sub resource)))
            (type $v (variant (case "last-operation-failed" (own $e)) (case "closed")))
            (export "stream-error" (type $failed (eq $v)))
            (export "[method]output-stream.blocking-write-and-flush"
                (func (param "self" (borrow $o)) (param "contents" (list u8))
                    (result (result (error $failed)))))))
        (alias export $streams "output-stream" (type $stream))
        (import "wasi:cli/{stream}@0.2.12" (instance $stdio
            (alias outer 1 $stream (type $outer))
            (export "output-stream" (type $o (eq $outer)))
            (export "get-{stream}" (func (result (own $o))))))
        (core module $memory (memory (export "memory") 2))
        (core instance $memory (instantiate $memory))
        (core func $get (canon lower (func $stdio "get-{stream}")))
        (core func $write (canon lower
            (func $streams "[method]output-stream.blocking-write-and-flush")
            (memory (core memory $memory "memory"))))
        (core instance $host (export "get" (func $get)) (export "write" (func $write)))"#
    );
    let length = text.len();
    let escaped: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let body = format!(
        r#"(import "memory" "memory" (memory 2))
           (import "host" "get" (func $get (result i32)))
           (import "host" "write" (func $write (param i32 i32 i32 i32)))
           (export "memory" (memory 0))
           (data (i32.const 65536) "{escaped}")
           (func $handle (param i32) (result i32)
               (local $stream i32) (local $at i32) (local $take i32)
               (local.set $stream (call $get))
               (loop $again
                   (local.set $take (i32.sub (i32.const {length}) (local.get $at)))
                   (if (i32.gt_u (local.get $take) (i32.const 7))
                       (then (local.set $take (i32.const 7))))
                   (call $write (local.get $stream)
                       (i32.add (i32.const 65536) (local.get $at)) (local.get $take)
                       (i32.const 512))
                   (local.set $at (i32.add (local.get $at) (local.get $take)))
                   (br_if $again (i32.lt_u (local.get $at) (i32.const {length}))))
               {end})"#
    );
    parts(
        &outer,
        r#"(with "host" (instance $host)) (with "memory" (instance $memory))"#,
        &body,
    )
}

#[tokio::test]
async fn lines_beyond_a_thousand_are_dropped_and_counted() {
    let rig = rig();
    let (finished, host) = run(&rig.load(&logger(1200, 5)), &event("any", "")).await;
    assert_eq!(finished.outcome, Outcome::Ok, "only lines are lost");
    let lines = host.lines();
    assert_eq!(lines.len(), 1001);
    assert!(lines[..1000].iter().all(|line| line == "aaaaa"));
    assert_eq!(
        lines[1000],
        "200 more lines of this attempt's log were dropped; an attempt may log 1000 lines and \
         1048576 bytes"
    );
}

#[tokio::test]
async fn a_log_of_long_lines_is_bounded_too() {
    let rig = rig();
    let (finished, host) = run(&rig.load(&logger(100, 100_000)), &event("any", "")).await;
    assert_eq!(finished.outcome, Outcome::Ok);
    let lines = host.lines();
    assert_eq!(
        lines.len(),
        65,
        "64 lines of 16 KiB are an eighth of the output limit"
    );
    assert!(
        lines[..64]
            .iter()
            .all(|line| line.len() == 16 << 10 && line.ends_with("a…"))
    );
    assert!(lines[64].starts_with("36 more lines"), "{}", lines[64]);
}

#[tokio::test]
async fn one_call_cannot_copy_more_than_the_output_limit() {
    let rig = rig();
    let tight = Limits {
        output: 100_000,
        ..limits()
    };
    let function = rig.load_with(&logger(1, 1_200_000), tight);
    let (finished, host) = run(&function, &event("any", "")).await;
    assert_eq!(finished.outcome, Outcome::TooMuchOutput { limit: 100_000 });
    assert!(host.lines().is_empty());
}

#[tokio::test]
async fn standard_output_and_error_are_lines_of_the_log() {
    let rig = rig();
    let text = "one\ntwo, which is longer\n\n  three \r\nfour without an end";
    let expected = [
        "one",
        "two, which is longer",
        "  three",
        "four without an end",
    ];
    for (stream, level) in [("stdout", LogLevel::Info), ("stderr", LogLevel::Warn)] {
        let function = rig.load(&writer(stream, text, "(i32.const 0)"));
        let (finished, host) = run(&function, &event("any", "")).await;
        assert_eq!(finished.outcome, Outcome::Ok);
        assert_eq!(host.lines(), expected);
        assert!(host.log.lock().unwrap().iter().all(|(l, ..)| *l == level));
    }
}

#[tokio::test]
async fn a_panic_on_standard_error_is_the_reason() {
    let rig = rig();
    let text = "connecting\n\nthread 'main' (1) panicked at src/lib.rs:7:5:\nno such color\nnote: run \
                with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
    let function = rig.load(&writer("stderr", text, "(unreachable)"));
    let (finished, _) = run(&function, &event("any", "")).await;
    let reason = "thread 'main' (1) panicked at src/lib.rs:7:5: no such color \
                  (wasm trap: wasm `unreachable` instruction executed)";
    assert_eq!(
        finished.outcome,
        Outcome::Trap {
            reason: reason.into()
        }
    );
}

#[tokio::test]
async fn what_was_said_before_a_timeout_is_in_the_log() {
    let rig = rig();
    let limit = std::time::Duration::from_millis(30);
    let bytes = writer("stdout", "half a li", "(loop (br 0)) (unreachable)");
    let function = rig.load_with(
        &bytes,
        Limits {
            timeout: limit,
            ..limits()
        },
    );
    let (finished, host) = run(&function, &event("any", "")).await;
    assert_eq!(finished.outcome, Outcome::Timeout { limit });
    assert_eq!(host.lines(), ["half a li"]);
}
