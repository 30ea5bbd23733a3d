# make run    builds rlogind and serves on loopback, for a demonstration
# make test   runs all tests (as root: with real clients and real PAM, in namespaces)
# make soak   20,000 logins in a row and 2,000 at once, as root: nothing may be left behind
# make faults lets each system call of the daemon fail once with each error, as root
# make fuzz   fuzzes what reads strangers' bytes or counts what they do, SECONDS=60 for each target
# make bench  measures beside other servers (as root, a quarter of an hour): ROUNDS=3, ONLY=login,echo,rlogind, QUICK=1
# make lint   checks format, lints, documentation and advisories
# make deb    builds target/debian/rlogind_*.deb;  make rpm  builds target/generate-rpm/rlogind-*.rpm
# make install-test   tries the .deb in a Debian of its own, as root
# make install, make uninstall   for those without a package: PREFIX=/usr/local DESTDIR=
# Each installs with apt-get what it needs and is missing.

CARGO ?= cargo
DEMO := packaging/demo/rlogind.toml
# Root's, as a configuration has to be: this folder may be anybody's.
DEMO_COPY := /run/rlogind-demo/rlogind.toml
SUDO := $(shell [ "$$(id -u)" -eq 0 ] || echo sudo)
# The tests name what could not run here, where a test runner would hide it.
export RLOGIND_E2E_SKIPPED := $(CURDIR)/target/e2e-skipped

PREFIX ?= /usr/local
DESTDIR ?=
# Tools of ours that Debian does not have are built there.
export PATH := $(CURDIR)/target/tools/bin:$(PATH)

.PHONY: build run test soak faults lint audit fuzz bench packaged deb rpm install uninstall install-test

build:
	@tests/setup.sh build
	$(CARGO) build --release --locked

run:
	@tests/setup.sh build run
	$(CARGO) build --release --locked
	@echo
	@echo "This is a demonstration: $(DEMO) lets every user of this machine in"
	@echo "without a password, root too, from 127.0.0.1 only. Never serve a network with it."
	@echo "Log in from another terminal; ^C here ends it:"
	@echo
	@echo "    rsh-redone-rlogin 127.0.0.1"
	@echo
	@$(SUDO) install -D -o root -g root -m 644 $(DEMO) $(DEMO_COPY)
	@exec $(SUDO) target/release/rlogind --config $(DEMO_COPY) --stderr

# Tests that need root make themselves a machine of their own and leave this one alone.
test:
	@tests/setup.sh build test
	@mkdir -p target && rm -f $(RLOGIND_E2E_SKIPPED)
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -x; $(CARGO) nextest run --locked --no-fail-fast; \
	else \
		set -x; $(CARGO) test --locked --no-fail-fast --all-targets; \
	fi
	$(CARGO) test --locked --doc
	@if [ -e $(RLOGIND_E2E_SKIPPED) ]; then sort -u $(RLOGIND_E2E_SKIPPED); fi

# The same tests as in the suite, with more to do and the time for it.
soak: export RLOGIND_SOAK_LOGINS ?= 20000
soak: export RLOGIND_SOAK_AT_ONCE ?= 2000
soak: export RLOGIND_E2E_LONGEST ?= 7200
soak:
	@tests/setup.sh build test
	$(CARGO) test --locked --release --test e2e soak:: -- --nocapture --test-threads=1

faults: export RLOGIND_FAULTS ?= all
faults: export RLOGIND_E2E_LONGEST ?= 7200
faults:
	@tests/setup.sh build test
	$(CARGO) test --locked --test e2e faults -- --nocapture

SECONDS ?= 60
fuzz:
	@tests/setup.sh build fuzz
	fuzz/run $(SECONDS)

# Nothing else should run meanwhile. It has a lock file and a target directory of its own.
BENCH := --manifest-path benches/Cargo.toml
bench:
	@tests/setup.sh build bench
	@benches/peers.sh
	$(CARGO) build --release --locked
	$(CARGO) build --release --locked $(BENCH)
	$(SUDO) benches/target/release/rlogind-bench run "$(ROUNDS)" "$(ONLY)" "$(QUICK)"

lint: audit
	@tests/setup.sh build
	$(CARGO) fmt --all --check
	$(CARGO) fmt $(BENCH) --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets $(BENCH) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

# The advisories come from the network: where they cannot be had, that is said and no failure.
audit:
	@if ! $(CARGO) audit --version >/dev/null 2>&1; then \
		echo "SKIPPED: cargo audit is not installed (cargo install cargo-audit)"; \
	elif told=$$($(CARGO) audit 2>&1); then \
		echo "cargo audit: nothing found"; \
	elif echo "$$told" | grep -qi "fetch advisory database\|failed to fetch"; then \
		echo "SKIPPED: cargo audit could not fetch the advisories"; \
	else \
		echo "$$told"; exit 1; \
	fi

# What packages need and the sources do not have as files.
MAN := rlogind.8 rlogind.toml.5 rlogind-trust.5
packaged: build
	@mkdir -p target/packaging
	$(CARGO) run --quiet --locked --example completions -- target/packaging
	@ln -sfn rlogind target/packaging/in.rlogind
	@echo ".so man8/rlogind.8" >target/packaging/in.rlogind.8
	@cp $(addprefix docs/man/,$(MAN)) target/packaging/
	@cd target/packaging && gzip -9nf -k $(MAN) in.rlogind.8

deb: packaged
	@tests/setup.sh deb
	@rm -f target/debian/rlogind_*.deb
	$(CARGO) deb --locked --no-build
	lintian --fail-on error target/debian/rlogind_*.deb

rpm: packaged
	@tests/setup.sh rpm
	@strip -o target/packaging/rlogind target/release/rlogind
	@rm -f target/generate-rpm/rlogind-*.rpm
	$(CARGO) generate-rpm
	rpm -qpl target/generate-rpm/rlogind-*.rpm

# Building is not root's affair: `make packaged`, then `sudo make install`.
install:
	@[ -x target/release/rlogind ] && [ -d target/packaging ] || $(MAKE) packaged
	packaging/install $(PREFIX) $(DESTDIR)

uninstall:
	packaging/install --remove $(PREFIX) $(DESTDIR)

install-test: deb
	@tests/setup.sh install-test
	tests/install/run target/debian/rlogind_*.deb
