#!/usr/bin/env bash
# Another server for tests that speaks S3 (s3s-fs, in Rust, over a folder), in a folder and on a port of 127.0.0.1:
# what holds on two servers that share no code is S3 and no habit of one of them. `start` returns when it takes
# clients; `stop` and `kill` keep its data, `remove` does not. It takes unsigned requests alone.
set -euo pipefail
# shellcheck source=tests/services/broker.sh
source "$(dirname "${BASH_SOURCE[0]}")/broker.sh"

readonly service=s3s
readonly program=s3s-fs
readonly greeting='GET / HTTP/1.0\r\nHost: localhost\r\n\r\n'
readonly version=0.14.1
readonly installed=$state/s3s-fs

address() { echo "http://127.0.0.1:$1"; }

# There is no image of it.
has_docker() { false; }

ensure_installed() {
    if [ -x "$installed/bin/s3s-fs" ] && [ "$(cat "$installed/done" 2>/dev/null)" = "$version" ]; then return; fi
    [ -z "${NO_INSTALL:-}" ] ||
        die "the second server for S3 is missing, and NO_INSTALL is set. Run without it: $0 install"
    say "building s3s-fs $version from crates.io (2 minutes), into $installed"
    # Unoptimised: it is built once, and serves tests.
    CARGO_TARGET_DIR=$installed/build cargo install s3s-fs --version "$version" --locked --features binary --debug \
        --force --root "$installed" >"$state/s3s.log" 2>&1 || {
        tail -n 30 "$state/s3s.log" >&2
        die "cargo could not build it; above is the end of $state/s3s.log"
    }
    rm -rf "$installed/build"
    echo "$version" >"$installed/done"
}

launch() {
    local dir=$1 port=$2
    mkdir -p "$dir/data"
    run_in_background "$dir" env RUST_LOG=error "$installed/bin/s3s-fs" --host 127.0.0.1 --port "$port" "$dir/data"
}

main "$@"
