# `make help` says what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PORT ?= 8010
ARGS ?=

.PHONY: help demo test build dev lint bench ui setup clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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

dev: ui ## a master over config/samples/minimal.toml, debug build
	cargo run -- master --config config/samples/minimal.toml

lint: ui ## formatting, clippy, rustdoc, svelte-check, eslint
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	cd ui && npm run check && npm run lint

bench: build ## measures this machine: throughput, latency, logs, reads, start (see benches/README.md)
	@benches/run $(ARGS)

clean: ## removes what was built
	rm -rf target ui/dist ui/node_modules .venv
