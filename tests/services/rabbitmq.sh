#!/usr/bin/env bash
# One RabbitMQ broker for tests, in a folder and on a port of 127.0.0.1. `start` returns when it takes clients; `stop`
# and `kill` keep its data, `remove` does not; `ctl DIR ARG...` is rabbitmqctl. It runs in Docker where an engine
# answers, else from the distribution's package, whose own system service is never started nor touched.
set -euo pipefail
# shellcheck source=tests/services/broker.sh
source "$(dirname "${BASH_SOURCE[0]}")/broker.sh"

readonly service=rabbitmq
readonly program=beam.smp
# The header of AMQP 0-9-1.
readonly greeting='AMQP\0\0\11\1'
# The package's own script; the one on the PATH changes to the user of the system service.
readonly server=/usr/lib/rabbitmq/bin/rabbitmq-server

# The daemon that names Erlang's nodes listens everywhere unless told, also when the package is installed.
export ERL_EPMD_ADDRESS=127.0.0.1

address() { echo "amqp://guest:guest@127.0.0.1:$1/%2f"; }

ensure_installed() {
    [ -x "$server" ] && return
    local had_erlang policy=/usr/sbin/policy-rc.d
    had_erlang=$(command -v epmd || true)
    # Debian starts the services of a package on installation, and at each boot after it, unless told not to.
    if [ -z "${NO_INSTALL:-}" ] && [ ! -e "$policy" ]; then
        # shellcheck disable=SC2064 # its value of now
        trap "as_root rm -f $policy" EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    install "RabbitMQ is missing: the tests of AMQP run on a real one" rabbitmq-server
    if command -v systemctl >/dev/null; then
        local services=(rabbitmq-server.service)
        [ -n "$had_erlang" ] || services+=(epmd.socket epmd.service)
        as_root systemctl --quiet disable "${services[@]}" 2>/dev/null || true
    fi
    [ -x "$server" ] || die "the package is installed, but there is no $server: this distribution is not known"
}

launch() {
    local dir=$1 port=$2 dist epmd
    dist=$(free_port)
    epmd=$(free_port)
    echo "$epmd" >"$dir/epmd"
    mkdir -p "$dir"/{data,logs,schema}
    echo '[].' >"$dir/enabled_plugins"
    cat >"$dir/rabbitmq.conf" <<END
listeners.tcp.default = 127.0.0.1:$port
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 50MB
END
    # The name of the node is part of its data. The cookie of Erlang lies in HOME.
    run_in_background "$dir" env HOME="$dir" ERL_EPMD_PORT="$epmd" \
        RABBITMQ_NODENAME=tidemill@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port" \
        RABBITMQ_DIST_PORT="$dist" RABBITMQ_MNESIA_BASE="$dir/data" RABBITMQ_LOG_BASE="$dir/logs" \
        RABBITMQ_SCHEMA_DIR="$dir/schema" RABBITMQ_GENERATED_CONFIG_DIR="$dir/schema" \
        RABBITMQ_PID_FILE="$dir/pid" RABBITMQ_ENABLED_PLUGINS_FILE="$dir/enabled_plugins" \
        RABBITMQ_CONFIG_FILE="$dir/rabbitmq" RABBITMQ_CONF_ENV_FILE=/dev/null \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none' \
        "$server"
}

# ctl DIR ARG... - the broker's own tool for whoever runs it: users, permissions, connections
ctl() {
    local dir=$1
    shift
    if [ -f "$dir/by-docker" ]; then
        compose "$dir" exec -T "$service" rabbitmqctl --quiet "$@"
    else
        env HOME="$dir" ERL_EPMD_PORT="$(cat "$dir/epmd")" RABBITMQ_CONF_ENV_FILE=/dev/null \
            "$(dirname "$server")/rabbitmqctl" --node tidemill@localhost --quiet "$@"
    fi
}

if [ "${1:-}" = ctl ]; then
    ctl "${@:2}"
else
    main "$@"
fi
