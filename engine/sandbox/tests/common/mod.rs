//! What the tests of the sandbox share: an engine in memory, small components, and the built guests.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tempfile::TempDir;
use tidemill_core::{
    BoxFuture,
    event::{Event, Field},
    host::{BatchCalls, ByteRange, HostCalls, HostError, LogLevel, NewEvent},
    ledger::Object,
    time::Timestamp,
};
use tidemill_sandbox::{
    Compiler, DeliveryInfo, Finished, Function, Limits, Sandbox, Settings, Spare,
};

pub const MIB: u64 = 1 << 20;

/// A sandbox with a cache of its own, which lives as long as this does.
pub struct Rig {
    pub sandbox: Sandbox,
    pub cache: TempDir,
}

pub fn rig() -> Rig {
    rig_with(100)
}

pub fn rig_with(instances: u32) -> Rig {
    rig_of(instances, 1 << 40)
}

/// With so much memory for all.
pub fn rig_of(instances: u32, memory: u64) -> Rig {
    let cache = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::new(Settings {
        instances,
        memory,
        cache: cache.path().to_owned(),
        compiler: Compiler::Here,
    })
    .unwrap();
    Rig { sandbox, cache }
}

impl Rig {
    pub fn load(&self, bytes: &[u8]) -> Function {
        self.load_with(bytes, limits())
    }

    pub fn load_with(&self, bytes: &[u8], limits: Limits) -> Function {
        self.sandbox
            .load("test", bytes, limits, vec![("COLOR".into(), "blue".into())])
            .unwrap()
    }
}

pub fn limits() -> Limits {
    Limits {
        memory: 32 * MIB,
        timeout: Duration::from_secs(30),
        output: 8 * MIB,
        payload: MIB,
    }
}

pub fn event(kind: &str, data: impl Into<Bytes>) -> Event {
    Event {
        id: "event-1".into(),
        source: "test".into(),
        kind: kind.into(),
        subject: Some("subject".into()),
        time: Timestamp(1_700_000_000_000),
        datacontenttype: Some("text/plain".into()),
        traceparent: None,
        hops: 0,
        headers: vec![("color".into(), "green".into())],
        data: data.into(),
    }
}

pub fn delivery() -> DeliveryInfo {
    DeliveryInfo {
        id: "delivery-1".into(),
        trigger: "trigger".into(),
        attempt: 3,
    }
}

/// Runs one event against an engine of its own.
pub async fn run(function: &Function, event: &Event) -> (Finished, Arc<Memory>) {
    let host = Arc::new(Memory::default());
    (
        function
            .run(event, &delivery(), host.clone(), &Spare::default())
            .await,
        host,
    )
}

/// A component whose handler is the core function `$handle (param $event i32) (result i32)`, given
/// with whatever else its module needs. It answers with the address of its result: 32 zero bytes are
/// ok without a reply, and so is the memory from 0 to 64 unless written to.
pub fn component(body: &str) -> Vec<u8> {
    parts("", "", body)
}

