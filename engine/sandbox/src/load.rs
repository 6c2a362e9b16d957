//! From the bytes of a component to a function that can run, or to a message that says what to do.
//!
//! Everything that can be wrong with a component is found here, before its first event.

use std::{
    error::Error,
    fmt,
    sync::{Arc, atomic::Ordering},
};

use wasmtime::component::{Component, ComponentExportIndex, ComponentNamedList, Lift, Lower};

use crate::{
    bind::handler::{BATCH_HANDLER, HANDLE, HANDLER, Many, ManyAnswers, One, OneAnswer},
    cache::{Found, digest},
    engine::{Sandbox, Shared, TABLES_PER_INSTANCE},
    imports,
    run::{Entries, Entry, Function, Limits, Loaded},
    turns::Turns,
};

/// WebAssembly counts memory in pages of this many bytes.
const PAGE: u64 = 64 << 10;

/// A component that cannot be loaded.
#[derive(Debug)]
pub struct LoadError {
    /// The function's name.
    pub function: String,
    /// What is wrong, and the next step.
    pub problem: Problem,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LoadError { function, problem } = self;
        write!(f, "the component of function `{function}` {problem}")
    }
}

impl Error for LoadError {
    /// Why the problem is one: the problem itself is in the text.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.problem.source()
    }
}

/// What is wrong with a component. The text continues "the component ...".
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// No bytes.
    #[error("is empty; build it again, or copy it again if the copy was cut short")]
    Empty,
    /// Something else.
    #[error("is not WebAssembly: it starts with {start}; {hint}")]
    NotWasm {
        /// The first bytes, as text where they are text.
        start: String,
        /// What it may be.
        hint: &'static str,
    },
    /// A core module.
    #[error(
        "is a core WebAssembly module, not a component; build it with \
         `cargo build --target wasm32-wasip2`, or make a component of the module: \
         `wasm-tools component new MODULE.wasm -o COMPONENT.wasm`"
    )]
    CoreModule,
    /// The handler is missing.
    #[error(
        "has no handler: it exports {exports}, and a function exports `{HANDLER}` or \
         `{BATCH_HANDLER}`; build it for the world `function` or `batch-function` of the package \
         `tidemill:function`"
    )]
    NoHandler {
        /// What it exports, as a list in words.
        exports: String,
    },
    /// There is a handler, and it is not the one that is called.
    #[error("exports no `{}`, {}", needed.interface(), remedy(*needed))]
    OtherHandler {
        /// What it is to be called for.
        needed: Entry,
    },
    /// An interface in a version that this engine does not have.
    #[error(
        "{does} `{theirs}`, and this engine has {ours}; build it against this engine's version of the \
         package `{package}`"
    )]
    Version {
        /// `imports` or `exports`.
        does: &'static str,
        /// The interface with its version.
        theirs: String,
        /// What the engine has in its place, as a list in words.
        ours: String,
        /// The package whose versions differ.
        package: String,
    },
    /// An import that nobody offers.
    #[error("imports `{import}`, which this engine does not have; {near}")]
    Import {
        /// The import's name.
        import: String,
        /// What the engine has that is near it.
        near: String,
    },
    /// The names fit, and the types do not.
    #[error(
        "{does} `{interface}` with other types than this engine: {detail}; build it against the WIT \
         files of this engine"
    )]
    Types {
        /// `imports` or `exports`.
        does: &'static str,
        /// The interface.
        interface: String,
        /// What differs.
        detail: String,
    },
    /// It needs more memory to start than it may have.
    #[error(
        "needs {} of memory to start, and its limit is {}; raise `memory` of the function, or \
         build it with less initial memory", Size(*needs), Size(*limit)
    )]
    Memory {
        /// Bytes.
        needs: u64,
        /// Bytes.
        limit: u64,
    },
    /// It is made of more parts than the pool has.
    #[error(
        "is composed of too many parts: one instance takes {memories} memories and {tables} tables, \
         and all instances of this engine together have {slots} and {}; compose it of fewer",
        slots * TABLES_PER_INSTANCE
    )]
    Parts {
        /// Linear memories of one instance.
        memories: u32,
        /// Tables of one instance.
        tables: u32,
        /// Slots of the engine.
        slots: u32,
    },
    /// It does not start.
    #[error("does not start, and `warm` asks for instances that have")]
    Start(#[source] wasmtime::Error),
    /// The compiler refuses it.
    #[error(
        "does not compile: it is damaged, or it uses a feature of WebAssembly that this engine does \
         not have, such as the async functions of WASI 0.3; build it again for WASI 0.2"
    )]
    Compile(#[source] wasmtime::Error),
}

impl Sandbox {
    /// Makes a function of a component. `name` is for messages. Compiles for some tens of milliseconds
    /// unless the cache has it; blocking, so call it on a thread that may block.
    ///
    /// # Errors
    /// If these bytes cannot run here, see [`Problem`].
    pub fn load(
        &self,
        name: &str,
        bytes: &[u8],
        limits: Limits,
        config: Vec<(String, String)>,
    ) -> Result<Function, LoadError> {
        load(&self.0, name, bytes, limits, config).map_err(|problem| LoadError {
            function: name.to_owned(),
            problem,
        })
    }
}

fn load(
    shared: &Arc<Shared>,
    name: &str,
    bytes: &[u8],
    limits: Limits,
    config: Vec<(String, String)>,
) -> Result<Function, Problem> {
    look(bytes)?;
    let digest = digest(bytes);
    let component = compiled(shared, name, &digest, bytes)?;
    let entries = entries(&component)?;
    let slots = slots(shared, &component, limits)?;
    let instance = shared
        .linker
        .instantiate_pre(&component)
        .map_err(|error| imports::problem(&shared.engine, &component, &error))?;
    // Else the first event would wait for it.
    component
        .initialize_copy_on_write_image()
        .map_err(Problem::Compile)?;
    Ok(Function(Arc::new(Loaded {
        shared: shared.clone(),
        digest,
        instance,
        entries,
        slots,
        limits,
        config: config.into(),
        turns: Turns::new(),
        pool: None,
    })))
}

