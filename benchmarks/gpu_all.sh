#!/bin/sh
# Everything that needs a GPU, within 8 minutes: tests marked gpu, scans and model timed, a short training.
# Command: benchmarks/gpu_all.sh     Needs an environment with JAX on CUDA and the project's dependencies that are not
# only for reading files; PYTHON= picks the interpreter. Results and logs go to $OUT, else benchmarks/results/.
# A part that fails or runs out of its time is reported and the others still run.
cd "$(dirname "$0")/.." || exit
PYTHON=${PYTHON:-python3}
results=${OUT:-benchmarks/results}
mkdir -p "$results"
export PYTHONPATH="$PWD:$PWD/kernels" PYTHONUNBUFFERED=1 XLA_PYTHON_CLIENT_PREALLOCATE=false
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

"$PYTHON" -c 'import jax; assert jax.default_backend() == "gpu", jax.devices(); print(jax.__version__, jax.devices())' || exit
part gpu_tests 120 env JAX_PLATFORMS=cuda,cpu "$PYTHON" -m pytest -q -m gpu tests/m3sr_kernels -o addopts=--import-mode=importlib -p no:cacheprovider
part gpu_scans 130 "$PYTHON" benchmarks/bench_scans.py --photo --torch --cases 'photo, (full|spatial, full|frequency, full)$' --output "$results/gpu.jsonl"
part gpu_model 120 "$PYTHON" benchmarks/bench_model.py --implementations default xla --output "$results/gpu.jsonl"
part gpu_train 90 "$PYTHON" train.py --config configs/demo.py --workdir "$(mktemp -d)" --config.train.num_steps=40
echo "results in $results; failed:${failed:- none}"
[ -z "$failed" ]
