#!/usr/bin/env bash
# One server for tests that speaks S3 and SQS (moto), in a folder and on a port of 127.0.0.1. `start` returns when it
# takes clients. It keeps everything in memory: whatever ends it takes buckets, objects and queues with it. It takes
# any credentials. It runs in Docker where an engine answers, else on Python, in a virtual environment of its own.
set -euo pipefail
# shellcheck source=tests/services/broker.sh
source "$(dirname "${BASH_SOURCE[0]}")/broker.sh"

readonly service=moto
readonly program=python3
readonly greeting='GET / HTTP/1.0\r\n\r\n'
readonly venv=$state/moto-venv
readonly requirements=$root/tests/services/moto/requirements.txt

address() { echo "http://127.0.0.1:$1"; }

ensure_installed() {
    if [ -f "$venv/done" ] && [ ! "$requirements" -nt "$venv/done" ]; then return; fi
    python3 -c 'import venv, ensurepip' 2>/dev/null ||
        install "Python with its module venv is missing: the server for S3 runs on it" python3-venv
    [ -z "${NO_INSTALL:-}" ] ||
        die "the server for S3 is missing, and NO_INSTALL is set. Run without it: $0 install"
    say "getting moto from PyPI (140 MB), into $venv"
    rm -rf "$venv"
    # Its programs name their folder, so it cannot be made elsewhere and moved: `done` tells that it is whole.
    { python3 -m venv "$venv" && "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check \
        --requirement "$requirements"; } >"$state/pip.log" 2>&1 || {
        tail -n 30 "$state/pip.log" >&2
        die "pip could not install it; above is the end of $state/pip.log"
    }
    touch "$venv/done"
}

launch() {
    local dir=$1 port=$2
    run_in_background "$dir" env HOME="$dir" PYTHONDONTWRITEBYTECODE=1 \
        "$venv/bin/python3" -m moto.server --host 127.0.0.1 --port "$port"
}

main "$@"
