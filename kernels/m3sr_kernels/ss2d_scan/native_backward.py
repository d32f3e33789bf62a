"""Pixels of an image on a CPU, backward."""

from __future__ import annotations

from m3sr_kernels.native import scan_gradient
from m3sr_kernels.ss2d_scan.native_forward import Image


class Backward(scan_gradient.Backward):
    """Gradients from that of y."""

    def __init__(self, states: int) -> None:
        super().__init__(Image(), states, {"dy": Image.inputs["x"]})
