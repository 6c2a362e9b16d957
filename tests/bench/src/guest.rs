//! The floor's call of a handler: wasmtime with the sandbox's settings, a fresh instance for each event, and
//! nothing around it. No limits, no clock, no host calls.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use wasmtime::{
    Engine, Store,
    component::{
        Component, ComponentExportIndex, ComponentType, InstancePre, Lift, Linker, Lower,
        ResourceType, types::ComponentItem,
    },
};

/// Instances at a time; more than any floor makes.
const INSTANCES: u32 = 512;

/// The contract's names.
const HANDLER: &str = "tidemill:function/handler@0.1.0";
const HANDLE: &str = "handle";

/// A component, ready to be called; each of its instances has a `T` of its own.
pub struct Guest<T: 'static = ()> {
    engine: Engine,
    instance: InstancePre<T>,
    handle: ComponentExportIndex,
}

/// What the contract says an event is.
#[derive(ComponentType, Lower)]
#[component(record)]
pub struct Event<'a> {
    pub id: &'a str,
    pub source: &'a str,
    #[component(name = "type")]
    pub kind: &'a str,
    pub subject: Option<&'a str>,
    #[component(name = "time-ms")]
    pub time_ms: u64,
    pub datacontenttype: Option<&'a str>,
    pub traceparent: Option<&'a str>,
    pub headers: &'a [(String, String)],
    pub data: &'a [u8],
    pub delivery: Delivery<'a>,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub struct Delivery<'a> {
    pub id: &'a str,
    pub trigger: &'a str,
    pub attempt: u32,
}

#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(
    dead_code,
    reason = "copied out of the guest, as the engine has to, and then not needed"
)]
struct Reply {
    status: Option<u16>,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
enum Failure {
    #[component(name = "retry")]
    Retry(Retry),
    #[component(name = "reject")]
    Reject(String),
}

#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(dead_code, reason = "the guest never asks for it")]
struct Retry {
    #[component(name = "after-ms")]
    after_ms: Option<u64>,
    reason: String,
}

impl<'a> Event<'a> {
    /// An event with as many attributes as a broker gives one.
    pub fn new(id: &'a str, source: &'a str, kind: &'a str, data: &'a [u8]) -> Event<'a> {
        Event {
            id,
            source,
            kind,
            subject: None,
            time_ms: 1_700_000_000_000,
            datacontenttype: None,
            traceparent: None,
            headers: &[],
            data,
            delivery: Delivery {
                id,
                trigger: "work",
                attempt: 1,
            },
        }
    }
}

impl Guest {
    /// Compiles a component that imports nothing it calls.
    pub fn load(path: &Path) -> Result<Guest> {
        Guest::with(path, INSTANCES, &[], |_| Ok(()))
    }

    /// Calls it in a fresh instance.
    pub async fn call(&self, event: Event<'_>) -> Result<()> {
        self.call_with((), event).await
    }
}

impl<T: Send> Guest<T> {
    /// Compiles a component for so many instances at a time. It may call the interfaces whose names begin like one of
    /// `linked`, and no others.
    pub fn with(
        path: &Path,
        instances: u32,
        linked: &[&str],
        link: impl FnOnce(&mut Linker<T>) -> wasmtime::Result<()>,
    ) -> Result<Guest<T>> {
        Guest::try_with(path, instances, linked, link)
            .map_err(|error| anyhow!(error))
            .with_context(|| format!("cannot load {}", path.display()))
    }

    fn try_with(
        path: &Path,
        instances: u32,
        linked: &[&str],
        link: impl FnOnce(&mut Linker<T>) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<Guest<T>> {
        let engine = Engine::new(&tidemill_sandbox::config(instances))?;
        let component = Component::from_file(&engine, path)?;
        let mut linker = Linker::new(&engine);
        link(&mut linker)?;
        trap_others(&mut linker, &component, linked)?;
        let instance = linker.instantiate_pre(&component)?;
        let handler = component.get_export_index(None, HANDLER);
        let handle = handler.and_then(|handler| component.get_export_index(Some(&handler), HANDLE));
        let handle = handle.ok_or_else(|| wasmtime::format_err!("it does not export {HANDLER}"))?;
        Ok(Guest {
            engine,
            instance,
            handle,
        })
    }

    /// Calls it in a fresh instance, with this.
    pub async fn call_with(&self, data: T, event: Event<'_>) -> Result<()> {
        let answer = self.try_call(data, event).await;
        match answer.map_err(|error| anyhow!(error))? {
            Ok(_) => Ok(()),
            Err(Failure::Retry(retry)) => Err(anyhow!("retry: {}", retry.reason)),
            Err(Failure::Reject(reason)) => Err(anyhow!("rejected: {reason}")),
        }
    }

    async fn try_call(
        &self,
        data: T,
        event: Event<'_>,
    ) -> wasmtime::Result<Result<Option<Reply>, Failure>> {
        let mut store = Store::new(&self.engine, data);
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = self.instance.instantiate_async(&mut store).await?;
        let handle = instance.get_typed_func::<(Event<'_>,), (Result<Option<Reply>, Failure>,)>(
            &mut store,
            self.handle,
        )?;
        let (answer,) = handle.call_async(&mut store, (event,)).await?;
        Ok(answer)
    }
}

/// Links traps for the interfaces that are not linked. Linker's own way to do that would also put resources of its own
/// beside the functions of those that are.
fn trap_others<T>(
    linker: &mut Linker<T>,
    component: &Component,
    linked: &[&str],
) -> wasmtime::Result<()> {
    let engine = linker.engine().clone();
    for (name, import) in component.component_type().imports(&engine) {
        let ComponentItem::ComponentInstance(interface) = import.ty else {
            continue;
        };
        if linked.iter().any(|package| name.starts_with(package)) {
            continue;
        }
        let mut instance = linker.instance(name)?;
        for (item, export) in interface.exports(&engine) {
            match export.ty {
                ComponentItem::ComponentFunc(_) => instance.func_new(item, |_, _, _, _| {
                    Err(wasmtime::format_err!("the floor does not have it"))
                })?,
                ComponentItem::Resource(_) => {
                    instance.resource(item, ResourceType::host::<()>(), |_, _| Ok(()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}
