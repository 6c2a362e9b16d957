//! What the host keeps for one attempt while its instance lives.

use std::sync::Arc;

use tidemill_core::host::HostCalls;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::{
    batch::Batch,
    limiter::Limiter,
    output::{Output, Stream},
    run::{Config, Limits},
    seat::Share,
    stdio::{Current, Lines},
    turns::Turn,
};

/// The most resources (open stores, streams, timers) that an attempt may hold at a time: each takes
/// some hundred bytes of the host.
const RESOURCES: usize = 16 << 10;

/// The host's side of one instance.
pub(crate) struct State {
    pub(crate) host: Arc<dyn HostCalls>,
    pub(crate) output: Arc<Output>,
    pub(crate) limiter: Limiter,
    /// Whether it may compute on, once it has used up a tick.
    pub(crate) turn: Turn,
    pub(crate) limits: Limits,
    pub(crate) config: Config,
    pub(crate) table: ResourceTable,
    /// Absent if it handles one event.
    pub(crate) batch: Option<Batch>,
    /// Made when a guest first needs it: most never do, and it costs a microsecond or two.
    wasi: Option<(WasiCtx, Arc<Current>)>,
}

impl State {
    pub(crate) fn new(
        host: Arc<dyn HostCalls>,
        limits: Limits,
        share: Share,
        batch: Option<Batch>,
    ) -> State {
        let Share { config, turn, room } = share;
        let events = batch.as_ref().map_or(1, Batch::events);
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES);
        State {
            output: Arc::new(Output::new(host.clone(), limits.output, events)),
            limiter: Limiter::new(limits.memory, room),
            turn,
            host,
            limits,
            config,
            table,
            batch,
            wasi: None,
        }
    }

    /// What the next attempt may have, once the instance is gone.
    pub(crate) fn into_share(self) -> Share {
        Share {
            config: self.config,
            turn: self.turn,
            room: self.limiter.into_room(),
        }
    }

    /// Begins another attempt in the same instance.
    pub(crate) fn renew(&mut self, host: Arc<dyn HostCalls>, batch: Option<Batch>) {
        let events = batch.as_ref().map_or(1, Batch::events);
        self.output = Arc::new(Output::new(host.clone(), self.limits.output, events));
        if let Some((_, current)) = &self.wasi {
            current.set(self.output.clone());
        }
        self.limiter.renew();
        self.host = host;
        self.batch = batch;
    }

    /// Lets go of the attempt that has ended.
    pub(crate) fn rest(&mut self, nobody: &Arc<dyn HostCalls>) {
        self.renew(nobody.clone(), None);
        self.limiter.rest();
    }

    /// Counts an effect that is about to be handed to the engine, if it has an event to belong to.
    pub(crate) fn spend(&self, bytes: usize) -> wasmtime::Result<()> {
        if let Some(batch) = &self.batch {
            batch.may_write()?;
        }
        Ok(self.output.spend(bytes)?)
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let (ctx, _) = self.wasi.get_or_insert_with(|| {
            // No directories, no network, no arguments: what a handler may reach is granted by name.
            let current = Arc::new(Current::new(self.output.clone()));
            let lines = |stream| Lines {
                output: current.clone(),
                stream,
            };
            let ctx = WasiCtx::builder()
                .envs(&self.config)
                .stdout(lines(Stream::Stdout))
                .stderr(lines(Stream::Stderr))
                .build();
            (ctx, current)
        });
        WasiCtxView {
            ctx,
            table: &mut self.table,
        }
    }
}
