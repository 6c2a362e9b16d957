# shellcheck shell=bash
# What rabbitmq.sh, kafka.sh and moto.sh share: a broker is a folder, a port on loopback, and its processes. Sourced by them;
# it never runs by itself. They define `service` (its name in docker-compose.yml), `program` (the process that stops
# it in good order when asked to), `greeting` (bytes that a broker which takes clients answers), `address PORT`,
# `ensure_installed` and `launch`.
#
# All processes of a broker carry its folder in their environment, and are found by it: Erlang makes process groups
# of its own and leaves a daemon behind, and a file with an id may name another process after a crash.
# shellcheck disable=SC2154 # what they define

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
state=$root/target/services
mkdir -p "$state"

say() { printf 'services: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# install WHAT-FOR PACKAGE...
install() {
    say "$1"
    shift
    [ -z "${NO_INSTALL:-}" ] || die "not installing, as NO_INSTALL is set. Run: apt-get install $*"
    command -v apt-get >/dev/null || die "there is no apt-get here; install by hand: $*"
    say "installing with apt-get: $*"
    as_root apt-get update -qq >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >"$state/apt.log" 2>&1 || {
        tail -n 30 "$state/apt.log" >&2
        die "apt-get could not install them; above is the end of $state/apt.log"
    }
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        command -v sudo >/dev/null || die "not root, and no sudo. Run as root: $*"
        sudo --preserve-env=ERL_EPMD_ADDRESS "$@"
    fi
}

# Whether a Docker engine answers, with Compose.
has_docker() { docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1; }

# compose DIR ARG... - each broker is a Compose project of its own, named after its folder
compose() {
    local project
    project=tidemill-$service-$(printf %s "$1" | cksum | cut -d ' ' -f 1)
    shift
    docker compose --project-name "$project" --file "$root/docker-compose.yml" --profile brokers "$@"
}

# Whether something listens on the port.
is_taken() { (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A free port below those that the system gives to anybody who asks for any.
free_port() {
    local port
    for port in $(shuf -i 20000-31999 -n 50); do
        if ! is_taken "$port"; then echo "$port"; return; fi
    done
    die "of 50 ports between 20000 and 31999 none is free"
}

# Whether the broker on the port answers a client's first bytes.
takes_clients() {
    # shellcheck disable=SC2016 # the inner shell expands them
    [ "$(timeout 5 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && printf "$1" >&3 && head -c 1 <&3 | wc -c' \
        "$1" "$greeting" 2>/dev/null)" = 1 ]
}

# The ids of the broker's processes; `processes DIR NAME`: only of those with this name.
processes() {
    local file pid
    # A process that ends meanwhile, or is another user's, cannot be read.
    for file in $(grep -lzxF "TIDEMILL_SERVICE=$1" /proc/[0-9]*/environ 2>/dev/null || true); do
        pid=${file#/proc/}
        pid=${pid%/environ}
        [ -z "${2:-}" ] || [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] || continue
        echo "$pid"
    done
}

# Waits up to $1 seconds until the command succeeds.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

is_gone() { [ -z "$(processes "$1")" ]; }

# Whether these processes have ended with all of their threads. One that ends loses its environment first and its
# sockets last, so `processes` knows too little for that.
have_ended() {
    local pid state
    for pid in "$@"; do
        state=$(sed 's/.*) \(.\).*/\1/' "/proc/$pid/stat" 2>/dev/null) || continue
        # A zombie may have threads that live yet.
        [ "$state" = Z ] && [ "$(find "/proc/$pid/task" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)" -le 1 ] || return 1
    done
}

start() {
    local dir=$1 port=$2
    mkdir -p "$dir"
    if [ ! -f "$dir/more.properties" ] && has_docker; then
        # Its data stays in the container until `remove`.
        touch "$dir/by-docker"
        export TIDEMILL_AMQP_PORT=$port TIDEMILL_KAFKA_PORT=$port TIDEMILL_S3_PORT=$port
        compose "$dir" up --detach --wait --quiet-pull "$service" >"$dir/log" 2>&1 || failed "$dir"
        return
    fi
    # One at a time installs.
    (flock 9; ensure_installed) 9>"$state/install.lock"
    is_gone "$dir" || die "$service in $dir is running already. Stop it first: $0 stop $dir"
    ! is_taken "$port" || die "port $port of 127.0.0.1 is taken: $service in $dir cannot listen there. Choose another"
    launch "$dir" "$port"
    local end=$((SECONDS + 90))
    until takes_clients "$port"; do
        if ! kill -0 "$launched" 2>/dev/null || [ "$SECONDS" -ge "$end" ]; then failed "$dir"; fi
        sleep 0.1
    done
}

# failed DIR - says why, by the end of the log, and cleans up
failed() {
    tail -n 30 "$1/log" >&2 || true
    kill_all "$1"
    die "$service did not start; above is the end of $1/log"
}

# run_in_background DIR COMMAND... - in a session of its own, so that Ctrl-C does not reach it; `launched` is its id
run_in_background() {
    local dir=$1
    shift
    TIDEMILL_SERVICE=$dir setsid "$@" </dev/null >>"$dir/log" 2>&1 8>&- &
    launched=$!
    # The shell shall not report its end.
    disown
}

stop() {
    local dir=$1
    if [ -f "$dir/by-docker" ]; then
        compose "$dir" stop --timeout 30 >/dev/null 2>&1
        return
    fi
    local pids
    mapfile -t pids < <(processes "$dir" "$program")
    if [ "${#pids[@]}" -gt 0 ]; then
        kill -TERM "${pids[@]}" 2>/dev/null || true
        wait_for 30 have_ended "${pids[@]}" || say "$service in $dir did not stop within 30 s: it is killed"
    fi
    kill_all "$dir"
}

kill_all() {
    local dir=$1
    if [ -f "$dir/by-docker" ]; then
        compose "$dir" kill >/dev/null 2>&1 || true
        return
    fi
    local pids
    mapfile -t pids < <(processes "$dir")
    # Again, as one of them may just have started another.
    while [ "${#pids[@]}" -gt 0 ]; do
        kill -KILL "${pids[@]}" 2>/dev/null || true
        wait_for 10 have_ended "${pids[@]}" || die "$service in $dir cannot be killed: process ${pids[*]}"
        mapfile -t pids < <(processes "$dir")
    done
}

remove() {
    if [ -f "$1/by-docker" ]; then
        compose "$1" down --volumes --timeout 5 >/dev/null 2>&1
    fi
    kill_all "$1"
    rm -rf "$1"
}

# Carries out a command line: start DIR PORT, or one of the others with DIR.
main() {
    local command=${1:-} dir=${2:-}
    case $command in
    install | start | stop | kill | remove) ;;
    *) die "usage: $0 install | start DIR PORT | stop DIR | kill DIR | remove DIR" ;;
    esac
    if [ "$command" = install ]; then
        has_docker || (flock 9; ensure_installed) 9>"$state/install.lock"
        return
    fi
    [ -n "$dir" ] || die "$0 $command: which folder?"
    dir=$(realpath --canonicalize-missing "$dir")
    case $command in
    start) [ -n "${3:-}" ] || die "$0 start $dir: on which port?"; start "$dir" "$3"; address "$3" ;;
    stop) stop "$dir" ;;
    kill) kill_all "$dir" ;;
    remove) remove "$dir" ;;
    esac
}