/// Refuses what is no component, by its first bytes.
fn look(bytes: &[u8]) -> Result<(), Problem> {
    const MAGIC: &[u8] = b"\0asm";
    const CORE: &[u8] = &[1, 0, 0, 0];
    if bytes.is_empty() {
        return Err(Problem::Empty);
    }
    let Some(version) = bytes.strip_prefix(MAGIC) else {
        return Err(not_wasm(bytes));
    };
    if version.starts_with(CORE) {
        return Err(Problem::CoreModule);
    }
    Ok(())
}

fn not_wasm(bytes: &[u8]) -> Problem {
    let start = &bytes[..bytes.len().min(16)];
    let text = start
        .iter()
        .all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    let hint = if start.starts_with(b"(") {
        "it looks like the text format; `wasm-tools parse IN.wat -o OUT.wasm` makes the binary"
    } else if start.starts_with(b"\x7fELF") {
        "it is a program for this machine (or an already compiled component); deploy the .wasm file"
    } else {
        "deploy the .wasm file that your compiler made"
    };
    let start = match text {
        true => format!("`{}`", String::from_utf8_lossy(start).escape_debug()),
        false => format!("the bytes {start:02x?}"),
    };
    Problem::NotWasm { start, hint }
}

/// The component from the cache, or compiled and put there.
fn compiled(shared: &Shared, name: &str, digest: &str, bytes: &[u8]) -> Result<Component, Problem> {
    let cached = match shared.cache.get(digest, &shared.engine) {
        Found::Component(component) => return Ok(component),
        Found::Nothing => false,
        Found::Damaged(why) => {
            tracing::warn!(
                function = name,
                digest,
                why,
                "a cache file is unusable; compiling anew"
            );
            true
        }
    };
    let code = shared.compiler.compile(&shared.engine, bytes);
    let code = code.map_err(Problem::Compile)?;
    shared.compiled.fetch_add(1, Ordering::Relaxed);
    match shared.cache.put(digest, &code) {
        Ok(()) => {
            if let Found::Component(component) = shared.cache.get(digest, &shared.engine) {
                return Ok(component);
            }
            tracing::warn!(
                function = name,
                digest,
                cached,
                "the cache file just written is unusable"
            );
        }
        Err(error) => {
            tracing::warn!(function = name, digest, %error, "cannot keep the compiled component");
        }
    }
    // SAFETY: these bytes were made by this program a moment ago, for this engine, and nobody else had them.
    unsafe { Component::deserialize(&shared.engine, &code) }.map_err(Problem::Compile)
}

/// What to do about a handler that is not there.
fn remedy(needed: Entry) -> &'static str {
    match needed {
        Entry::One => {
            "which is called for one event; export it too (in Rust by `handler!` or \
             `batch_handler!(each = ...)`), or give the trigger a `batch`"
        }
        Entry::Batch => {
            "which a trigger with `batch` calls; export it too (in Rust by `batch_handler!`, in \
             JavaScript by `defineBatch`), or take `batch` off the trigger"
        }
    }
}

/// The entries that are there.
fn entries(component: &Component) -> Result<Entries, Problem> {
    let entries = Entries {
        one: entry::<One<'_>, OneAnswer>(component, HANDLER)?,
        batch: entry::<Many<'_>, ManyAnswers>(component, BATCH_HANDLER)?,
    };
    if entries.one.is_none() && entries.batch.is_none() {
        return Err(imports::no_handler(component));
    }
    Ok(entries)
}

/// One entry, if it is there; it must take and answer what it is called with.
fn entry<A, R>(
    component: &Component,
    interface: &str,
) -> Result<Option<ComponentExportIndex>, Problem>
where
    A: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    let found = component
        .get_export_index(None, interface)
        .and_then(|interface| component.get_export(Some(&interface), HANDLE));
    let Some((item, index)) = found else {
        return Ok(None);
    };
    let wrong = |detail: String| Problem::Types {
        does: "exports",
        interface: interface.to_owned(),
        detail,
    };
    let wasmtime::component::types::ComponentItem::ComponentFunc(function) = item else {
        return Err(wrong(format!("`{HANDLE}` is not a function")));
    };
    function
        .typecheck::<A, R>(&component.component_type().instance_type())
        .map_err(|error| wrong(error.root_cause().to_string()))?;
    Ok(Some(index))
}

/// How many slots of the pool one instance takes, if it can have them.
fn slots(shared: &Shared, component: &Component, limits: Limits) -> Result<u32, Problem> {
    // Unknown only for components that import modules, which nobody offers.
    let Some(needs) = component.resources_required() else {
        return Ok(1);
    };
    let memory = needs
        .max_initial_memory_size
        .unwrap_or(0)
        .saturating_mul(PAGE);
    if memory > limits.memory {
        return Err(Problem::Memory {
            needs: memory,
            limit: limits.memory,
        });
    }
    let slots = needs
        .num_memories
        .max(needs.num_tables.div_ceil(TABLES_PER_INSTANCE))
        .max(1);
    if slots > shared.instances {
        return Err(Problem::Parts {
            memories: needs.num_memories,
            tables: needs.num_tables,
            slots: shared.instances,
        });
    }
    Ok(slots)
}

/// Bytes for a person, exact.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes % (1 << 20) == 0 => write!(f, "{} MiB", bytes >> 20),
            bytes if bytes % (1 << 10) == 0 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}
