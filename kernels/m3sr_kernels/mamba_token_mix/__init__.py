"""A Mamba-1 block over many short sequences of tokens: projections, causal convolution, S6 scan and gate in one op."""

from m3sr_kernels.mamba_token_mix.api import mamba_token_mix

__all__ = ["mamba_token_mix"]
