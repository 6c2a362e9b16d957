//! A bare wasi:http host as `wasmtime serve` is one: hyper, wasmtime's pooling allocator as it comes, and for each
//! request a fresh instance, in a task of its own, of the component that is named, binary or text. Serves until standard
//! input ends; its address is the first line of standard output.
//!
//! A program of its own, because wasmtime-wasi-http asks for more of hyper than the engine does, and would have it built
//! into the engine too.

use std::{env, ffi::OsStr, io::Read as _};

use anyhow::{Context as _, Result, anyhow};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    WasiHttpCtx, WasiHttpCtxView, WasiHttpView,
    io::TokioIo,
    p2::{
        bindings::{ProxyPre, http::types::Scheme},
        body::HyperOutgoingBody,
    },
};

/// What one request's instance sees of the host.
struct Host {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: wasmtime_wasi_http::default_hooks(),
        }
    }
}

fn main() -> Result<()> {
    std::thread::spawn(|| {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        std::process::exit(0);
    });
    let component = env::args_os()
        .nth(1)
        .context("the component is not named")?;
    let handler = load(&component).map_err(|error| anyhow!(error))?;
    Runtime::new()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let handler = handler.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| respond(handler.clone(), request));
                let connection = http1::Builder::new()
                    .keep_alive(true)
                    .serve_connection(TokioIo::new(stream), service);
                connection.await.ok();
            });
        }
    })
}

fn load(component: &OsStr) -> wasmtime::Result<ProxyPre<Host>> {
    let mut config = Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(
        PoolingAllocationConfig::new(),
    ));
    let engine = Engine::new(&config)?;
    let mut linker = Linker::new(&engine);
    wasmtime_wasi_http::p2::add_to_linker_async(&mut linker)?;
    let component = Component::new(&engine, wat::parse_file(component)?)?;
    ProxyPre::new(linker.instantiate_pre(&component)?)
}

async fn respond(
    handler: ProxyPre<Host>,
    request: Request<Incoming>,
) -> Result<Response<HyperOutgoingBody>> {
    let host = Host {
        wasi: WasiCtx::builder().build(),
        http: WasiHttpCtx::new(),
        table: ResourceTable::new(),
    };
    let mut store = Store::new(handler.engine(), host);
    let (sender, answer) = oneshot::channel();
    let request = store
        .data_mut()
        .http()
        .new_incoming_request(Scheme::Http, request)
        .map_err(|error| anyhow!(error))?;
    let out = store
        .data_mut()
        .http()
        .new_response_outparam(sender)
        .map_err(|error| anyhow!(error))?;
    // The handler may go on after it answered.
    let task = tokio::spawn(async move {
        let proxy = handler.instantiate_async(&mut store).await?;
        let handler = proxy.wasi_http_incoming_handler();
        handler.call_handle(&mut store, request, out).await
    });
    match answer.await {
        Ok(answer) => answer.context("the handler answers with an error"),
        Err(_) => {
            task.await?.map_err(|error| anyhow!(error))?;
            Err(anyhow!("the handler did not answer"))
        }
    }
}
