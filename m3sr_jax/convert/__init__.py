"""Weights of the authors' PyTorch release, both ways."""

from m3sr_jax.convert.read import read_release
from m3sr_jax.convert.release import params_from_release, params_to_release, release_activations

__all__ = ["params_from_release", "params_to_release", "read_release", "release_activations"]
