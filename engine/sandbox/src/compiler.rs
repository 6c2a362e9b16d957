//! Who compiles components.

use std::{
    io::{Read, Write},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use wasmtime::{Engine, Error, Result};

use crate::engine::config;

/// This program, even if its file was replaced since.
const PROGRAM: &str = "/proc/self/exe";

/// Who compiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// This process. The allocator keeps much of the memory that it takes, for later.
    Here,
    /// A process for each component: this program with these arguments, by which it calls
    /// [`serve_compiler`]. Its memory goes with it, and so does whatever a component does to the compiler.
    Apart(&'static [&'static str]),
}

/// Between an error and its cause, on the way from process to process.
const CAUSE: &str = "\0";

impl Compiler {
    pub(crate) fn compile(self, engine: &Engine, component: &[u8]) -> Result<Vec<u8>> {
        let Compiler::Apart(arguments) = self else {
            return engine.precompile_component(component);
        };
        let piped = Stdio::piped;
        let mut command = Command::new(PROGRAM);
        // In a group of its own: what a terminal sends to this one, an interrupt, is for this process to
        // answer.
        command.args(arguments).process_group(0);
        let spawned = command
            .stdin(piped())
            .stdout(piped())
            .stderr(piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                tracing::debug!(%error, "no process to compile in: this one does");
                return engine.precompile_component(component);
            }
        };
        if let Some(mut input) = child.stdin.take() {
            // It reads all before it says anything. If it does not, how it ended says more.
            _ = input.write_all(component);
        }
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let mut causes = said.trim_end().rsplit(CAUSE);
        let root = match causes.next() {
            Some(root) if !root.is_empty() => root.to_owned(),
            _ => format!(
                "the process that compiles it ended with {}, perhaps for want of memory",
                output.status
            ),
        };
        let error = Error::msg(root);
        Err(causes.fold(error, |error, context| error.context(context.to_owned())))
    }
}

/// What [`Compiler::Apart`] runs: compiles the component that it reads, and writes the code. Whether it
/// did; if not, it tells its errors to `errors`.
pub fn serve_compiler(
    mut component: impl Read,
    mut code: impl Write,
    mut errors: impl Write,
) -> bool {
    let mut serve = || {
        let mut bytes = Vec::new();
        component.read_to_end(&mut bytes)?;
        let engine = Engine::new(&config(1))?;
        code.write_all(&engine.precompile_component(&bytes)?)?;
        code.flush()?;
        Result::<()>::Ok(())
    };
    let Err(error) = serve() else { return true };
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    // If nobody hears of it, nobody waits.
    _ = errors.write_all(causes.join(CAUSE).as_bytes());
    false
}
