# Every target makes .venv if it is missing and installs what it needs; called again, it starts at once.
# Another interpreter: make PYTHON=/path/to/python3.12 demo. A narrower test run: make test TESTS=tests/m3sr_jax/io.

PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && echo "$$python" && break; done)
BIN := .venv/bin
TESTS ?= tests

.PHONY: demo test lint bench
.DELETE_ON_ERROR:

demo: .venv/.run
	$(BIN)/python train.py --config configs/demo.py --workdir runs/demo

test: .venv/.dev
	$(BIN)/python -m pytest -q -n auto $(TESTS)

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright

bench: .venv/.dev
	for script in benchmarks/bench_*.py; do $(BIN)/python "$$script" || exit; done

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: found no Python 3.11 or newer with venv; install one (Debian: apt install python3 python3-venv) or pass PYTHON=" >&2; exit 2; }
	$(PYTHON) -m venv .venv

# Stamps: what is installed follows pyproject.toml.
.venv/.run: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ .venv/.run
