//! A guest that behaves and misbehaves on demand, for the tests of the engine; no example of a good handler.
//!
//! It takes events one by one and in batches. What to do is the field `do` of the event's JSON data, else of the JSON in the setting `ORDER`, else the event's type (a
//! leading `probe.` is dropped); the other fields of [`Order`] say how. An unknown order is rejected. Replies are JSON unless
//! said otherwise.
//!
//! | `do` | does | uses |
//! |---|---|---|
//! | `follow` | takes the order from the JSON in the object that triggered the event | |
//! | `again` | writes an object of the next number: `1` after an object that is no number | `bucket` |
//! | `tally` | adds one to `key` and to the event's subject in the store, and writes an object of that subject | `store`, `key`, `bucket` |
//! | `count` | adds one to `<key>:<event id>` and, if there is a `key`, to `key` and `<key>@<subject>` in the store, and emits an event of `type`, if that is not empty, with the event's id as subject | `store`, `key`, `type` |
//! | `append` | fails by `chance`, in one of several ways; else appends `count` to the list at `key` in the store | `store`, `key`, `count`, `chance` |
//! | `append-later` | fails at the first attempt, to be tried again after `ms`; then the same | `store`, `key`, `count`, `ms` |
//! | `ok` | answers nothing | |
//! | `echo` | answers the data as they are | |
//! | `event` | answers what it sees of the event and its delivery | |
//! | `status` | answers with an HTTP status, a header `x-probe` and `text` as body | `status`, `text` |
//! | `fail-until` | retries until this attempt, then ok | `count` |
//! | `retry`, `retry-after`, `reject` | fails so | `text`, `ms` |
//! | `trap` | panics | `text` |
//! | `stack-overflow` | recurses until the stack is full | |
//! | `spin` | loops forever | |
//! | `busy` | computes for a while, by the monotonic clock | `ms` |
//! | `sleep` | waits | `ms` |
//! | `memory-bomb` | allocates and touches memory until it is denied | |
//! | `allocate` | allocates and touches so much, then ok | `bytes` |
//! | `reply-big`, `emit-big`, `write-big` | answers, emits or writes so many bytes | `bytes` |
//! | `memory` | answers the pages of memory before and after a small work | |
//! | `counter` | get, add one, set, on the event's subject in the store; answers the new value | `store` |
//! | `increment` | the same by the atomic operation | `store`, `key`, `count` |
//! | `update` | the same by compare and swap | `store`, `key` |
//! | `kv-get`, `kv-set`, `kv-delete`, `kv-exists`, `kv-keys` | that operation | `store`, `key`, `text` |
//! | `kv-many` | sets `count` keys `<key><n>` in one call, reads them in one, deletes the first | `store`, `key`, `count` |
//! | `emit` | emits events of type `type` with subjects 0, 1, ...; answers their ids | `count`, `type`, `text` |
//! | `emit-status` | emits one event and answers with a status | `type`, `status` |
//! | `emit-then-reject`, `set-then-trap` | an effect, then a failure that must undo it | |
//! | `read`, `read-range`, `head`, `stream`, `list` | that operation; `stream` answers size and sum of bytes | `bucket`, `key`, `from`, `bytes` |
//! | `read-event-object` | answers the object that triggered the event | |
//! | `write`, `delete` | that operation | `bucket`, `key`, `text` |
//! | `write-read` | writes, then reads its own write | `bucket`, `key`, `text` |
//! | `config` | answers the value of `key`, or all values | `key` |
//! | `log` | logs `text` at every level, with a field `n` | `text` |
//! | `random` | answers a random number and 16 random bytes | |
//! | `time` | answers wall and monotonic time in milliseconds | |

