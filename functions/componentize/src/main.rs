//! `componentize CORE COMPONENT` turns a core module, built for `wasm32-unknown-unknown` with the SDK, into
//! a component. The module carries its world in a custom section; no adapter is added, so a module that
//! imports WASI preview 1 is refused.

use std::{env, fs};

use anyhow::{Context, Result, bail};
use wit_component::ComponentEncoder;

fn main() -> Result<()> {
    let [core, component] = &env::args().skip(1).collect::<Vec<_>>()[..] else {
        bail!("usage: componentize CORE COMPONENT");
    };
    let module = fs::read(core).with_context(|| format!("cannot read {core}"))?;
    let bytes = ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|encoder| encoder.encode())
        .with_context(|| format!("{core} cannot become a component"))?;
    fs::write(component, bytes).with_context(|| format!("cannot write {component}"))
}
