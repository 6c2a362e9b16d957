#!/usr/bin/env bash
# One Apache Kafka broker for tests (KRaft, controller and broker in one process), in a folder and on a port of
# 127.0.0.1. `start` returns when it takes clients; `stop` and `kill` keep its data, `remove` does not. It runs in
# Docker where an engine answers, else on Java, with the jars that kafka/pom.xml names. `configs DIR ARG...` is
# kafka-configs.
#
# A file more.properties in the folder adds to the broker's properties: its `listeners` and `advertised.listeners` are
# further ones, of the names SSL, SASL_SSL, SASL_PLAINTEXT, and PROXIED for another plain one. Such a broker runs on Java.
set -euo pipefail
# shellcheck source=tests/services/broker.sh
source "$(dirname "${BASH_SOURCE[0]}")/broker.sh"

readonly service=kafka
readonly program=java
# ApiVersions, version 0; it is answered only once the broker has joined its cluster.
readonly greeting='\0\0\0\12\0\22\0\0\0\0\0\1\377\377'
readonly jars=$state/jars
readonly pom=$root/tests/services/kafka/pom.xml

address() { echo "127.0.0.1:$1"; }

java_is_enough() {
    command -v java >/dev/null || return 1
    local version
    version=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
    [ "${version:-0}" -ge 17 ]
}

ensure_installed() {
    java_is_enough || install "Java 17 or newer is missing: Kafka runs on it" default-jre-headless
    java_is_enough || die "java is still older than 17: an older one earlier on the PATH may hide the new one"
    if [ -d "$jars" ] && [ ! "$pom" -nt "$jars" ]; then return; fi
    command -v mvn >/dev/null || install "Maven is missing: it brings Kafka's jars" maven
    [ -z "${NO_INSTALL:-}" ] ||
        die "Kafka's jars are missing, and NO_INSTALL is set. Run without it: $0 install"
    say "getting Kafka's jars from Maven Central (45 MB), into $jars"
    rm -rf "$jars" "$jars.part"
    mvn --quiet --batch-mode -Dstyle.color=never --file "$pom" dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$jars.part" >"$state/mvn.log" 2>&1 || {
        tail -n 30 "$state/mvn.log" >&2
        die "Maven could not get them; above is the end of $state/mvn.log"
    }
    mv "$jars.part" "$jars"
    touch "$jars"
}

# What more.properties adds to a property that the script has itself.
added() { sed -n "s/^$2=/,/p" "$1/more.properties" 2>/dev/null || true; }

# Kafka's classes are run with these.
readonly java=(java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.awt.headless=true
    -Dorg.slf4j.simpleLogger.showDateTime=true "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS"
    -Dorg.slf4j.simpleLogger.log.org.apache.kafka.clients=warn -classpath "$jars/*")

launch() {
    local dir=$1 port=$2 controller
    controller=$(free_port)
    # The voters are named here and not in the data, so that the controller may have another port at each start. The
    # short sessions are for starts after a kill: until its old session ends, a broker may not join again.
    cat >"$dir/server.properties" <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller$(added "$dir" listeners)
advertised.listeners=PLAINTEXT://127.0.0.1:$port$(added "$dir" advertised.listeners)
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,SASL_PLAINTEXT:SASL_PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=$dir/data
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
END
    if [ -f "$dir/more.properties" ]; then
        grep -vE '^(advertised\.)?listeners=' "$dir/more.properties" >>"$dir/server.properties" || true
    fi
    local broker=("${java[@]}" -Xms64m -Xmx256m -Djava.io.tmpdir="$dir/tmp")
    mkdir -p "$dir/tmp"
    if [ ! -f "$dir/data/meta.properties" ]; then
        "${broker[@]}" kafka.tools.StorageTool format --cluster-id tidemill-for-the-tests \
            --config "$dir/server.properties" >>"$dir/log" 2>&1 || failed "$dir"
    fi
    run_in_background "$dir" "${broker[@]}" kafka.Kafka "$dir/server.properties"
}

# configs DIR ARG... - the broker's own tool for whoever runs it: its settings, and the users of SCRAM
configs() {
    local address
    address=$(sed -n 's/^advertised\.listeners=PLAINTEXT:\/\/\([^,]*\).*/\1/p' "$1/server.properties")
    "${java[@]}" -Xmx128m kafka.admin.ConfigCommand --bootstrap-server "$address" "${@:2}"
}

if [ "${1:-}" = configs ]; then
    configs "${@:2}"
else
    main "$@"
fi
