"""The scans in plain PyTorch, as one would write them without building an extension, for comparison.

Both follow the equations of `m3sr_kernels`: S6 as a loop over the tokens, fused by torch.compile; SSD in chunks of
matrix products (Dao and Gu, "Transformers are SSMs", 2024, section 6), each direction on its own copy.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

Tensor = torch.Tensor


def s6_scan(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, z: Tensor, dt_bias: Tensor) -> Tensor:
    """`m3sr_kernels.s6_scan`, one token after the other."""
    step = F.softplus(dt + dt_bias)
    state, outputs = torch.zeros(x.shape[0], *a.shape, device=x.device), []
    for t in range(x.shape[1]):
        added = (step[:, t] * x[:, t])[:, :, None] * b[:, t, None]
        state = torch.exp(step[:, t, :, None] * a) * state + added
        outputs.append((state * c[:, t, None]).sum(-1) + d * x[:, t])
    return torch.stack(outputs, 1) * F.silu(z)


def ssd_scan(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, *, chunk: int = 64) -> Tensor:
    """y = c·h with h_t = exp(dt·a)·h + dt·b·x: x (B, L, H, P), dt (B, L, H) after softplus, b and c (B, L, N)."""
    length = x.shape[1]
    x, dt, b, c = (F.pad(array, [0, 0] * (array.ndim - 2) + [0, -length % chunk]) for array in (x, dt, b, c))
    x, dt, b, c = (array.unflatten(1, (-1, chunk)) for array in (x, dt, b, c))
    total = torch.cumsum(dt * a, 2)
    u = x * dt[..., None]
    within = torch.einsum("bktn,bksn,bktsh,bkshp->bkthp", c, b, _decay(total), u)
    added = torch.einsum("bksn,bksh,bkshp->bkhpn", b, torch.exp(total[:, :, -1:] - total), u)
    chunks = torch.cumsum(total[:, :, -1], 1)
    left = torch.einsum("bklh,blhpn->bkhpn", _decay(chunks), added)  # the state after each chunk
    entries = F.pad(left[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))
    between = torch.einsum("bktn,bkth,bkhpn->bkthp", c, torch.exp(total), entries)
    return (within + between).flatten(1, 2)[:, :length]


def _decay(total: Tensor) -> Tensor:
    """exp(total_t − total_s) for s ≤ t, else 0: (…, T, H) → (…, T, T, H)."""
    lower = torch.ones(total.shape[-2], total.shape[-2], dtype=torch.bool, device=total.device).tril()[:, :, None]
    return torch.exp(torch.where(lower, total[..., :, None, :] - total[..., None, :, :], -torch.inf))


def ss2d_scan(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, dt_bias: Tensor) -> Tensor:
    """`m3sr_kernels.ss2d_scan`: four sequences as flipped and transposed copies, their outputs summed by pixel."""
    height, width = x.shape[1:3]
    heads = a.shape[1]
    total = torch.zeros_like(x)
    for k in range(4):

        def sequence(image: Tensor, k: int = k) -> Tensor:
            image = image.transpose(1, 2) if k % 2 else image
            flat = image.flatten(1, 2)
            return flat.flip(1) if k >= 2 else flat

        steps = F.softplus(sequence(dt[:, :, :, k]) + dt_bias[k])
        heads_of_x = sequence(x).unflatten(-1, (heads, -1))
        y = ssd_scan(heads_of_x, steps, a[k], sequence(b[:, :, :, k]), sequence(c[:, :, :, k])) + d[k] * heads_of_x
        y = (y.flip(1) if k >= 2 else y).flatten(2)
        size = (width, height) if k % 2 else (height, width)
        y = y.unflatten(1, size)
        total = total + (y.transpose(1, 2) if k % 2 else y)
    return total


SCANS = {"s6_scan": s6_scan, "ss2d_scan": ss2d_scan}


def time_scan(op: str, arrays: dict[str, Any], *, compiled: bool = True, repeats: int = 5) -> dict[str, Any]:
    """Times a scan on the GPU; returns forward_s and gradient_s (medians by CUDA events) and y as a NumPy array."""
    inputs = {name: torch.tensor(array, device="cuda", requires_grad=True) for name, array in arrays.items()}
    function: Callable = torch.compile(SCANS[op]) if compiled else SCANS[op]

    def forward() -> Tensor:
        with torch.no_grad():
            return function(**inputs)

    def gradient() -> None:
        function(**inputs).sin().sum().backward()
        for tensor in inputs.values():
            tensor.grad = None

    times = {"forward_s": _device_seconds(forward, repeats), "gradient_s": _device_seconds(gradient, repeats)}
    return times | {"y": forward().cpu().numpy()}


def _device_seconds(call: Callable[[], Any], repeats: int) -> float:
    for _ in range(2):  # the first compiles
        call()
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    calls = max(1, min(200, int(0.05 / (time.perf_counter() - start))))
    seconds = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        torch.cuda.synchronize()
        seconds.append(begin.elapsed_time(end) / 1000 / calls)
    return statistics.median(seconds)