use std::{hint::black_box, io::Read, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use tidemill_sdk::{
    Event, Failure, Reply, batch_handler, bucket, clock, config, emit, kv, log, random,
};

/// How to do what was ordered. Every field has a default, so that an event needs to say only what matters.
#[derive(Deserialize)]
#[serde(default)]
struct Order {
    r#do: String,
    bucket: String,
    bytes: usize,
    /// In percent.
    chance: u64,
    count: usize,
    from: u64,
    key: String,
    ms: u64,
    status: u16,
    store: String,
    text: String,
    r#type: String,
}

impl Default for Order {
    fn default() -> Self {
        Self {
            r#do: String::new(),
            bucket: "probe".into(),
            bytes: 1 << 20,
            chance: 0,
            count: 1,
            from: 0,
            key: "key".into(),
            ms: 100,
            status: 200,
            store: "probe".into(),
            text: "as ordered".into(),
            r#type: "probe.made".into(),
        }
    }
}

fn probe(event: Event) -> Result<Option<Reply>, Failure> {
    let mut order: Order = event.json().unwrap_or_default();
    if order.r#do.is_empty()
        && let Some(given) = config::get("ORDER")?
    {
        order = read_order(given.as_bytes())?;
    }
    if order.r#do == "follow" {
        order = read_order(&event.object()?.read()?)?;
    }
    if order.r#do.is_empty() {
        let event_type = event.event_type();
        order.r#do = event_type
            .strip_prefix("probe.")
            .unwrap_or(event_type)
            .into();
    }
    let reply = match &*order.r#do {
        "ok" => return Ok(None),
        "echo" => Reply::of(event.into_data()),
        "event" => Reply::json(&describe(&event))?,
        "status" => Reply::of(order.text)
            .status(order.status)
            .header("x-probe", "1"),
        "fail-until" if (event.attempt() as usize) < order.count => {
            return Err(Failure::retry(format_args!("attempt {}", event.attempt())));
        }
        "fail-until" => return Ok(None),
        "retry" => return Err(Failure::retry(order.text)),
        "retry-after" => {
            return Err(Failure::retry_after(
                Duration::from_millis(order.ms),
                order.text,
            ));
        }
        "reject" => return Err(Failure::reject(order.text)),
        "trap" => panic!("{}", order.text),
        "stack-overflow" => Reply::json(&recurse(0))?,
        "spin" => loop {
            black_box(());
        },
        "compute" => {
            for step in 0..order.count * 1000 {
                black_box(step);
            }
            return Ok(None);
        }
        "busy" => {
            let end = clock::monotonic() + Duration::from_millis(order.ms);
            while clock::monotonic() < end {}
            return Ok(None);
        }
        "sleep" => {
            clock::sleep(Duration::from_millis(order.ms));
            return Ok(None);
        }
        "memory-bomb" => {
            let mut held = Vec::new();
            loop {
                held.push(vec![1_u8; 1 << 20]);
                black_box(&held);
            }
        }
        "allocate" => {
            black_box(vec![1_u8; order.bytes]);
            return Ok(None);
        }
        "memory" => {
            let before = pages();
            let text = (0..100)
                .map(|n| n.to_string())
                .collect::<Vec<_>>()
                .join(" ");
            Reply::json(&json!({ "before": before, "after": pages(), "text": text }))?
        }
        "reply-big" => Reply::of(vec![b'x'; order.bytes]),
        "emit-big" => {
            emit::event(order.r#type)
                .data(vec![b'x'; order.bytes])
                .send()?;
            return Ok(None);
        }
        "emit" | "emit-then-reject" => {
            let ids = (0..order.count)
                .map(|n| {
                    emit::event(&*order.r#type)
                        .subject(n.to_string())
                        .data(&*order.text)
                        .send()
                })
                .collect::<Result<Vec<_>, _>>()?;
            if order.r#do == "emit-then-reject" {
                return Err(Failure::reject(order.text));
            }
            Reply::json(&ids)?
        }
        "emit-status" => {
            emit::event(order.r#type).send()?;
            Reply::of(order.text).status(order.status)
        }
        "config" if order.key == "key" => Reply::json(&config::get_all()?)?,
        "config" => Reply::json(&config::get(&order.key)?)?,
        "log" => {
            log::trace!("{}", order.text; n = 0);
            log::debug!("{}", order.text; n = 1);
            log::info!("{}", order.text; n = 2);
            log::warn!("{}", order.text; n = 3);
            log::error!("{}", order.text; n = 4);
            return Ok(None);
        }
        "random" => Reply::json(&json!({ "number": random::u64(), "bytes": random::bytes(16) }))?,
        "time" => {
            let (wall, monotonic) = (clock::now().as_millis(), clock::monotonic().as_millis());
            Reply::json(&json!({ "wall": wall as u64, "monotonic": monotonic as u64 }))?
        }
        "tally" => {
            let store = kv::open(&order.store)?;
            let subject = event.subject().unwrap_or("none");
            add_one(&store, &order.key)?;
            add_one(&store, subject)?;
            bucket::open(&*order.bucket).write(subject, b"done")?;
            return Ok(None);
        }
        "count" => {
            let store = kv::open(&order.store)?;
            let (key, subject) = (&order.key, event.subject().unwrap_or("none"));
            add_one(&store, &format!("{key}:{}", event.id()))?;
            if !key.is_empty() {
                add_one(&store, key)?;
                add_one(&store, &format!("{key}@{subject}"))?;
            }
            if !order.r#type.is_empty() {
                emit::event(order.r#type).subject(event.id()).send()?;
            }
            return Ok(None);
        }
        "append-later" if event.attempt() == 1 => {
            let after = Duration::from_millis(order.ms);
            return Err(Failure::retry_after(after, "the first time"));
        }
        "append" | "append-later" => {
            let dice = random::u64();
            if dice % 100 < order.chance {
                match dice / 100 % 4 {
                    0 => panic!("by chance"),
                    1 => return Err(Failure::retry_after(Duration::from_millis(30), "by chance")),
                    _ => return Err(Failure::retry("by chance")),
                }
            }
            let store = kv::open(&order.store)?;
            let mut list = store.get(&order.key)?.unwrap_or_default();
            list.extend(format!("{} ", order.count).into_bytes());
            store.set(&order.key, list)?;
            return Ok(None);
        }
        "again" => {
            let last = event.subject().and_then(|subject| subject.parse().ok());
            let next = last.map_or(1, |last: u64| last + 1);
            bucket::open(&*order.bucket).write(&next.to_string(), b"again")?;
            return Ok(None);
        }
        "counter" | "increment" | "update" | "kv-get" | "kv-set" | "kv-delete" | "kv-exists"
        | "kv-keys" | "kv-many" | "set-then-trap" => Reply::json(&key_value(&event, &order)?)?,
        _ => return objects(&event, &order).map(Some),
    };
    Ok(Some(reply))
}

