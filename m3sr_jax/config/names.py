"""Names that configuration, command line and models share; `m3sr_jax.networks` has the names of networks."""

from typing import Literal, get_args

Benchmark = Literal["cave", "ntire2022", "ntire2020_clean", "ntire2020_real"]
OnDisk = Literal[Benchmark, "folder"]  # "folder": one's own scenes
Dataset = Literal["synthetic", OnDisk, "photo"]
DATASETS: tuple[str, ...] = get_args(Dataset)
MatmulPrecision = Literal["float32", "tf32"]  # of products of float32 numbers, see `m3sr_jax.models.precision`
# Fields of what a network stands on (m3sr_jax.models.base), which every network takes.
BASE_FIELDS = ("base", "pixel_head", "normalise_exposure", "exact_colour")
BRANCHES = ("spatial", "frequency", "spectral")
