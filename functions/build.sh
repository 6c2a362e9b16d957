#!/usr/bin/env bash
# Builds the guests of this workspace to components in build/<name>.wasm. Does nothing that is up to date.
#
# Two ways, whichever the machine has:
#   1. the target wasm32-wasip2 of rustup, whose output is a component;
#   2. Debian's rustc-web and rust-web-src: the standard library is built along, for wasm32-unknown-unknown, and
#      componentize makes the component.
# Guests in JavaScript are made by componentize-qjs, from npm. What is missing is installed by apt, npm or rustup after
# saying so; NO_INSTALL=1 only says it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

guests=(thumbnail announce weather-report debezium probe batch-probe bench-handler bench-proxy)
# The folder of each, and its world.
js_guests=("examples/github-hook function" "tests/batch-js batch-function")
out=build
target=${CARGO_TARGET_DIR:-$PWD/target}
debian_rustc=/usr/bin/rustc

say() { printf 'functions: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# install PACKAGE... - what for is said before, by the caller
install() {
    [ -z "${NO_INSTALL:-}" ] || die "not installing, as NO_INSTALL is set. Run: apt-get install $*"
    command -v apt-get >/dev/null || die "there is no apt-get here; install by hand: $*"
    local sudo=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "not root, and no sudo. Run as root: apt-get install $*"
        sudo=(sudo)
    fi
    say "installing $* by apt"
    "${sudo[@]}" apt-get update -qq >&2
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >&2
}

# Whether RUSTC has the standard library of TARGET.
has_target() { [ -d "$("$1" --print target-libdir --target "$2" 2>/dev/null)" ]; }

# The linker for WebAssembly: the one that comes with a rustup toolchain, else Debian's of LLVM version $1.
find_linker() {
    local found
    for found in "$(rustc --print sysroot 2>/dev/null)"/lib/rustlib/*/bin/rust-lld; do
        if [ -x "$found" ]; then echo "$found"; return; fi
    done
    command -v "wasm-ld-$1" || true
}

# cargo_build TARGET FLAG... - builds all guests for TARGET
cargo_build() {
    local wasm=$1 packages=() guest
    shift
    for guest in "${guests[@]}"; do packages+=(--package "$guest"); done
    # No path of this machine in the components: the same source gives the same bytes everywhere.
    local flags=(
        "--remap-path-prefix=$PWD=functions"
        "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
        "${rustflags[@]}"
    )
    local IFS=$'\x1f'
    CARGO_ENCODED_RUSTFLAGS="${flags[*]}" cargo build --quiet --release --locked \
        --target-dir "$target" --target "$wasm" "${packages[@]}" "$@"
}

# publish FROM GUEST - puts a finished component into build/, never a half one
publish() { mv -f "$1" "$out/$2.wasm" && say "built $out/$2.wasm, $(wc -c <"$out/$2.wasm") bytes"; }

build_wasip2() {
    rustflags=()
    cargo_build wasm32-wasip2
    local guest built
    for guest in "${guests[@]}"; do
        built=$target/wasm32-wasip2/release/${guest//-/_}.wasm
        [ "$out/$guest.wasm" -nt "$built" ] && continue
        cp "$built" "$out/$guest.tmp"
        publish "$out/$guest.tmp" "$guest"
    done
}

build_debian() {
    local llvm linker guest built tool
    llvm=$("$debian_rustc" -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
    linker=$(find_linker "$llvm")
    if [ -z "$linker" ]; then
        say "a linker for WebAssembly is missing"
        install "lld-$llvm"
        linker=$(find_linker "$llvm")
    fi
    cargo build --quiet --locked --target-dir "$target" --package componentize
    tool=$target/debug/componentize

    rustflags=(-Clinker-flavor=wasm-ld "-Clinker=$linker")
    # rustc is a release, and the standard library is built from its own source: only the flag is unstable.
    RUSTC=$debian_rustc RUSTC_BOOTSTRAP=1 \
        cargo_build wasm32-unknown-unknown -Zbuild-std=std,panic_abort
    for guest in "${guests[@]}"; do
        built=$target/wasm32-unknown-unknown/release/${guest//-/_}.wasm
        [ "$out/$guest.wasm" -nt "$built" ] && [ "$out/$guest.wasm" -nt "$tool" ] && continue
        "$tool" "$built" "$out/$guest.tmp"
        publish "$out/$guest.tmp" "$guest"
    done
}

build_js() {
    local entry folder world guest source built log tool=node_modules/.bin/componentize-qjs stamp=node_modules/.package-lock.json
    if ! command -v npm >/dev/null; then
        say "node and npm are missing: guests in JavaScript are made by a tool from npm"
        install nodejs npm
    fi
    node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' ||
        die "node $(node --version) is too old: guests in JavaScript need 18 or newer, see https://nodejs.org"
    if [ ! -x "$tool" ] || [ package-lock.json -nt "$stamp" ]; then
        [ -z "${NO_INSTALL:-}" ] || die "not installing, as NO_INSTALL is set. Run: npm ci --prefix functions"
        say "installing $(sed -n 's/.*"\(componentize-qjs\)": .*/\1/p' package.json) by npm, into functions/node_modules"
        # package.json pins the version: later ones lack the binaries of some platforms, and `npm ci` takes no such lock.
        npm ci --no-audit --no-fund --loglevel=error >&2
        touch "$stamp"
    fi
    for entry in "${js_guests[@]}"; do
        read -r folder world <<<"$entry"
        guest=${folder##*/}
        source=$folder/$guest.js
        built=$out/$guest.wasm
        # Up to date, unless its source, the SDK, the contract, the tool or its flags are newer.
        [ -f "$built" ] && [ -z "$(find "$source" sdk-js wit build.sh "$stamp" -newer "$built" -print -quit)" ] && continue
        # Its output matters if it fails.
        log=$("$tool" --sync --minify --module-root . --wit wit --world "$world" --js "$source" --output "$out/$guest.tmp" 2>&1) ||
            die "$source: $log"
        publish "$out/$guest.tmp" "$guest"
    done
}

has_debian() { [ -x "$debian_rustc" ] && [ -d "$("$debian_rustc" --print sysroot)/lib/rustlib/src/rust/library" ]; }

# Adds rustup's target; fails where there is no rustup, or where it cannot reach its servers.
add_wasip2() {
    command -v rustup >/dev/null || return 1
    [ -z "${NO_INSTALL:-}" ] || die "not installing, as NO_INSTALL is set. Run: rustup target add wasm32-wasip2"
    say "adding the target wasm32-wasip2 to Rust by rustup"
    rustup target add wasm32-wasip2 >&2
}

command -v cargo >/dev/null || die "there is no cargo here; see https://rustup.rs, or: apt-get install cargo-web"
mkdir -p "$out"
if has_target rustc wasm32-wasip2; then
    build_wasip2
elif has_debian; then
    build_debian
else
    say "Rust cannot build WebAssembly here yet: the functions are compiled to it"
    if add_wasip2; then
        build_wasip2
    else
        install rustc-web rust-web-src
        build_debian
    fi
fi
build_js