fn read_order(json: &[u8]) -> Result<Order, Failure> {
    serde_json::from_slice(json).map_err(|error| Failure::reject(format_args!("no order: {error}")))
}

fn key_value(event: &Event, order: &Order) -> Result<Value, Failure> {
    let store = kv::open(&order.store)?;
    let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
    Ok(match &*order.r#do {
        "counter" => json!(add_one(&store, event.subject().unwrap_or(&order.key))?),
        "increment" => json!(store.increment(&order.key, order.count as i64)?),
        "update" => {
            let mut next = 0;
            store.update(&order.key, |value| {
                next = number(value) + 1;
                next.to_string().into_bytes()
            })?;
            json!(next)
        }
        "kv-get" => json!(store.get(&order.key)?.map(text)),
        "kv-set" => json!(store.set(&order.key, &order.text)?),
        "kv-delete" => json!(store.delete(&order.key)?),
        "kv-exists" => json!(store.exists(&order.key)?),
        "kv-keys" => json!(store.keys()?),
        "kv-many" => {
            let keys: Vec<_> = (0..order.count)
                .map(|n| format!("{}{n}", order.key))
                .collect();
            let pairs: Vec<_> = keys
                .iter()
                .map(|key| (key.clone(), order.text.clone().into_bytes()))
                .collect();
            store.set_many(&pairs)?;
            let found = store.get_many(&keys)?;
            store.delete_many(&keys[..keys.len().min(1)])?;
            let found: Vec<_> = found
                .into_iter()
                .map(|(key, value)| (key, value.map(text)))
                .collect();
            json!(found)
        }
        _ => {
            store.set(&order.key, &order.text)?;
            panic!("after setting `{}`", order.key)
        }
    })
}

