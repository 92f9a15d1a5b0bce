.DEFAULT_GOAL := help
SHELL := /bin/bash

help: ## What this Makefile can do
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

test: ## Every test, on real parts
	cargo test --workspace

lint: ## rustfmt, clippy, cargo-deny
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

.PHONY: help test lint
