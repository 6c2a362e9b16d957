//! A guest that handles batches well and badly on demand, for the tests of the engine; no example of a good handler. For
//! what an event by itself may ask for, `probe` takes batches too.
//!
//! What to do is the field `form` of the first event's JSON data. An unknown form is rejected, for all events.
//!
//! | `form` | does |
//! |---|---|
//! | `few`, `many` | answers ok to one event less, or more, than there are |
//! | `early-emit`, `early-set`, `early-write` | that effect before an event has begun |
//! | `early-read` | reads `key` before an event has begun, and answers it to each |
//! | `begin-beyond`, `discard-beyond` | names an event that the batch does not have |
//! | `to-and-fro` | begins the events from the last to the first and emits for each, then does it again |
//! | `halves` | sets `key` to the index of each event and emits it; every second event then fails, and each answers what it read of `key` before |
//! | `all-fail` | rejects the first event, and then fails as a whole |
//! | `unfinished` | begins the second event, then panics |

use serde::Deserialize;
use tidemill_sdk::{
    Batch, Failure, Reply,
    bindings::{batch as bindings, batch::tidemill::function::batch},
    bucket, emit, kv,
    private::{RawAnswer, RawEvent, run_whole},
};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Order {
    form: String,
}

fn handle(batch: &mut Batch) -> Result<(), Failure> {
    let order: Order = match batch.events().first() {
        Some(first) => first.json()?,
        None => Order::default(),
    };
    match &*order.form {
        "few" | "many" | "" => {}
        "early-emit" => emit("early")?,
        "early-set" => kv::open("probe")?.set("key", "early")?,
        "early-write" => bucket::open("probe").write("key", b"early")?,
        "early-read" => {
            let read = kv::open("probe")?.get("key")?;
            batch.each(|_, _| Ok(read.clone()));
        }
        "begin-beyond" => batch::begin(length(batch)),
        "discard-beyond" => batch::discard(length(batch)),
        "to-and-fro" => {
            for _ in 0..2 {
                for index in (0..batch.events().len()).rev() {
                    emit(batch.begin(index).id())?;
                }
            }
        }
        "halves" => batch.each(|index, event| {
            let store = kv::open("probe")?;
            let before = store.get("key")?;
            store.set("key", index.to_string())?;
            emit(event.id())?;
            if index % 2 == 1 {
                return Err(Failure::reject("every second"));
            }
            Ok(Reply::of(before.unwrap_or_default()))
        }),
        "all-fail" => {
            batch.begin(0);
            emit("first")?;
            batch.fail(0, Failure::reject("the first"));
            batch.begin(1);
            emit("second")?;
            return Err(Failure::retry("all"));
        }
        "unfinished" => {
            batch.begin(0);
            emit("first")?;
            panic!("at `{}`", batch.begin(1).id());
        }
        unknown => {
            return Err(Failure::reject(format_args!(
                "the probe has no `{unknown}`"
            )));
        }
    }
    Ok(())
}

fn emit(subject: &str) -> Result<(), Failure> {
    emit::event("probe.made").subject(subject).send()?;
    Ok(())
}

fn length(batch: &Batch) -> u32 {
    batch.events().len() as u32
}

tidemill_sdk::__allocator!(1 << 20);

struct Probe;

/// By hand, as the SDK never answers more or less than it was asked.
impl bindings::exports::tidemill::function::batch_handler::Guest for Probe {
    fn handle(events: Vec<RawEvent>) -> Vec<RawAnswer> {
        let form = |events: &[RawEvent]| {
            let data = &events.first()?.data;
            Some(serde_json::from_slice::<Order>(data).ok()?.form)
        };
        let form = form(&events);
        let mut answers = run_whole(handle, events);
        match form.as_deref() {
            Some("few") => drop(answers.pop()),
            Some("many") => answers.push(Ok(None)),
            _ => {}
        }
        answers
    }
}

bindings::export_batch!(Probe with_types_in bindings);
