# Everything a developer does here. `make demo` and `make test` need Python 3.11+ with its venv module, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := runtime scripts tests $(wildcard bench examples)

UNIT := tests/unit tests/conformance tests/test_contract.py
TESTS := not (long or cluster)

# Without their bytecode the hundreds of programs that the tests start would each compile all that they import.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help environment demo test tests test-unit test-long test-cluster lint format lock bench

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | sort | expand -t 14

environment: ## the virtual environment in .venv, made from the locks when they changed
	@$(PYTHON) -m scripts.environment $(VENV)

demo: environment ## copy the template, start the service on an embedded bus, talk to it in four ways
	@$(BIN)/python -m scripts.demo

test: lint tests ## lint, types and every test but the long ones

tests: environment ## the tests of `make test`: most of them side by side, then those that promise seconds
	$(BIN)/python -m pytest --numprocesses auto --no-loadscope-reorder -m "$(TESTS) and not alone"
	$(BIN)/python -m pytest -m "$(TESTS) and alone"

test-unit: environment ## the fast tests, under a minute
	$(BIN)/python -m pytest -m "not slow and not long and not docker" $(UNIT)

test-long: environment ## the tests that need minutes
	$(BIN)/python -m pytest -m long

test-cluster: environment ## the tests in a real Kubernetes: the one of KUBECONFIG, or as root one made for them
	@bash .ci/cluster-tests $(BIN)/python

lint: environment ## format, lint and types, without changing a file
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

format: environment ## format the code and apply the linter's safe fixes
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

# The dev lock follows the image's lock, so that what is tested is what is shipped.
LOCK := uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock"
lock: environment ## resolve the requirements again; `make lock UPGRADE=--upgrade` takes newer versions
	$(BIN)/$(LOCK) $(UPGRADE) --extra fast --extra embedded --output-file runtime/daebus_runtime/constraints.txt runtime/pyproject.toml
	$(BIN)/$(LOCK) $(UPGRADE) --all-extras --constraints runtime/daebus_runtime/constraints.txt \
		--output-file requirements/dev.txt requirements/dev.in runtime/pyproject.toml
	awk '/^[a-z]/ {on = /^uv==/} on && !/#/' requirements/dev.txt > requirements/uv.txt
	$(BIN)/$(LOCK) $(UPGRADE) --constraints requirements/dev.txt \
		--output-file requirements/build.txt requirements/build.in
	$(BIN)/$(LOCK) $(UPGRADE) --constraints requirements/dev.txt --output-file bench/peers.txt bench/peers.in

bench: environment ## the benchmarks, each beside its peers; see bench/README.md
	$(BIN)/python -m bench
