# Every target creates .venv if it is missing and installs what it needs; a second call starts at once.
# With another interpreter: make PYTHON=/path/to/python3.12 demo. Some of the tests: make test TESTS=tests/m3sr_jax/io.

PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && echo "$$python" && break; done)
BIN := .venv/bin
TESTS ?= tests
OLDEST_TESTS ?= tests/m3sr_jax/io tests/m3sr_jax/models/test_m3sr.py tests/m3sr_kernels/test_api.py tests/m3sr_kernels/ssd_scan/test_xla_chunked.py \
	tests/m3sr_kernels/s6_scan tests/m3sr_kernels/test_release_numbers.py tests/m3sr_jax/test_checkpoint.py tests/m3sr_jax/data tests/m3sr_jax/cli/test_main.py \
	tests/m3sr_jax/training/test_step.py tests/m3sr_jax/training/test_checkpoint.py

.PHONY: demo test parity matrix lint bench fuzz fuzz-native wheel oldest audit gpu-compile gpu-execute gpu-memory
.DELETE_ON_ERROR:

# The shipped model on a photo, with its page, then a short training with its report. BROWSER=true opens no browser.
demo: .venv/.run
	BROWSER=true $(BIN)/m3sr predict examples/coffee.jpg --output runs/demo-photo --overwrite --view
	$(BIN)/python train.py --config configs/demo.py --workdir runs/demo

test: .venv/.dev
	$(BIN)/python -m pytest -q -n auto --dist worksteal $(TESTS)

# All reference numbers in M3SR_PARITY_DIR; make test checks a subset that covers every network and dtype.
parity: .venv/.dev
	M3SR_FULL_PARITY=1 $(BIN)/python -m pytest -q -n auto tests/m3sr_jax/test_parity.py tests/m3sr_jax/test_baseline_parity.py tests/m3sr_kernels/test_release_numbers.py

# Every baseline on every data set, every case by every implementation, every shape lowered for CUDA; make test runs some.
matrix: .venv/.dev
	M3SR_FULL_MATRIX=1 $(BIN)/python -m pytest -q -n auto tests/m3sr_jax/test_baselines_on_benchmarks.py tests/m3sr_kernels/test_implementations.py tests/m3sr_kernels/test_gpu_lowering.py

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright

bench: .venv/.dev
	for script in $(filter-out %/bench_photo.py %/bench_tiles.py,$(wildcard benchmarks/bench_*.py)); do $(BIN)/python "$$script" || exit; done

# Ten thousand damaged files for every reader. A file that is neither refused nor read correctly is kept in build/fuzz.
fuzz: .venv/.dev
	$(BIN)/python tools/fuzz_readers.py --keep build/fuzz --output build/fuzz.jsonl

# Two thousand random shapes for every native kernel, values and gradients against float64; figures in build/.
fuzz-native: .venv/.dev
	mkdir -p build
	M3SR_NATIVE_FUZZ=2000 M3SR_NATIVE_FUZZ_OUTPUT=build/fuzz_native.jsonl \
		$(BIN)/python -m pytest -q tests/m3sr_kernels/native/test_shapes.py

# The package as users install it: a wheel in its own environment, next to Hugging Face's `kernels`.
wheel: | $(BIN)/python
	rm -rf build/lib build/wheel .venv-wheel && $(BIN)/python -m pip wheel --quiet . --no-deps --wheel-dir build/wheel
	$(PYTHON) -m venv .venv-wheel && .venv-wheel/bin/python -m pip install --quiet build/wheel/*.whl kernels
	cd build/wheel && ../../.venv-wheel/bin/python ../../tools/check_wheel.py *.whl

# A representative part of the tests with the lowest versions that pyproject.toml allows. Deprecation warnings are
# expected there and ignored. With jax 0.10.0 the gradient norm of a batch in parts is off by 2e-6; the deselected test
# requires 1e-6.
oldest: .venv-oldest/.run
	.venv-oldest/bin/python -m pytest -q -o addopts=--import-mode=importlib -o filterwarnings= $(OLDEST_TESTS) \
		--deselect tests/m3sr_jax/training/test_step.py::test_parts_in_turn_give_the_step_of_the_whole_batch

# Known vulnerabilities of the packages in .venv, from the Python Packaging Advisory Database.
audit: .venv/.run
	$(BIN)/python -m pip install --quiet pip-audit && $(BIN)/pip-audit --strict --skip-editable

# Compiles every GPU kernel without a GPU, in its own environment (4.4 GB). It needs jax 0.10: without a GPU, jax 0.11
# and newer compile Triton kernels for one architecture only.
gpu-compile: .venv-gpu/.run
	.venv-gpu/bin/python tools/gpu_compile.py --output benchmarks/results/gpu_compile.jsonl

# Executes the compiled PTX of every GPU kernel on the CPU: numbers, memory accesses, races, instruction counts. After a
# change that is meant to alter the counts: .venv-gpu/bin/python -m tools.ptx.counts --output benchmarks/results/gpu_instructions.jsonl
gpu-execute: .venv-gpu/.dev
	.venv-gpu/bin/python -m pytest -q -n 2 --dist worksteal tests/tools/ptx

gpu-memory: .venv-gpu/.run
	.venv-gpu/bin/python tools/gpu_memory.py --output benchmarks/results/gpu_memory.jsonl

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: found no Python 3.11 or newer with venv; install one (Debian: apt install python3 python3-venv) or pass PYTHON=" >&2; exit 2; }
	$(PYTHON) -m venv .venv

# Stamp files: a change of pyproject.toml reinstalls.
.venv/.run: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ .venv/.run

.venv-oldest/.run: pyproject.toml
	$(PYTHON) -m venv --clear .venv-oldest
	.venv-oldest/bin/python tools/oldest_versions.py > .venv-oldest/versions.txt
	.venv-oldest/bin/python -m pip install --quiet --constraint .venv-oldest/versions.txt --editable . beartype hypothesis pytest scikit-image spectral
	@touch $@

.venv-gpu/.run: pyproject.toml
	$(PYTHON) -m venv .venv-gpu
	.venv-gpu/bin/python -m pip install --quiet --editable . 'jax[cuda13]>=0.10,<0.11'
	@touch $@

.venv-gpu/.dev: .venv-gpu/.run
	.venv-gpu/bin/python -m pip install --quiet beartype pytest pytest-xdist
	@touch $@
