"""Selective scans for M3SR, as a library of its own: imports JAX, never m3sr_jax.

Dimension letters: B batch, H W space, L sequence, K directions, R heads a direction, P channels a head, D channels, N
state, G groups. Each op has several implementations of one meaning; `implementation=None` takes the best that runs here
(see `dispatch`).
"""

from m3sr_kernels.mamba_token_mix import mamba_token_mix
from m3sr_kernels.s6_scan import s6_scan
from m3sr_kernels.ss2d_scan import ss2d_scan
from m3sr_kernels.ssd_scan import ssd_scan

__all__ = ["mamba_token_mix", "s6_scan", "ss2d_scan", "ssd_scan"]
