# The commands of this project. `make help` lists them.
.DEFAULT_GOAL := build

TARGET ?= x86_64-unknown-linux-musl
PREFIX ?= /usr/local
IMAGE  ?= marathon-acme
STATIC  = target/$(TARGET)/release/marathon-acme
# What another machine's program needs here: a compiler, and an emulator to try it with.
CROSS_aarch64-unknown-linux-musl = gcc-aarch64-linux-gnu qemu-user-static
CROSS_armv7-unknown-linux-musleabihf = gcc-arm-linux-gnueabihf qemu-user-static
CROSS_armv7-unknown-linux-gnueabihf = gcc-arm-linux-gnueabihf libc6-dev-armhf-cross qemu-user-static
# A processor of 64 bits runs this one. Debian's gcc-multilib and its compilers for ARM exclude each other.
I686 = i686-unknown-linux-musl
CROSS_$(I686) = gcc-multilib
EMULATOR = $(if $(filter i686-%,$(TARGET)),,qemu-$(patsubst armv7,arm,$(firstword $(subst -, ,$(TARGET))))-static)
# With glibc, Rust makes no program for ARM that is both static and movable.
GLIBC = $(findstring gnueabihf,$(TARGET))
# The library tests as a program of 32 bits. They need unwinding, which the static program leaves out; and
# dependencies that are not optimized are built in half of the time, which the tests do not take longer. A test
# outside of the library has the program built too, with the same features.
BUILD_I686 = RUSTFLAGS= CARGO_PROFILE_DEV_DEBUG=0 cargo $(1) --target $(I686) --config 'profile.dev.package."*".opt-level=0'
PACKAGES = pebble haproxy musl-tools buildah iproute2 strace systemd groff-base prometheus chromium
BENCH_PACKAGES = haproxy nginx-light wrk curl pebble lego uacme valgrind hyperfine python3-venv
OLD_PROGRAM = target/bench/old-program
# The budget of the static program, in bytes. Nothing raises it.
SIZE_MAX = 2500000

.PHONY: help setup build static smoke size rooms reproducible image demo demo-real test test-i686 check lint sim sim-tenants \
	sim-renewals sim-year \
	sim-mutants crash instances fuzz bench bench-instructions setup-bench install clean

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## install what the tests need and is missing (Debian, Ubuntu); says what cannot be had
	@sh tests/setup.sh $(TARGET) $(PACKAGES) $(CROSS_$(TARGET))

build: ## the program for this machine: target/release/marathon-acme
	cargo build --release

static: ## the static program: target/TARGET/release/marathon-acme
	@test -d "$$(rustc --print target-libdir --target $(TARGET))" || { echo "the Rust target $(TARGET) is" \
		"not installed; \`make setup TARGET=$(TARGET)\` installs it, or says that it cannot be had" >&2; exit 1; }
	cargo build --release --target $(TARGET)
	@readelf -h $(STATIC) | grep -q 'Type: *$(if $(GLIBC),EXEC,DYN)' && ! readelf -l $(STATIC) | grep -q INTERP \
		&& echo "$(if $(GLIBC),static,static-pie), $$(stat -c %s $(STATIC)) bytes: $(STATIC)"

smoke: static ## whether the static program for another machine, TARGET, gets a certificate, under qemu if needed
	OTHER_MACHINE="$(strip $(EMULATOR) $(STATIC))" cargo test --test e2e of_another_machine

size: static ## fails when the static program has more than 2500000 bytes
	@test $$(stat -c %s $(STATIC)) -le $(SIZE_MAX) || { echo "more than $(SIZE_MAX) bytes" >&2; exit 1; }

rooms: ## what each room of the house takes in the static program, with cargo-bloat
	@sh tests/rooms.sh $(TARGET)

reproducible: ## whether two builds of the static program in two folders are the same, byte for byte
	sh tests/reproducible.sh $(TARGET)

image: static ## the scratch image around it, with buildah
	mkdir -p target/image && cp $(STATIC) target/image/marathon-acme
	buildah --storage-driver vfs bud --isolation chroot -f Dockerfile.scratch -t $(IMAGE) target/image

demo: ## see it work, with stand-ins; ONCE=1 ends after the proof
	cargo build --release
	cargo run --release --example demo -- target/release/marathon-acme $(if $(ONCE),--once)

demo-real: ## see it work, with Pebble and HAProxy; ONCE=1 ends after the proof
	cargo build --release
	cargo run --release --example demo -- target/release/marathon-acme --real $(if $(ONCE),--once)

test: ## all tests; installs what they need, where it can; without their tools tests are ignored
	@SUDO="sudo -n" SETUP_TRIED=target/setup-tried sh tests/setup.sh $(TARGET) $(PACKAGES) $(CROSS_$(TARGET))
	cargo test --workspace

