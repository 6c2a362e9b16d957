# What a person does with this repository. `make` alone lists it.

# Rust by rustup lives here, also before a new login has it on the path.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help run test test-kafka-tls soak bench services services-stop functions tools clean

help:
	@echo 'make run        install what is missing, build, and run config/examples/quickstart.toml'
	@echo 'make test       format check, lints, all tests'
	@echo 'make test-kafka-tls   the tests of Kafka with the feature kafka-tls, which builds OpenSSL'
	@echo 'make soak       the long runs of the fault tests'
	@echo 'make bench      measure the engine beside the bare libraries; writes tests/bench/REPORT.md'
	@echo 'make services   start RabbitMQ, Kafka and an S3 for tests run by hand; `make services-stop` stops them'
	@echo 'make functions  build the example functions to WebAssembly components'
	@echo 'make clean      remove what was built'
	@echo
	@echo 'NO_INSTALL=1 makes each of them only say what is missing, and stop.'

run: functions
	cargo build --release --locked --package tidemill
	mkdir -p buckets/uploads buckets/thumbnails buckets/announcements buckets/tables buckets/reports
	cp -n tests/data/tables/seattle-weather.csv buckets/tables/
	target/release/tidemill run config/examples/quickstart.toml

test: functions
	@engine/setup.sh lints
	cargo fmt --all --check
	cargo fmt --manifest-path functions/Cargo.toml --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	cargo clippy --locked --manifest-path functions/Cargo.toml --workspace --all-targets -- --deny warnings
	tests/services/services.sh run cargo test --locked --workspace
	cargo test --locked --manifest-path functions/Cargo.toml --workspace
	node --test functions/tests/sdk-js/*.test.js

# Not part of `make test`: OpenSSL takes perl and some minutes.
test-kafka-tls:
	cargo clippy --locked --package tidemill-connectors --features kafka-tls --all-targets -- --deny warnings
	tests/services/services.sh run cargo test --locked --package tidemill-connectors --features kafka-tls -- kafka::

# Twenty kills, 50,000 objects and an object of 300 MB in `make test`; here two hundred, a million and 5 GB.
soak: functions
	TIDEMILL_KILLS=200 TIDEMILL_OBJECTS=1000000 TIDEMILL_PUTS=20000 TIDEMILL_OBJECT_BYTES=5000000000 tests/services/services.sh run \
		cargo test --locked --package tidemill --test end_to_end -- faults scale --nocapture --test-threads=1

# Some only: `make bench SCENARIOS="amqp kafka"`, which writes no report. One of the floors is wasmtime's own server, of
# the version line that the engine has.
bench: functions target/wasmtime/bin/wasmtime
	cargo build --release --locked --package tidemill --package tidemill-bench
	tests/services/services.sh run target/release/tidemill-bench $(SCENARIOS)

target/wasmtime/bin/wasmtime:
	cargo install wasmtime-cli --version '^48' --locked --root target/wasmtime

# The brokers the tests run on. `make test` starts them by itself, and stops what it started.
services:
	@tests/services/services.sh start

services-stop:
	@tests/services/services.sh stop

functions: tools
	functions/build.sh

tools:
	@engine/setup.sh

clean: services-stop
	cargo clean
	cargo clean --manifest-path functions/Cargo.toml
	rm -rf functions/build