/// The same with imports: `outer` in the component, `inner` as arguments of its module.
pub fn parts(outer: &str, inner: &str, body: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            {outer}
            (core module $m
                {body}
                (global $next (mut i32) (i32.const 1024))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                    (global.set $next (i32.and
                        (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                    (global.get $next)
                    (global.set $next (i32.add (global.get $next) (local.get 3))))
                (export "handle" (func $handle)))
            (core instance $i (instantiate $m {inner}))
            (type $d (record (field "id" string) (field "trigger" string) (field "attempt" u32)))
            (export $delivery "delivery" (type $d))
            (type $e (record
                (field "id" string) (field "source" string) (field "type" string)
                (field "subject" (option string)) (field "time-ms" u64)
                (field "datacontenttype" (option string)) (field "traceparent" (option string))
                (field "headers" (list (tuple string string))) (field "data" (list u8))
                (field "delivery" $delivery)))
            (export $event "event" (type $e))
            (type $r (record (field "status" (option u16))
                (field "headers" (list (tuple string string))) (field "body" (list u8))))
            (export $reply "reply" (type $r))
            (type $t (record (field "after-ms" (option u64)) (field "reason" string)))
            (export $retry "retry" (type $t))
            (type $f (variant (case "retry" $retry) (case "reject" string)))
            (export $failure "failure" (type $f))
            (func $lifted (param "event" $event) (result (result (option $reply) (error $failure)))
                (canon lift (core func $i "handle")
                    (memory (core memory $i "memory"))
                    (realloc (core func $i "realloc"))))
            (instance $handler (export "handle" (func $lifted)))
            (export "tidemill:function/handler@0.1.0" (instance $handler)))"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// A handler that answers ok.
pub const OK: &str = r#"
    (memory (export "memory") 1)
    (func $handle (param i32) (result i32) (i32.const 0))"#;

/// A handler that never answers.
pub const LOOP: &str = r#"
    (memory (export "memory") 1)
    (func $handle (param i32) (result i32) (loop (br 0)) (unreachable))"#;

/// A handler that asks for 1 MiB more until it is refused, and then breaks.
pub const GREEDY: &str = r#"
    (memory (export "memory") 1)
    (func $handle (param i32) (result i32)
        (loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
        (unreachable))"#;

/// A handler that calls itself for ever.
pub const DEEP: &str = r#"
    (memory (export "memory") 1)
    (func $handle (param i32) (result i32)
        (i32.add (call $handle (local.get 0)) (i32.const 1)))"#;

/// A handler that executes `unreachable`.
pub const BROKEN: &str = r#"
    (memory (export "memory") 1)
    (func $handle (param i32) (result i32) (unreachable))"#;

/// A handler that sleeps so many milliseconds by WASI's clock, and then answers ok.
pub fn sleeper(milliseconds: u64) -> Vec<u8> {
    sleeper_with(milliseconds, "")
}

/// The same with more in its module.
pub fn sleeper_with(milliseconds: u64, more: &str) -> Vec<u8> {
    sleeper_doing(milliseconds, more, "")
}

/// The same, with something to do first.
pub fn sleeper_doing(milliseconds: u64, more: &str, first: &str) -> Vec<u8> {
    let outer = r#"
        (import "wasi:io/poll@0.2.12" (instance $poll
            (export "pollable" (type $p (sub resource)))
            (export "[method]pollable.block" (func (param "self" (borrow $p))))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.12" (instance $clock
            (alias outer 1 $pollable (type $o))
            (export "pollable" (type $p (eq $o)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
        (core func $block (canon lower (func $poll "[method]pollable.block")))
        (core func $subscribe (canon lower (func $clock "subscribe-duration")))
        (core instance $io (export "block" (func $block)) (export "subscribe" (func $subscribe)))"#;
    let body = format!(
        r#"(import "io" "block" (func $block (param i32)))
           (import "io" "subscribe" (func $subscribe (param i64) (result i32)))
           (memory (export "memory") 1)
           {more}
           (func $handle (param i32) (result i32)
               {first}
               (call $block (call $subscribe (i64.const {})))
               (i32.const 0))"#,
        milliseconds * 1_000_000
    );
    parts(outer, r#"(with "io" (instance $io))"#, &body)
}

/// A guest that `make functions` builds.
pub fn guest(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../functions/build")
        .join(name)
        .with_extension("wasm");
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; run `make functions` to build the guests",
            path.display()
        )
    })
}

/// An engine in memory, which keeps what it was told.
#[derive(Debug, Default)]
pub struct Memory {
    pub kv: Mutex<BTreeMap<(String, String), Bytes>>,
    pub objects: Mutex<BTreeMap<(String, String), Bytes>>,
    pub emitted: Mutex<Vec<NewEvent>>,
    pub log: Mutex<Vec<(LogLevel, String, Vec<Field>)>>,
    /// What handlers did, in its order: `begin 0`, `emit <subject>`, `set key`, `write key`, `discard 0`.
    pub acts: Mutex<Vec<String>>,
}

impl Memory {
    pub fn lines(&self) -> Vec<String> {
        self.log
            .lock()
            .unwrap()
            .iter()
            .map(|(_, line, _)| line.clone())
            .collect()
    }

    pub fn acts(&self) -> Vec<String> {
        self.acts.lock().unwrap().clone()
    }

    fn act(&self, act: String) {
        self.acts.lock().unwrap().push(act);
    }

    fn object(&self, bucket: &str, key: &str) -> Result<Bytes, HostError> {
        let objects = self.objects.lock().unwrap();
        objects
            .get(&(bucket.into(), key.into()))
            .cloned()
            .ok_or(HostError::NotFound)
    }
}

fn describe(key: &str, content: &Bytes) -> Object {
    Object {
        key: key.into(),
        etag: "1".into(),
        size: content.len() as u64,
        modified: Timestamp(0),
    }
}

/// A store or bucket called `forbidden` is not granted, and one called `missing` is not there.
fn granted(name: &str) -> Result<(), HostError> {
    match name {
        "forbidden" => Err(HostError::Denied("add \"forbidden\" to allow.store".into())),
        "missing" => Err(HostError::NotFound),
        _ => Ok(()),
    }
}

impl HostCalls for Memory {
    fn kv_open(&self, store: &str) -> Result<(), HostError> {
        granted(store)
    }

    fn kv_get<'a>(
        &'a self,
        store: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, HostError>> {
        let value = self
            .kv
            .lock()
            .unwrap()
            .get(&(store.into(), key.into()))
            .cloned();
        Box::pin(async move { Ok(value) })
    }

    fn kv_set(&self, store: &str, key: &str, value: Option<Bytes>) -> Result<(), HostError> {
        self.act(format!("set {key}"));
        let (mut kv, at) = (self.kv.lock().unwrap(), (store.into(), key.into()));
        match value {
            Some(value) => kv.insert(at, value),
            None => kv.remove(&at),
        };
        Ok(())
    }

    fn kv_keys<'a>(
        &'a self,
        store: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<String>, HostError>> {
        let kv = self.kv.lock().unwrap();
        let keys = kv
            .keys()
            .filter(|(s, k)| s == store && after.is_none_or(|a| k.as_str() > a));
        let keys = keys.map(|(_, k)| k.clone()).take(1000).collect();
        Box::pin(async move { Ok(keys) })
    }

    fn object_head<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Object, HostError>> {
        let found = granted(bucket).and_then(|()| self.object(bucket, key));
        Box::pin(async move { Ok(describe(key, &found?)) })
    }

    fn object_read<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
        range: Option<ByteRange>,
        limit: u64,
    ) -> BoxFuture<'a, Result<Bytes, HostError>> {
        let found = granted(bucket).and_then(|()| self.object(bucket, key));
        Box::pin(async move {
            let content = found?;
            let length = content.len();
            let (from, to) = range.map_or((0, length), |range| {
                let from = length.min(range.offset as usize);
                (from, length.min(from + range.length as usize))
            });
            if (to - from) as u64 > limit {
                return Err(HostError::TooLarge(format!(
                    "an object may have {limit} bytes"
                )));
            }
            Ok(content.slice(from..to))
        })
    }

    fn object_write(
        &self,
        bucket: &str,
        key: &str,
        content: Option<Bytes>,
    ) -> Result<(), HostError> {
        granted(bucket)?;
        self.act(format!("write {key}"));
        let (mut objects, at) = (self.objects.lock().unwrap(), (bucket.into(), key.into()));
        match content {
            Some(content) => objects.insert(at, content),
            None => objects.remove(&at),
        };
        Ok(())
    }

    fn object_list<'a>(
        &'a self,
        bucket: &'a str,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Object>, HostError>> {
        let objects = self.objects.lock().unwrap();
        let listed = objects
            .iter()
            .filter(|((b, key), _)| {
                b == bucket && key.starts_with(prefix) && after.is_none_or(|a| key.as_str() > a)
            })
            .map(|((_, key), content)| describe(key, content))
            .collect();
        Box::pin(async move { Ok(listed) })
    }

    fn emit(&self, event: NewEvent) -> Result<String, HostError> {
        if event.kind == "forbidden" {
            return Err(HostError::Denied("add \"forbidden\" to allow.emit".into()));
        }
        self.act(match &event.subject {
            Some(subject) => format!("emit {subject}"),
            None => "emit".into(),
        });
        let mut emitted = self.emitted.lock().unwrap();
        emitted.push(event);
        Ok(format!("emitted-{}", emitted.len()))
    }

    fn log(&self, level: LogLevel, message: &str, fields: &[Field]) {
        self.log
            .lock()
            .unwrap()
            .push((level, message.into(), fields.to_vec()));
    }
}

impl BatchCalls for Memory {
    fn begin(&self, event: usize) {
        self.act(format!("begin {event}"));
    }

    fn discard(&self, event: usize) {
        self.act(format!("discard {event}"));
    }
}
