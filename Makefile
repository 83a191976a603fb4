# cpn: every task of a developer's day. `make` alone lists them.
#
# The only thing needed beforehand is Python >= 3.11 with its venv module. Everything else is installed
# into .venv from requirements.lock, each file checked by its hash.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := workloads cluster scheduler monitoring controlplane
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
SHELL := /bin/sh
.DELETE_ON_ERROR:

export PYTHONUTF8 := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Ray's usage reports stay off.
export RAY_USAGE_STATS_ENABLED := 0

# Compiled modules are kept, whatever the image that this runs in says: what is started here starts hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

# Tests repeat: one hash seed, one time zone, one locale.
test test-all: export PYTHONHASHSEED := 0
test test-all: export TZ := UTC
test test-all: export LC_ALL := C.UTF-8

.PHONY: help setup demo up kube test test-all lint format types contracts bench lock openapi wheel clean

help: ## List these tasks
	@echo "cpn, a computing-power network scheduler. Tasks:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## Create .venv and install everything the lock names

demo: $(STAMP) ## Show the whole: two Ray clusters, products, jobs, receipts; stops all it started. DEMO_KUBE=1 adds a Kubernetes
	$(if $(filter-out 0,$(DEMO_KUBE)),$(BIN)/python -m tests.kube.demo,$(BIN)/cpn demo)

up: $(STAMP) ## Leave the demo's network running, with its URL and a token, until Ctrl-C
	$(BIN)/cpn up --demo

kube: ## Fetch or build the Kubernetes servers that some tests start into the cache; CPN_KUBE_TARBALL names an archive
	tests/kube/servers.sh

# Two processes: half of the time a test waits, for a server to start or a run to end. PYTEST_ARGS='-n 0' makes it one.
test: $(STAMP) ## Run the tests but the slow ones
	$(BIN)/python -m pytest -n 2 -m "not slow" $(PYTEST_ARGS)

test-all: $(STAMP) ## Run every test
	$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

lint: $(STAMP) ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## Put style and format right where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP) ## Check types, strictly
	$(BIN)/mypy

contracts: $(STAMP) ## Check who may import whom
	$(BIN)/lint-imports

bench: $(STAMP) ## Measure latency and throughput (figures, no verdict)
	$(BIN)/cpn bench latency
	$(BIN)/cpn bench throughput
	$(BIN)/cpn bench throughput --batch 100

openapi: $(STAMP) ## Write docs/openapi.json anew
	$(BIN)/python -m controlplane.api.openapi docs/openapi.json

wheel: $(STAMP) ## Build dist/*.whl with the pinned build backend
	$(BIN)/uv build --quiet --wheel --no-build-isolation --offline --python $(BIN)/python

lock: $(STAMP) ## Choose versions anew where pyproject.toml asks for it, and write all locks
	$(BIN)/uv pip compile pyproject.toml --quiet --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --quiet --extra build --universal --python-version 3.11 --constraint requirements.lock \
		--generate-hashes --no-emit-index-url --no-header --no-annotate --output-file requirements-image.lock
	echo uv | $(BIN)/uv pip compile - --quiet --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --no-annotate --output-file requirements-uv.lock

clean: ## Remove what the tools left behind, .venv included
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found: install Python >= 3.11, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1), Python >= 3.11 is needed: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo "make: $(PYTHON) has no venv module: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# pip brings uv, pinned; uv then installs the lock several times faster than pip would.
$(STAMP): requirements.lock requirements-uv.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-uv.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --offline --editable .
	@touch $@
