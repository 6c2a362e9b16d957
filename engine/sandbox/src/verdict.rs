//! From the way a guest ended to the outcome of the attempt, in words for a person.
//!
//! Nothing here runs a guest, and nothing decides whether an event is tried again.

use tidemill_core::{
    event::Field,
    host::LogLevel,
    limits,
    outcome::{Outcome, Reply},
};
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::{
    batch::Answered,
    bind::handler::{self, Answer, ManyAnswers, OneAnswer},
    load::Problem,
    output::cut,
    run::Entry,
    state::State,
};

/// The outcome of an attempt, and its reply if that is ok. `ended` is absent if its time was up.
pub(crate) fn of_one(
    ended: Option<wasmtime::Result<OneAnswer>>,
    state: &State,
) -> (Outcome, Option<Reply>) {
    let answered = whole(ended, state).and_then(|(answer,)| answered(answer, state));
    match answered {
        Ok(Answered { outcome, reply }) => (outcome, reply),
        Err(outcome) => (outcome, None),
    }
}

/// The answer to each of so many events, or the one outcome of the call.
pub(crate) fn of_many(
    ended: Option<wasmtime::Result<ManyAnswers>>,
    events: usize,
    state: &State,
) -> Result<Vec<Answered>, Outcome> {
    let (answers,) = whole(ended, state)?;
    if answers.len() != events {
        return Err(Outcome::Miscounted {
            events,
            answers: answers.len(),
        });
    }
    answers
        .into_iter()
        .map(|answer| answered(answer, state))
        .collect()
}

/// The outcome of a call that the component has no entry for. Who deploys it asks before.
pub(crate) fn cannot(entry: Entry) -> Outcome {
    Outcome::Unavailable {
        reason: format!("its component {}", Problem::OtherHandler { needed: entry }),
    }
}

/// What a call answered, if it did and kept to its limits.
fn whole<R>(ended: Option<wasmtime::Result<R>>, state: &State) -> Result<R, Outcome> {
    let limits = state.limits;
    // Whatever a guest makes of the refusal, and of everything after it.
    if state.output.exceeded() {
        return Err(too_much(limits.output));
    }
    Err(match ended {
        None => Outcome::Timeout {
            limit: limits.timeout,
        },
        Some(Err(error)) if copied_too_much(&error) => too_much(limits.output),
        Some(Err(_)) if state.limiter.denied() => Outcome::OutOfMemory {
            limit: limits.memory,
        },
        Some(Err(error)) => broke(&error, state),
        Some(Ok(answer)) => return Ok(answer),
    })
}

/// The answer to one event; or the outcome of the whole call, if this reply is what passes its limit.
fn answered(answer: Answer, state: &State) -> Result<Answered, Outcome> {
    let limits = state.limits;
    let reply = match answer {
        Ok(reply) => reply,
        Err(failure) => {
            return Ok(Answered {
                outcome: failure.into(),
                reply: None,
            });
        }
    };
    let size = reply.as_ref().map_or(0, handler::Reply::size);
    if size as u64 > limits.payload {
        return Ok(Answered {
            outcome: too_much(limits.payload),
            reply: None,
        });
    }
    state
        .output
        .spend(size)
        .map_err(|_| too_much(limits.output))?;
    Ok(Answered {
        outcome: Outcome::Ok,
        reply: reply.map(Into::into),
    })
}

fn too_much(limit: u64) -> Outcome {
    Outcome::TooMuchOutput { limit }
}

/// Whether a guest was stopped while it copied more to the host than its fuel allows.
fn copied_too_much(error: &wasmtime::Error) -> bool {
    // wasmtime keeps the type of this error to itself; a test holds it to these words.
    error
        .root_cause()
        .to_string()
        .contains("fuel allocated for hostcalls has been exhausted")
}

/// Says that an error came from making the instance.
#[derive(Debug, thiserror::Error)]
#[error("the instance did not start")]
pub(crate) struct NotStarted;

/// The outcome of a guest that broke, and a line in its log that says where.
fn broke(error: &wasmtime::Error, state: &State) -> Outcome {
    let what = match (
        error.downcast_ref::<Trap>(),
        error.downcast_ref::<I32Exit>(),
    ) {
        (Some(Trap::StackOverflow), _) => "stack overflow: it calls itself too deep".to_owned(),
        (Some(trap), _) if below_memory(error) => {
            format!("stack overflow, most likely: it reached below its memory ({trap})")
        }
        (Some(trap), _) => trap.to_string(),
        (None, Some(I32Exit(status))) => format!("it exited with status {status}"),
        (None, None) if error.is::<NotStarted>() => {
            return Outcome::Unavailable {
                reason: error.root_cause().to_string(),
            };
        }
        (None, None) => error.root_cause().to_string(),
    };
    let reason = match state.output.last_words() {
        Some(words) => format!("{words} ({what})"),
        None => what,
    };
    let reason = cut(&reason, limits::REASON).into_owned();
    let fields: Vec<_> = error
        .downcast_ref::<WasmBacktrace>()
        .map(frames)
        .into_iter()
        .collect();
    state.host.log(
        LogLevel::Error,
        &format!("the handler broke: {reason}"),
        &fields,
    );
    Outcome::Trap { reason }
}

/// Whether the guest reached for an address just below zero, which wraps around to the top of 32 bits.
/// Linkers put the stack of a guest first, so that its end is there. What the instruction adds to the
/// wrapped address may carry it past the top.
fn below_memory(error: &wasmtime::Error) -> bool {
    // The type is private to wasmtime; a test holds it to these words.
    const FAULT: &str = "memory fault at wasm address 0x";
    const BELOW: std::ops::RangeInclusive<u64> = 0xff00_0000..=0x1_00ff_ffff;
    let address = error.chain().find_map(|cause| {
        let text = cause.to_string();
        let hex = text.strip_prefix(FAULT)?.split(' ').next()?;
        u64::from_str_radix(hex, 16).ok()
    });
    address.is_some_and(|address| BELOW.contains(&address))
}

/// The innermost frames, demangled, one in a line.
fn frames(backtrace: &WasmBacktrace) -> Field {
    let text = backtrace.to_string();
    // The first line is a heading.
    let frames: Vec<&str> = text.lines().skip(1).map(str::trim).collect();
    ("backtrace".to_owned(), frames.join("\n"))
}
