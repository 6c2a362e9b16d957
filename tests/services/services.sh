#!/usr/bin/env bash
# The services that the tests share: RabbitMQ, Kafka, moto for S3 and SQS, and s3s-fs for S3 once more, on loopback, with all they keep below target/services.
#   start     starts what does not run yet, and prints the addresses
#   stop      stops them, and whatever private brokers a killed test left, and deletes their data
#   status    says what runs; fails if not all of it does
#   run CMD   runs CMD with the addresses in its environment; stops afterwards what it started
# Tests find them by TIDEMILL_TEST_AMQP, TIDEMILL_TEST_KAFKA, TIDEMILL_TEST_S3 and TIDEMILL_TEST_S3S, else by the files that `start` writes.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=tests/services/broker.sh
source "$here/broker.sh"

# BROKER:USUAL-PORT:ADDRESS-FILE
readonly brokers=(rabbitmq:5672:amqp.address kafka:9092:kafka.address moto:5000:s3.address s3s:8014:s3s.address)

# each COMMAND - runs it with BROKER PORT FILE, for all brokers at once
each() {
    local entry pids=() pid failed=0
    for entry in "${brokers[@]}"; do
        # shellcheck disable=SC2086 # three words
        "$1" ${entry//:/ } &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    return "$failed"
}

# The port of an address.
port_of() { sed 's/.*127\.0\.0\.1:\([0-9]*\).*/\1/' "$1"; }

is_up() { [ -f "$state/$3" ] && is_taken "$(port_of "$state/$3")"; }

start_one() {
    ! is_up "$@" || return 0
    local port=$2
    "$here/$1.sh" remove "$state/$1"
    ! is_taken "$port" || port=$(free_port)
    "$here/$1.sh" start "$state/$1" "$port" >"$state/$3.part"
    mv "$state/$3.part" "$state/$3"
}

stop_one() {
    rm -f "$state/$3"
    local dir
    for dir in "$state/$1" "$state/private/$1"-*; do
        [ ! -d "$dir" ] || "$here/$1.sh" remove "$dir"
    done
}

print_one() {
    if is_up "$@"; then echo "$1 $(cat "$state/$3")"; else echo "$1 is not running"; return 1; fi
}

print_all() {
    local entry down=0
    for entry in "${brokers[@]}"; do
        # shellcheck disable=SC2086 # three words
        print_one ${entry//:/ } || down=1
    done
    return "$down"
}

start_all() {
    # Nothing starts if something cannot be installed.
    "$here/rabbitmq.sh" install
    "$here/kafka.sh" install
    "$here/moto.sh" install
    "$here/s3s.sh" install
    (flock 8; each start_one) 8>"$state/start.lock"
}

# Whether `run` has to stop them.
started=

run() {
    trap 'if [ -n "$started" ]; then each stop_one; fi' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if ! print_all >/dev/null; then
        started=yes
        start_all
    fi
    TIDEMILL_TEST_AMQP=$(cat "$state/amqp.address") TIDEMILL_TEST_KAFKA=$(cat "$state/kafka.address") \
        TIDEMILL_TEST_S3=$(cat "$state/s3.address") TIDEMILL_TEST_S3S=$(cat "$state/s3s.address") "$@"
}

case ${1:-} in
start) start_all; print_all ;;
stop) each stop_one ;;
status) print_all ;;
run) shift; run "$@" ;;
*) die "usage: $0 start | stop | status | run COMMAND..." ;;
esac
