#!/usr/bin/env bash
# Installs what building the engine needs and the machine lacks: a C compiler (for SQLite), curl and
# certificates (for rustup), and Rust. Says what and why before it does. With NO_INSTALL=1 it only
# says, and stops. With the argument `lints` it sees to rustfmt and clippy too. What building functions
# needs is the matter of functions/build.sh.
set -euo pipefail

# wasmtime asks for this one; keep it equal to rust-version in Cargo.toml.
readonly RUST=1.95

say() { printf 'setup: %s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# Stops unless installing is allowed; $1 says how to do it by hand.
may_install() {
    if [ -n "${NO_INSTALL:-}" ]; then
        say "NO_INSTALL is set; to install it yourself: $1"
        exit 1
    fi
}

apt_install() {
    if ! command -v apt-get >/dev/null; then
        say "this machine has no apt-get: install the packages named above with its own package manager"
        exit 1
    fi
    say "installing with apt-get: $*"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

need_package() { # command package reason
    if ! command -v "$1" >/dev/null; then
        say "$1 is missing: $3"
        may_install "apt-get install $2"
        apt_install "$2"
    fi
}

rust_is_enough() {
    command -v cargo >/dev/null && command -v rustc >/dev/null || return 1
    local have
    have=$(rustc --version | awk '{ print $2 }')
    [ "$(printf '%s\n%s\n' "$RUST" "$have" | sort -V | head -n 1)" = "$RUST" ]
}

# Whether the distribution's own rustup can be had.
apt_has_rustup() {
    command -v apt-cache >/dev/null && [ -n "$(apt-cache search --names-only '^rustup$' 2>/dev/null)" ]
}

install_rust() {
    if command -v rustup >/dev/null; then
        rustup toolchain install stable --profile minimal --component clippy --component rustfmt
        rustup default stable
    elif apt_has_rustup; then
        apt_install rustup
        rustup toolchain install stable --profile minimal --component clippy --component rustfmt
    else
        need_package curl "curl ca-certificates" "it fetches rustup, the installer of Rust"
        say "installing Rust into ~/.cargo and ~/.rustup with rustup's own installer, https://rustup.rs"
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
            sh -s -- -y --profile minimal --component clippy --component rustfmt
    fi
}

need_package cc build-essential "SQLite is built from its C source"

if ! rust_is_enough; then
    if command -v rustc >/dev/null; then
        say "$(rustc --version) is too old: Tidemill needs Rust $RUST or newer"
    else
        say "Rust is missing: Tidemill is built from source with Rust $RUST or newer"
    fi
    may_install "see https://rustup.rs"
    install_rust
    export PATH="$PATH:$HOME/.cargo/bin"
    rust_is_enough || {
        say "Rust $RUST is still not there: rustc is $(command -v rustc || echo missing); an older one earlier on the PATH hides it"
        exit 1
    }
fi

# What only the checks of `make test` need.
[ "${1:-}" = lints ] || exit 0
for component in fmt clippy; do
    if ! cargo "$component" --version >/dev/null 2>&1; then
        say "cargo $component is missing: \`make test\` checks with it"
        may_install "rustup component add rustfmt clippy"
        command -v rustup >/dev/null || {
            say "this Rust is not rustup's: install rustfmt and clippy where it came from"
            exit 1
        }
        rustup component add rustfmt clippy
    fi
done
