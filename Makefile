# `make help` says what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PORT ?= 8010
ARGS ?=

# Where `make install` puts things; DESTDIR stands before all of it, for packages.
PREFIX ?= /usr/local
BINARY ?= target/release/greenroom
bindir := $(PREFIX)/bin
unitdir := $(PREFIX)/lib/systemd/system
sysusersdir := $(PREFIX)/lib/sysusers.d
mandir := $(PREFIX)/share/man/man1
docdir := $(PREFIX)/share/doc/greenroom

.PHONY: help demo test faults build dev lint bench ui setup install uninstall reference clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## a live farm with a real repository: http://127.0.0.1:8010 (ARGS="--for 30s --port 0")
	@scripts/check-tools cargo node npm git cc make
	@$(MAKE) --no-print-directory build
	@target/release/greenroom demo $(ARGS)

build: ui ## the page and the release binary, target/release/greenroom
	cargo build --release --locked

ui: ui/dist/index.html ## the page, ui/dist

ui/node_modules: ui/package-lock.json
	cd ui && npm ci --no-audit --no-fund
	@touch ui/node_modules

ui/dist/index.html: ui/node_modules $(shell find ui/src ui/index.html ui/vite.config.ts ui/scripts ui/public -type f 2>/dev/null)
	cd ui && npm run build

setup: ## everything that the tests need: page, stock worker, browser
	@scripts/check-tools cargo node npm git cc python3
	@$(MAKE) --no-print-directory ui
	@scripts/services setup

test: setup ## all tests: unit, conformance, stories, end to end with the stock worker and a real browser
	cd ui && npm test
	cargo build --locked
	cargo test --workspace --locked
	GREENROOM_BINARY=$(CURDIR)/target/debug/greenroom node --test --test-concurrency=1 tests/e2e/*.test.mjs

faults: setup ## the guarantees of docs/guarantees.md at their full figures: hours (ARGS="g16" for one, GREENROOM_SEED=N to repeat)
	cargo build --locked
	@before=$$(cat target/guarantees.jsonl 2>/dev/null | wc -l); status=0; \
	GREENROOM_FAULTS=full cargo test --locked -p greenroom --test guarantees -- --nocapture --test-threads=1 $(ARGS) || status=$$?; \
	scripts/guarantees --after $$before; exit $$status

dev: ui ## a master over config/samples/minimal.toml, debug build
	cargo run -- master --config config/samples/minimal.toml

lint: ui ## formatting, clippy, rustdoc, svelte-check, eslint
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	cd ui && npm run check && npm run lint

bench: build ## measures this machine: throughput, latency, logs, reads, start (see benches/README.md)
	@benches/run $(ARGS)

install: ## puts the built program, units, manual pages and completions into PREFIX (/usr/local), below DESTDIR
	@test -x "$(BINARY)" || { echo "$(BINARY) is missing: make build" >&2; exit 1; }
	install -D -m 755 "$(BINARY)" "$(DESTDIR)$(bindir)/greenroom"
	install -d "$(DESTDIR)$(unitdir)" "$(DESTDIR)$(mandir)"
	for unit in greenroom.service greenroom-worker@.service; do \
		sed 's|@bindir@|$(bindir)|g' "packaging/systemd/$$unit" > "$(DESTDIR)$(unitdir)/$$unit" || exit 1; \
		chmod 644 "$(DESTDIR)$(unitdir)/$$unit"; \
	done
	install -D -m 644 packaging/systemd/sysusers.conf "$(DESTDIR)$(sysusersdir)/greenroom.conf"
	"$(BINARY)" manual "$(DESTDIR)$(mandir)"
	install -d "$(DESTDIR)$(PREFIX)/share/bash-completion/completions" "$(DESTDIR)$(PREFIX)/share/zsh/site-functions" \
		"$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d"
	"$(BINARY)" completions bash > "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/greenroom"
	"$(BINARY)" completions zsh > "$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_greenroom"
	"$(BINARY)" completions fish > "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/greenroom.fish"
	install -D -m 644 packaging/greenroom.toml "$(DESTDIR)$(docdir)/greenroom.toml"
	install -D -m 644 config/schema.json "$(DESTDIR)$(docdir)/schema.json"

uninstall: ## removes what `make install` put there
	rm -f "$(DESTDIR)$(bindir)/greenroom" "$(DESTDIR)$(unitdir)/greenroom.service" \
		"$(DESTDIR)$(unitdir)/greenroom-worker@.service" "$(DESTDIR)$(sysusersdir)/greenroom.conf" \
		"$(DESTDIR)$(mandir)"/greenroom.1 "$(DESTDIR)$(mandir)"/greenroom-*.1 \
		"$(DESTDIR)$(PREFIX)/share/bash-completion/completions/greenroom" \
		"$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_greenroom" \
		"$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/greenroom.fish"
	rm -rf "$(DESTDIR)$(docdir)"

reference: ## writes config/schema.json and the pages in docs/reference anew, from the types
	GREENROOM_UPDATE=1 cargo test --locked -p greenroom-config --test schema

clean: ## removes what was built
	rm -rf target ui/dist ui/node_modules .venv
