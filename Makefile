# Every target makes .venv if it is missing and installs what it needs; called again, it starts at once.
# Another interpreter: make PYTHON=/path/to/python3.12 demo. A narrower test run: make test TESTS=tests/m3sr_jax/io.

PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && echo "$$python" && break; done)
BIN := .venv/bin
TESTS ?= tests

.PHONY: demo test parity lint bench gpu-compile gpu-memory
.DELETE_ON_ERROR:

demo: .venv/.run
	$(BIN)/python train.py --config configs/demo.py --workdir runs/demo

test: .venv/.dev
	$(BIN)/python -m pytest -q -n auto --dist worksteal $(TESTS)

# Every case of the releases' numbers that M3SR_PARITY_DIR holds; make test runs those that cover each network and type.
parity: .venv/.dev
	M3SR_FULL_PARITY=1 $(BIN)/python -m pytest -q -n auto tests/m3sr_jax/test_parity.py tests/m3sr_jax/test_baseline_parity.py tests/m3sr_kernels/test_release_numbers.py

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright

bench: .venv/.dev
	for script in benchmarks/bench_*.py; do $(BIN)/python "$$script" || exit; done

# Compiles every GPU kernel without a GPU, in an environment of its own (4.4 GB). jax 0.10: from 0.11 on a machine without
# a GPU compiles Triton kernels for one architecture only.
gpu-compile: .venv-gpu/.run
	.venv-gpu/bin/python benchmarks/gpu_compile.py --output benchmarks/results/gpu_compile.jsonl

gpu-memory: .venv-gpu/.run
	.venv-gpu/bin/python benchmarks/gpu_memory.py --output benchmarks/results/gpu_memory.jsonl

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

.venv-gpu/.run: pyproject.toml
	$(PYTHON) -m venv .venv-gpu
	.venv-gpu/bin/python -m pip install --quiet --editable . 'jax[cuda13]>=0.10,<0.11'
	@touch $@