/// Reads, adds one and writes, with nothing to keep two attempts apart but the engine.
fn add_one(store: &kv::Store, key: &str) -> Result<u64, Failure> {
    let next = number(store.get(key)?) + 1;
    store.set(key, next.to_string())?;
    Ok(next)
}

fn number(value: Option<Vec<u8>>) -> u64 {
    value
        .and_then(|value| String::from_utf8(value).ok()?.parse().ok())
        .unwrap_or(0)
}

fn objects(event: &Event, order: &Order) -> Result<Reply, Failure> {
    let (bucket, key) = (bucket::open(&*order.bucket), &*order.key);
    let object = |object: bucket::Object| json!({ "key": object.key, "size": object.size, "etag": object.etag, "modified_ms": object.modified_ms });
    Ok(match &*order.r#do {
        "read" => Reply::of(bucket.read(key)?),
        "read-range" => {
            Reply::of(bucket.read_range(key, order.from..order.from + order.bytes as u64)?)
        }
        "read-event-object" => Reply::of(event.object()?.read()?),
        "head" => Reply::json(&object(bucket.head(key)?))?,
        "list" => {
            let found = bucket
                .list(key)
                .map(|found| found.map(object))
                .collect::<Result<Vec<_>, _>>()?;
            Reply::json(&found)?
        }
        "stream" => {
            let mut reader = bucket.reader(key)?;
            let (mut size, mut sum, mut part) = (0_u64, 0_u64, vec![0; 64 << 10]);
            loop {
                match reader.read(&mut part)? {
                    0 => break,
                    count => {
                        size += count as u64;
                        sum += part[..count]
                            .iter()
                            .map(|byte| u64::from(*byte))
                            .sum::<u64>();
                    }
                }
            }
            Reply::json(&json!({ "size": size, "sum": sum }))?
        }
        "write" => Reply::json(&bucket.write(key, order.text.as_bytes())?)?,
        "write-big" => Reply::json(&bucket.write(key, &vec![b'x'; order.bytes])?)?,
        "write-read" => {
            bucket.write(key, order.text.as_bytes())?;
            Reply::of(bucket.read(key)?)
        }
        "delete" => Reply::json(&bucket.delete(key)?)?,
        unknown => {
            return Err(Failure::reject(format_args!(
                "the probe cannot `{unknown}`"
            )));
        }
    })
}

fn describe(event: &Event) -> Value {
    json!({
        "id": event.id(),
        "source": event.source(),
        "type": event.event_type(),
        "subject": event.subject(),
        "time_ms": event.time().as_millis() as u64,
        "datacontenttype": event.datacontenttype(),
        "traceparent": event.traceparent(),
        "headers": event.headers().collect::<Vec<_>>(),
        "data": String::from_utf8_lossy(event.data()),
        "delivery": event.delivery(),
        "trigger": event.trigger(),
        "attempt": event.attempt(),
    })
}

/// The size of the linear memory, in pages of 64 KiB.
fn pages() -> usize {
    #[cfg(target_family = "wasm")]
    return core::arch::wasm32::memory_size::<0>();
    #[cfg(not(target_family = "wasm"))]
    return 0;
}

/// Uses 1 KiB of stack per step, and something after the call, so that no step can be left out.
#[allow(unconditional_recursion, reason = "that is the order")]
fn recurse(depth: u64) -> u64 {
    let room = black_box([depth; 128]);
    recurse(depth + 1) + room[depth as usize % room.len()]
}

batch_handler!(each = probe, arena = 1 << 20);
