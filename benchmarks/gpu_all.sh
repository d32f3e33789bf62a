#!/bin/sh
# Everything that needs a GPU, within 9 minutes: tests marked gpu, timings of scans and model, a short training.
# Command: benchmarks/gpu_all.sh [--dry-run]
# It needs JAX with CUDA, flax, optax, h5py, rich and pytest-xdist. The comparison with PyTorch also needs torch; the
# training also needs ml_collections, grain and colour-science. Both are skipped without them. PYTHON= selects the
# interpreter, PYTHONPATH may add packages. Results and logs go to $OUT, by default benchmarks/results/. If a part
# fails or exceeds its time limit, its results so far are kept and the other parts still run.
# --dry-run runs every command on a CPU, at tiny sizes (see measure.py), to find mistakes in the scripts; OUT is needed.
cd "$(dirname "$0")/.." || exit
PYTHON=${PYTHON:-python3}
backend=gpu workers=4 platforms=cuda,cpu training=--config.train.num_steps=40
if [ "$1" = --dry-run ]; then
	: "${OUT:?a dry run has no results: set OUT to a folder for its output}"
	export M3SR_DRY_RUN=1 JAX_PLATFORMS=cpu XLA_FLAGS=--xla_backend_optimization_level=0
	backend=cpu workers=0 platforms=cpu
	training="--config.train.num_steps=2 --config.model.name=pixel --config.data.batch_size=2 --config.data.crop_size=16
		--config.data.scene_size=32 --config.data.num_train_scenes=2 --config.data.num_valid_scenes=1"
elif [ $# -gt 0 ]; then
	echo "error: found $*, expected --dry-run or nothing" >&2
	exit 2
fi
results=${OUT:-benchmarks/results}
mkdir -p "$results"
export PYTHONPATH="$PWD:$PWD/kernels${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 XLA_PYTHON_CLIENT_PREALLOCATE=false
failed=

part() { # name, seconds, command …
	name=$1 limit=$2
	shift 2
	echo "== $name"
	timeout "${M3SR_DRY_RUN:+60}$limit" "$@" > "$results/$name.log" 2>&1 # a dry run does not time anything
	code=$?
	tail -n 40 "$results/$name.log"
	[ $code -eq 0 ] || failed="$failed $name($code)"
}

has() { # modules …
	"$PYTHON" -c 'import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, sys.argv[1:])))' "$@"
}

"$PYTHON" -c 'import jax, sys; assert jax.default_backend() == sys.argv[1], jax.devices(); print(jax.__version__, jax.devices())' $backend || exit
part gpu_tests 120 env JAX_PLATFORMS=$platforms "$PYTHON" -m pytest -q -n $workers tests/m3sr_kernels/test_on_gpu.py tests/m3sr_jax/models/test_on_gpu.py -o addopts=--import-mode=importlib -p no:cacheprovider
part gpu_scans 130 "$PYTHON" benchmarks/bench_scans.py --photo $(has torch && echo --torch) --cases 'photo, (full|spatial, full|frequency, full)$' --output "$results/gpu.jsonl"
part gpu_model 120 "$PYTHON" benchmarks/bench_model.py --implementations default xla --output "$results/gpu.jsonl"
part gpu_model_tf32 60 "$PYTHON" benchmarks/bench_model.py --matmul-precision tf32 --output "$results/gpu.jsonl"
if has ml_collections grain colour; then
	# shellcheck disable=SC2086 # several options
	part gpu_train 90 "$PYTHON" train.py --config configs/demo.py --workdir "$(mktemp -d)" $training
else
	echo "== skipped gpu_train: it needs ml_collections, grain and colour-science"
fi
echo "results in $results; failed:${failed:- none}"
[ -z "$failed" ]
