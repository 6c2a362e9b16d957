#!/usr/bin/env bash
# Installs what building the engine needs and the machine lacks: a C compiler (for SQLite), curl and
# certificates (for rustup), and Rust. Says what and why before it does. With NO_INSTALL=1 it only
# says, and stops. With the argument `lints` it sees to rustfmt and clippy too. What building functions
# needs is the matter of functions/build.sh.
set -euo pipefail

# wasmtime asks for this one; keep it equal to rust-version in Cargo.toml.
readonly RUST=1.95
# How many things are missing that were not allowed to be installed.
missing=0

say() { printf 'setup: %s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# Whether installing is allowed; $1 says how to do it by hand.
may_install() {
    [ -z "${NO_INSTALL:-}" ] && return 0
    say "  to install it: $1"
    missing=$((missing + 1))
    return 1
}

apt_install() {
    command -v apt-get >/dev/null ||
        die "this machine has no apt-get: install these with its own package manager: $*"
    say "installing with apt-get: $*"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# Whether the distribution's own rustup can be had.
apt_has_rustup() {
    command -v apt-cache >/dev/null && [ -n "$(apt-cache search --names-only '^rustup$' 2>/dev/null)" ]
}

rust_is_enough() {
    command -v cargo >/dev/null && command -v rustc >/dev/null || return 1
    local have
    have=$(rustc --version | awk '{ print $2 }')
    [ "$(printf '%s\n%s\n' "$RUST" "$have" | sort -V | head -n 1)" = "$RUST" ]
}

install_rust() {
    if ! command -v rustup >/dev/null && apt_has_rustup; then
        apt_install rustup
    fi
    if command -v rustup >/dev/null; then
        rustup toolchain install stable --profile minimal --component clippy --component rustfmt
        rustup default stable
    else
        command -v curl >/dev/null || apt_install curl ca-certificates
        say "installing Rust into ~/.cargo and ~/.rustup with rustup's own installer, https://rustup.rs"
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
            sh -s -- -y --profile minimal --component clippy --component rustfmt
    fi
    export PATH="$PATH:$HOME/.cargo/bin"
    rust_is_enough || die "Rust $RUST is still not there: an older one earlier on the PATH may hide it"
}

if ! command -v cc >/dev/null; then
    say "a C compiler is missing: SQLite is built from its C source"
    if may_install "apt-get install build-essential"; then
        apt_install build-essential
    fi
fi

if ! rust_is_enough; then
    say "Rust $RUST or newer is missing: Tidemill is built from source"
    if may_install "apt-get install rustup && rustup default stable, or see https://rustup.rs"; then
        install_rust
    fi
elif [ "${1:-}" = lints ] && ! { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1; then
    say "rustfmt or clippy is missing: \`make test\` checks with them"
    if may_install "rustup component add rustfmt clippy"; then
        command -v rustup >/dev/null ||
            die "this Rust is not rustup's: install rustfmt and clippy where it came from"
        rustup component add rustfmt clippy
    fi
fi

[ "$missing" -eq 0 ] || die "NO_INSTALL is set: nothing was installed"
