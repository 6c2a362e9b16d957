//! `tidemill:function/batch`: which event of a batch a handler is at.

use super::generated::tidemill::function::batch::Host;
use crate::{
    batch::{Batch, Misuse},
    state::State,
};

impl State {
    fn batch(&mut self, call: &'static str) -> Result<&mut Batch, Misuse> {
        self.batch.as_mut().ok_or(Misuse::NoBatch { call })
    }
}

impl Host for State {
    fn begin(&mut self, event: u32) -> wasmtime::Result<()> {
        self.batch("begin")?.begin(event)?;
        self.output.forget_words();
        Ok(())
    }

    fn discard(&mut self, event: u32) -> wasmtime::Result<()> {
        Ok(self.batch("discard")?.discard(event)?)
    }
}
