"""Converts weights from and to the networks' PyTorch releases."""

from m3sr_jax.convert.infer import infer_model
from m3sr_jax.convert.read import read_release
from m3sr_jax.convert.release import params_from_release, params_to_release, release_activations

__all__ = ["infer_model", "params_from_release", "params_to_release", "read_release", "release_activations"]
