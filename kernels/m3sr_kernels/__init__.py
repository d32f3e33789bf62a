"""Selective scans for M3SR, and the convolution and norms around them, as a library of its own.

It imports JAX and never m3sr_jax.

Dimension letters: B batch, H W space, L sequence length, R heads, P channels a head, D channels, N states, G groups of
heads. Each op has several implementations of one definition, its `reference.py`; see `Implementation` for their names.
"""

from m3sr_kernels.depthwise_conv_silu import depthwise_conv_silu
from m3sr_kernels.dispatch import Implementation
from m3sr_kernels.group_norm_silu import group_norm_silu
from m3sr_kernels.layer_norm import layer_norm
from m3sr_kernels.mamba_token_mix import mamba_token_mix
from m3sr_kernels.s6_scan import s6_scan
from m3sr_kernels.ss2d_scan import ss2d_scan
from m3sr_kernels.ssd_scan import ssd_scan

__all__ = [
    "Implementation",
    "depthwise_conv_silu",
    "group_norm_silu",
    "layer_norm",
    "mamba_token_mix",
    "s6_scan",
    "ss2d_scan",
    "ssd_scan",
]
