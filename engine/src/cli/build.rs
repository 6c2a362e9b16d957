//! `tidemill build`: from the source of a function to its component, by the tools of its language.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use serde::Deserialize;
use wit_component::ComponentEncoder;

use super::Failure;

/// What to build.
#[derive(Debug, Args)]
pub(super) struct Build {
    /// The folder of the function: with a Cargo.toml, or with a package.json.
    #[arg(default_value = ".")]
    dir: PathBuf,
}

/// Debian's compiler, which builds the standard library for WebAssembly from its source.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

impl Build {
    pub(super) fn run(self) -> Result<(), Failure> {
        let has = |file: &str| self.dir.join(file).is_file();
        let shown = self.dir.display();
        let component = match (has("Cargo.toml"), has("package.json")) {
            (true, false) => rust(&self.dir)?,
            (false, true) => javascript(&self.dir)?,
            (true, true) => {
                return Err(Failure::Wrong(anyhow!(
                    "{shown} has a Cargo.toml and a package.json: keep one of them in the function's folder"
                )));
            }
            (false, false) => {
                return Err(Failure::Wrong(anyhow!(
                    "there is no function in {shown}: it has neither a Cargo.toml nor a package.json; `tidemill new NAME --lang rust` begins one"
                )));
            }
        };
        let size = fs::metadata(&component)
            .with_context(|| format!("{} was not made", component.display()))?
            .len();
        outln!("{}, {size} bytes", component.display());
        Ok(())
    }
}

/// A line of `cargo build --message-format=json`.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    filenames: Vec<PathBuf>,
    target: Option<Target>,
    manifest_path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    crate_types: Vec<String>,
}

fn rust(dir: &Path) -> anyhow::Result<PathBuf> {
    let name = package_name(dir)?;
    let component = dir.join(format!("{name}.wasm"));
    if has_target("rustc", "wasm32-wasip2") {
        let built = cargo(dir, "wasm32-wasip2", &[], &[])?;
        return publish(&component, &read(&built)?);
    }
    if !debian_source().is_some_and(|source| source.is_dir()) {
        bail!(
            "Rust cannot build WebAssembly here yet. Run: rustup target add wasm32-wasip2; or, with Debian's Rust: apt-get install rustc-web rust-web-src"
        );
    }
    let linker = linker()?;
    let flags = format!("-Clinker-flavor=wasm-ld\x1f-Clinker={}", linker.display());
    let env = [
        ("RUSTC", DEBIAN_RUSTC),
        // It is a release; only the flag that builds the standard library along is unstable.
        ("RUSTC_BOOTSTRAP", "1"),
        ("CARGO_ENCODED_RUSTFLAGS", &flags),
    ];
    let with_std = ["-Zbuild-std=std,panic_abort"];
    let module = cargo(dir, "wasm32-unknown-unknown", &with_std, &env)?;
    let encoded = ComponentEncoder::default()
        .validate(true)
        .module(&read(&module)?)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| anyhow!("the module cannot become a component: {error:#}"))?;
    publish(&component, &encoded)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Puts a component in its place at once: an engine that starts meanwhile reads the old one or the new one.
fn publish(component: &Path, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    let aside = unfinished(component);
    fs::write(&aside, bytes)
        .and_then(|()| fs::rename(&aside, component))
        .with_context(|| format!("cannot write {}", component.display()))?;
    Ok(component.to_owned())
}

/// Where a component is while it is made.
fn unfinished(component: &Path) -> PathBuf {
    component.with_extension("wasm.tmp")
}

/// Runs cargo, which shows what it does, and returns the module that it made.
fn cargo(dir: &Path, target: &str, more: &[&str], env: &[(&str, &str)]) -> anyhow::Result<PathBuf> {
    let mut command = Command::new("cargo");
    command
        .args(["build", "--release", "--target", target])
        .args(["--message-format", "json-render-diagnostics"])
        .args(more)
        .envs(env.iter().copied())
        .current_dir(dir)
        .stderr(Stdio::inherit());
    let output = command
        .output()
        .context("cannot run cargo: install Rust, see https://rustup.rs")?;
    if !output.status.success() {
        bail!("cargo did not build the function; it says why above");
    }
    let manifest = dir.join("Cargo.toml").canonicalize()?;
    let messages = output.stdout.split(|byte| *byte == b'\n');
    let messages = messages.filter_map(|line| serde_json::from_slice::<Message>(line).ok());
    let own = messages.filter(|message| {
        let library = |target: &Target| target.crate_types.iter().any(|kind| kind == "cdylib");
        message.manifest_path.as_ref() == Some(&manifest)
            && message.target.as_ref().is_some_and(library)
    });
    let mut files = own.flat_map(|message| message.filenames);
    let wasm = files.find(|file| file.extension() == Some(OsStr::new("wasm")));
    wasm.context(
        "cargo made no module: let Cargo.toml say `[lib]` with `crate-type = [\"cdylib\"]`",
    )
}

