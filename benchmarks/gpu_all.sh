#!/bin/sh
# Everything that needs a GPU, within 8 minutes: tests marked gpu, timings of scans and model, a short training.
# Command: benchmarks/gpu_all.sh
# It needs JAX with CUDA, flax, optax, h5py, rich and pytest-xdist. The comparison with PyTorch also needs torch; the
# training also needs ml_collections, grain and colour-science. Both are skipped without them. PYTHON= selects the
# interpreter, PYTHONPATH may add packages. Results and logs go to $OUT, by default benchmarks/results/. If a part
# fails or exceeds its time limit, its results so far are kept and the other parts still run.
cd "$(dirname "$0")/.." || exit
PYTHON=${PYTHON:-python3}
results=${OUT:-benchmarks/results}
mkdir -p "$results"
export PYTHONPATH="$PWD:$PWD/kernels${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 XLA_PYTHON_CLIENT_PREALLOCATE=false
failed=

part() { # name, seconds, command …
	name=$1 limit=$2
	shift 2
	echo "== $name"
	timeout "$limit" "$@" > "$results/$name.log" 2>&1
	code=$?
	tail -n 40 "$results/$name.log"
	[ $code -eq 0 ] || failed="$failed $name($code)"
}

has() { # modules …
	"$PYTHON" -c 'import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, sys.argv[1:])))' "$@"
}

"$PYTHON" -c 'import jax; assert jax.default_backend() == "gpu", jax.devices(); print(jax.__version__, jax.devices())' || exit
part gpu_tests 120 env JAX_PLATFORMS=cuda,cpu "$PYTHON" -m pytest -q -n 4 tests/m3sr_kernels/test_on_gpu.py -o addopts=--import-mode=importlib -p no:cacheprovider
part gpu_scans 130 "$PYTHON" benchmarks/bench_scans.py --photo $(has torch && echo --torch) --cases 'photo, (full|spatial, full|frequency, full)$' --output "$results/gpu.jsonl"
part gpu_model 120 "$PYTHON" benchmarks/bench_model.py --implementations default xla --output "$results/gpu.jsonl"
if has ml_collections grain colour; then
	part gpu_train 90 "$PYTHON" train.py --config configs/demo.py --workdir "$(mktemp -d)" --config.train.num_steps=40
else
	echo "== skipped gpu_train: it needs ml_collections, grain and colour-science"
fi
echo "results in $results; failed:${failed:- none}"
[ -z "$failed" ]
