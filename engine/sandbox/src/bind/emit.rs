//! `tidemill:function/emit`: events that a handler makes.

use tidemill_core::host::{HostError, NewEvent};

use super::{
    generated::tidemill::function::{
        emit::{Error, Host, NewEvent as Emitted},
        types,
    },
    name,
};
use crate::state::State;

impl types::Host for State {}

impl Host for State {
    fn emit(&mut self, event: Emitted) -> wasmtime::Result<Result<String, Error>> {
        if let Err(refused) = name("event type", &event.type_) {
            return Ok(Err(Error::TooLarge(refused)));
        }
        let size = size(&event);
        if size as u64 > self.limits.payload {
            return Ok(Err(Error::TooLarge(format!(
                "the event has {size} bytes; an event may have {}",
                self.limits.payload
            ))));
        }
        self.spend(size)?;
        let event = NewEvent {
            kind: event.type_,
            subject: event.subject,
            datacontenttype: event.datacontenttype,
            headers: event.headers,
            data: event.data.into(),
        };
        Ok(self.host.emit(event).map_err(|error| match error {
            HostError::TooLarge(text) => Error::TooLarge(text),
            HostError::Denied(text) => Error::Denied(text),
            // The engine has no other reason; were there one, the interface has no other word for it.
            other => Error::Denied(other.to_string()),
        }))
    }
}

fn size(event: &Emitted) -> usize {
    let text = [
        Some(&event.type_),
        event.subject.as_ref(),
        event.datacontenttype.as_ref(),
    ];
    text.into_iter().flatten().map(String::len).sum::<usize>()
        + event
            .headers
            .iter()
            .map(|(n, v)| n.len() + v.len())
            .sum::<usize>()
        + event.data.len()
}
