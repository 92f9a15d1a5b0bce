.DEFAULT_GOAL := help
SHELL := /bin/bash

# `make demo KEEP=1` leaves everything running.
KEEP ?=
# The number of worlds in `make chaos`, or a single one.
SEEDS ?= 500
SEED ?=
# The part that `make bench` measures: operator, outage, fleet, eso or reader; by default all but fleet and eso.
PART ?=
# `make soak`: minutes under faults, shared equally by the request limits; a single request limit; and the program to
# test instead of a release build.
MINUTES ?= 3
BUDGET ?=
PROGRAM ?=
# `make e2e REQUIRE=1` fails where a node cannot run, instead of skipping; `make advisories REQUIRE=1` where the
# advisories cannot be fetched.
REQUIRE ?=
# What `make demo` builds. CI passes the targets that its tests have built already: other targets have other features,
# and would need a second build.
DEMO_TARGETS ?= --bin parameter-mirror --bin parameter-mirror-reader --bin parameter-mirror-demo

# The same for `make generate`.
GENERATE_TARGETS ?=

# Tests mostly wait for conditions, so more tests than cores run at once.
export RUST_TEST_THREADS ?= 8

help: ## What this Makefile can do
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: parts ## The outage story on real parts, checked step by step (KEEP=1 leaves it running)
	cargo build --workspace $(DEMO_TARGETS)
	@if hack/node --check; then export PARAMETER_MIRROR_PROGRAMS=$(CURDIR)/target/debug; beside=hack/e2e; fi; \
	  $$beside target/debug/parameter-mirror-demo $(if $(KEEP),--keep)

test: parts ## Every test, on real parts
	cargo test --workspace

sdk-test: parts ## Unmodified AWS SDKs, chamber and the readers of docs/readers on one mirror (needs Python, Node.js, Go, a JDK, Maven)
	hack/sdks install
	cargo test --workspace --test sdk

e2e: parts ## The day of the incident on a real Kubernetes node, with the image and the chart (needs root; REQUIRE=1: or fail)
	cargo test --workspace --test e2e --no-run
	hack/e2e cargo test --offline --workspace --test e2e -- --nocapture || { status=$$?; [ $$status = 77 ] && [ -z "$(REQUIRE)" ]; }

soak: parts ## 1,000 mirrors while SSM and Redis fail in turns (MINUTES=60, BUDGET=60, SEED=17, PROGRAM=path)
	$(if $(PROGRAM),,cargo build --release --workspace --bin parameter-mirror)
	SOAK_MINUTES=$(MINUTES) SOAK_BUDGET=$(BUDGET) SOAK_SEED=$(SEED) SOAK_PROGRAM=$(abspath $(or $(PROGRAM),target/release/parameter-mirror)) \
	  cargo test --workspace --test soak -- --nocapture

image: ## The operator's image as an OCI layout, target/image, and as one archive
	hack/image

chaos: ## SEEDS=500 worlds of random faults in virtual time, or the one of SEED=17
	CHAOS_SEEDS=$(SEEDS) CHAOS_SEED=$(SEED) cargo test --test integration simulation::chaos -- --nocapture

lint: ## rustfmt, clippy, licences, bans and sources of all dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items
	cargo clippy --workspace --test sdk --test e2e --test upgrade --test soak -- -D warnings
	hack/mutants --check
	hack/parts install-lint
	PATH="$$(hack/parts path):$$PATH" cargo deny check bans licenses sources

advisories: ## The dependencies against the published advisories, where these can be fetched (REQUIRE=1: or fail)
	REQUIRE=$(REQUIRE) hack/advisories || { status=$$?; [ $$status = 77 ] && [ -z "$(REQUIRE)" ]; }

bench: parts ## What operator and reader cost, on an idle machine (20 minutes; PART=fleet MIRRORS=500 INTERVAL=30 OUTAGE=60)
	cargo build --profile dist --workspace --bin parameter-mirror --bin parameter-mirror-reader
	cargo build --release --workspace --bin parameter-mirror-bench
	[ "$(PART)" != eso ] || hack/parts install-eso
	target/release/parameter-mirror-bench $(PART)

reader: ## The reader as one static program of at most 12 MB
	hack/reader build

lambda-layer: ## The reader as a layer for Lambda functions
	hack/reader layer

generate: parts ## What is made of other files: CRDs, docs/reference/api.md, the tables of the chart's values, deploy/, the version of Cargo.toml elsewhere
	hack/generate $(GENERATE_TARGETS)

site: ## The documentation as a site, in target/site; fails at a dead link (needs Python and npm; `hack/site serve` shows it)
	hack/site

release: parts ## Everything that is handed out, with SHA256SUMS, into dist/ (about 10 minutes once; docs/project/releasing.md)
	hack/release

parts: ## Installs what tests and demo run against (about 7 minutes once, then nothing)
	hack/parts install

.PHONY: help demo test sdk-test e2e soak image chaos lint advisories bench reader lambda-layer generate site release parts