test-i686: ## the library tests on 32 bits, and whether a program of 32 bits gets a certificate
	@sh tests/setup.sh $(I686) $(CROSS_$(I686))
	$(call BUILD_I686,test --lib --test tidy)
	OTHER_MACHINE=target/$(I686)/debug/marathon-acme cargo test --test e2e of_another_machine

check: lint test ## what every change must pass

lint: ## format, clippy, documentation, and the crates: use, licenses, sources, versions, advisories
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet
	cargo test --quiet --test supply
	@sh tests/deny.sh

sim: SEEDS ?= 1000
sim: ## the simulator: SEEDS=1000 runs, or SEED=7 replays one
	SEEDS=$(SEEDS) cargo test --profile sim --test sim every_seed_ends -- --nocapture

sim-lies: SEEDS ?= 300
sim-lies: ## load balancers that lie, or see new files late: SEEDS=300 runs, or SEED=7 replays one
	SEEDS=$(SEEDS) cargo test --profile sim --test sim -- --nocapture lying_load late_storage

sim-tenants: SEEDS ?= 100
sim-tenants: ## tenants that ask for more than their share: SEEDS=100 runs, or SEED=7 replays one
	SEEDS=$(SEEDS) cargo test --profile sim --test sim hostile_tenants -- --nocapture

sim-renewals: SEEDS ?= 10
sim-renewals: ## many renewals at once: mass revocation, a week's outage, 6-day certificates: SEEDS=10 of each
	SEEDS=$(SEEDS) cargo test --profile sim --test sim no_renewal_is -- --nocapture

sim-year: SEEDS ?= 200
sim-year: ## a year of the daemon's life: SEEDS=200 runs, 45 minutes on 2 cores, or SEED=7 replays one
	SEEDS=$(SEEDS) cargo test --profile sim --test sim a_year_of -- --nocapture

sim-mutants: SEEDS ?= 2000
sim-mutants: ## whether the simulator notices deliberate bugs: SEEDS=2000 for each at most
	SEEDS=$(SEEDS) sh tests/mutants/run.sh

instances: ROUNDS ?= 20
instances: SEED ?= 1
instances: ## instances killed, frozen, stopped and replaced: ROUNDS=20 of each by the chance of SEED=1
	INSTANCES_ROUNDS=$(ROUNDS) INSTANCES_SEED=$(SEED) cargo test --test e2e instance -- --nocapture

crash: KILLS ?= 500
crash: ## kill the program KILLS=500 times before Pebble and HAProxy, and at each step of its writes
	KILLS=$(KILLS) cargo test --test e2e killed_again_and_again
	KILLS=$(KILLS) cargo test --test e2e each_step_of_each_write

fuzz: SECONDS ?= 60
fuzz: ## fuzzing: SECONDS=60 for each parser and the daemon, or TARGET=sse alone
	sh tests/fuzz/run.sh $(SECONDS) $(if $(findstring command line,$(origin TARGET)),$(TARGET))

bench: ## figures beside those of a peer, measured in the same run; ONLY=listener for one subject
	cargo bench --bench all -- $(ONLY)

bench-instructions: ## instructions by valgrind, which a loaded machine does not change
	$(MAKE) bench ONLY=instructions

setup-bench: ## install the peers that the benchmark compares with; what is missing it leaves out
	@sh tests/setup.sh $(TARGET) $(BENCH_PACKAGES)
	@test -d $(OLD_PROGRAM) || { python3 -m venv $(OLD_PROGRAM) && $(OLD_PROGRAM)/bin/pip install -q marathon-acme==0.6.0; } \
		|| { rm -rf $(OLD_PROGRAM); echo "not installed: the old program; the benchmark will leave it out"; }

install: build ## install program, manual page and unit under DESTDIR and PREFIX
	install -D -m 0755 target/release/marathon-acme $(DESTDIR)$(PREFIX)/bin/marathon-acme
	install -d $(DESTDIR)$(PREFIX)/share/man/man8 $(DESTDIR)$(PREFIX)/lib/systemd/system
	target/release/marathon-acme --print-man > $(DESTDIR)$(PREFIX)/share/man/man8/marathon-acme.8
	target/release/marathon-acme --print-systemd-unit > target/marathon-acme.service 2> /dev/null
	sed -e 's#^ExecStart=.*#ExecStart=$(PREFIX)/bin/marathon-acme \\#' -e 's/^ProtectHome=.*/ProtectHome=yes/' \
		target/marathon-acme.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/marathon-acme.service

clean: ## remove everything that was built
	cargo clean