fn package_name(dir: &Path) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct Manifest {
        package: Package,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
    }
    let path = dir.join("Cargo.toml");
    let text = String::from_utf8(read(&path)?)?;
    let manifest: Manifest =
        toml::from_str(&text).with_context(|| format!("{} has no package", path.display()))?;
    Ok(manifest.package.name)
}

fn says(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Whether the compiler has the standard library of a target.
fn has_target(rustc: &str, target: &str) -> bool {
    let folder = says(rustc, &["--print", "target-libdir", "--target", target]);
    folder.is_some_and(|folder| Path::new(&folder).is_dir())
}

/// Where Debian keeps the source of the standard library.
fn debian_source() -> Option<PathBuf> {
    let root = says(DEBIAN_RUSTC, &["--print", "sysroot"])?;
    Some(Path::new(&root).join("lib/rustlib/src/rust/library"))
}

/// The linker of a rustup toolchain, or Debian's of the compiler's LLVM: an older one may not read its objects.
fn linker() -> anyhow::Result<PathBuf> {
    let root = says("rustc", &["--print", "sysroot"]);
    let hosts = root.and_then(|root| fs::read_dir(Path::new(&root).join("lib/rustlib")).ok());
    let mut linkers = hosts
        .into_iter()
        .flatten()
        .flatten()
        .map(|host| host.path().join("bin/rust-lld"));
    if let Some(linker) = linkers.find(|linker| linker.is_file()) {
        return Ok(linker);
    }
    let version = says(DEBIAN_RUSTC, &["-vV"]).unwrap_or_default();
    let mut lines = version.lines();
    let llvm = lines.find_map(|line| line.strip_prefix("LLVM version: "));
    let major = llvm.and_then(|version| version.split('.').next());
    let major = major.with_context(|| format!("{DEBIAN_RUSTC} does not say which LLVM it has"))?;
    let linker = PathBuf::from(format!("/usr/bin/wasm-ld-{major}"));
    if !linker.is_file() {
        bail!("a linker for WebAssembly is missing. Run: apt-get install lld-{major}");
    }
    Ok(linker)
}

fn javascript(dir: &Path) -> anyhow::Result<PathBuf> {
    #[derive(Deserialize)]
    struct Manifest {
        name: String,
        #[serde(default)]
        tidemill: Contract,
    }
    /// What the component is made for; `batch-function` for a batch handler.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Contract {
        world: String,
    }
    impl Default for Contract {
        fn default() -> Contract {
            Contract {
                world: "function".into(),
            }
        }
    }
    let path = dir.join("package.json");
    let manifest: Manifest = serde_json::from_slice(&read(&path)?).with_context(|| {
        format!(
            "{} has no name, or its `tidemill` has no `world`",
            path.display()
        )
    })?;
    let name = manifest.name;
    let source = format!("{name}.js");
    if !dir.join(&source).is_file() {
        bail!(
            "{} is missing: the handler is in the file of the package's name",
            dir.join(&source).display()
        );
    }
    let tool = dir.join("node_modules/.bin/componentize-qjs");
    if !tool.is_file() {
        // What the project was locked to, or else what fits, which npm then locks.
        let locked = dir.join("package-lock.json").is_file();
        install(dir, if locked { "ci" } else { "install" })?;
    }
    let tool = tool.canonicalize().context(
        "npm did not bring componentize-qjs: let package.json name it in `devDependencies`",
    )?;
    let component = dir.join(format!("{name}.wasm"));
    let aside = unfinished(&component);
    let output = aside
        .file_name()
        .context("a component has a name")?
        .to_owned();
    eprintln!("componentize-qjs {source}");
    let built = Command::new(tool)
        .args(["--sync", "--minify", "--module-root", ".", "--wit", "wit"])
        .args(["--world", &manifest.tidemill.world])
        .args(["--js", &source, "--output"])
        .arg(output)
        .current_dir(dir)
        .output()
        .context("cannot run componentize-qjs. It needs Node: apt-get install nodejs")?;
    if !built.status.success() {
        let out = String::from_utf8_lossy(&built.stdout);
        let err = String::from_utf8_lossy(&built.stderr);
        bail!("componentize-qjs did not build the function:\n{out}{err}");
    }
    fs::rename(&aside, &component)
        .with_context(|| format!("cannot write {}", component.display()))?;
    Ok(component)
}

fn install(dir: &Path, how: &str) -> anyhow::Result<()> {
    eprintln!("npm {how}, for componentize-qjs");
    let installed = Command::new("npm")
        .args([how, "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(dir)
        .stdout(Stdio::null())
        .status()
        .context("cannot run npm. Install Node: apt-get install nodejs npm")?;
    if !installed.success() {
        bail!("npm did not install the tools; it says why above");
    }
    Ok(())
}
