"""In plain PyTorch, for comparison: the scans as one would write them without building an extension, and MST++.

The scans follow the equations of `m3sr_kernels`: S6 as a loop over the tokens, fused by torch.compile; SSD in chunks of
matrix products (Dao and Gu, "Transformers are SSMs", 2024, section 6), each direction on its own copy. MST++ follows
`m3sr_jax.models.baselines.mst_plus_plus`; its tensors have the names of the release.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

Tensor = torch.Tensor
DRY_RUN = bool(os.environ.get("M3SR_DRY_RUN"))  # see measure.py


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
    device = "cpu" if DRY_RUN else "cuda"
    inputs = {name: torch.tensor(array, device=device, requires_grad=True) for name, array in arrays.items()}
    function: Callable = torch.compile(SCANS[op]) if compiled and not DRY_RUN else SCANS[op]

    def forward() -> Tensor:
        with torch.no_grad():
            return function(**inputs)

    def gradient() -> None:
        function(**inputs).sin().sum().backward()
        for tensor in inputs.values():
            tensor.grad = None

    times = {"forward_s": _device_seconds(forward, repeats), "gradient_s": _device_seconds(gradient, repeats)}
    return times | {"y": forward().cpu().numpy()}


class _HostEvent:
    """In the place of `torch.cuda.Event` on a dry run."""

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.time = time.perf_counter()

    def elapsed_time(self, end: _HostEvent) -> float:
        return 1000 * (end.time - self.time)


def _device_seconds(call: Callable[[], Any], repeats: int) -> float:
    event: Any = _HostEvent if DRY_RUN else torch.cuda.Event
    synchronize = (lambda: None) if DRY_RUN else torch.cuda.synchronize
    for _ in range(2):  # the first compiles
        call()
    synchronize()
    start = time.perf_counter()
    call()
    synchronize()
    calls = max(1, min(200, int(0.05 / (time.perf_counter() - start))))
    seconds = []
    for _ in range(repeats):
        begin, end = event(enable_timing=True), event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        synchronize()
        seconds.append(begin.elapsed_time(end) / 1000 / calls)
    return statistics.median(seconds)


class MSTPlusPlus(nn.Module):
    """MST++ with 31 bands and three U-Nets: images (B, 3, H, W) to (B, 31, H, W), H and W at least 5."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in, self.conv_out = _conv(3, 31, 3), _conv(31, 31, 3)
        self.body = nn.Sequential(*(_UNet() for _ in range(3)))

    def forward(self, rgb: Tensor) -> Tensor:
        """Pads by reflection to multiples of 8, and crops again."""
        height, width = rgb.shape[2:]
        start = self.conv_in(F.pad(rgb, (0, -width % 8, 0, -height % 8), mode="reflect"))
        return (self.conv_out(self.body(start)) + start)[:, :, :height, :width]


class _UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.mapping = _conv(31, 31, 3), _conv(31, 31, 3)
        self.encoder_layers = nn.ModuleList(
            nn.ModuleList([_Block(width), nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False)]) for width in (31, 62)
        )
        self.bottleneck = _Block(124)
        self.decoder_layers = nn.ModuleList(
            nn.ModuleList([nn.ConvTranspose2d(2 * width, width, 2, 2), _conv(2 * width, width, 1), _Block(width)])
            for width in (62, 31)
        )

    def forward(self, x: Tensor) -> Tensor:
        y, skips = self.embedding(x), []
        for block, down in self.encoder_layers:  # pyright: ignore[reportGeneralTypeIssues]
            skips.append(block(y))
            y = down(skips[-1])
        y = self.bottleneck(y)
        for up, merge, block in self.decoder_layers:  # pyright: ignore[reportGeneralTypeIssues]
            y = block(merge(torch.cat([up(y), skips.pop()], 1)))
        return self.mapping(y) + x


class _Block(nn.Module):
    """x + attention(x), then x + feed-forward(x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.ModuleList([_Attention(width), _FeedForward(width)])])

    def forward(self, x: Tensor) -> Tensor:
        attention, feed_forward = self.blocks[0]  # pyright: ignore[reportGeneralTypeIssues]
        x = x + attention(x)
        return x + feed_forward(x)


class _Attention(nn.Module):
    """Attention between the channels of each head of 31, plus a positional embedding of the values."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 31
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.rescale = nn.Parameter(torch.ones(self.heads, 1, 1))
        self.proj = nn.Linear(width, width)
        self.pos_emb = nn.Sequential(_depthwise(width), nn.GELU(), _depthwise(width))

    def forward(self, x: Tensor) -> Tensor:
        batch, width, height, columns = x.shape
        pixels = x.flatten(2).transpose(1, 2)
        by_head = (batch, self.heads, 31, height * columns)
        values = self.to_v(pixels).transpose(1, 2).contiguous()
        query, key = (linear(pixels).transpose(1, 2).reshape(by_head) for linear in (self.to_q, self.to_k))
        similarity = F.normalize(key, dim=-1) @ F.normalize(query, dim=-1).transpose(2, 3)
        mixed = (self.rescale * similarity).softmax(-1) @ values.reshape(by_head)
        projected = self.proj(mixed.reshape(batch, width, -1).transpose(1, 2))
        return projected.transpose(1, 2).reshape(x.shape) + self.pos_emb(values.reshape(x.shape))


class _FeedForward(nn.Module):
    """Layer norm, 1×1 to four times the width, depthwise 3×3 and 1×1 back, with GELUs between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = 4 * width
        self.norm = nn.LayerNorm(width)
        layers = (_conv(width, inner, 1), nn.GELU(), _depthwise(inner), nn.GELU(), _conv(inner, width, 1))
        self.fn = nn.ModuleDict({"net": nn.Sequential(*layers)})

    def forward(self, x: Tensor) -> Tensor:
        return self.fn["net"](self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


def _conv(channels: int, features: int, size: int) -> nn.Conv2d:
    return nn.Conv2d(channels, features, size, padding=size // 2, bias=False)


def _depthwise(width: int) -> nn.Conv2d:
    return nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)


def forward_call(shape: tuple[int, int, int]) -> Callable[[], Tensor]:
    """A forward pass of MST++ over B random images of H×W pixels, without a graph."""
    model, rgb = MSTPlusPlus(), torch.rand(shape[0], 3, *shape[1:])
    return torch.inference_mode()(lambda: model(rgb))


def training_call(shape: tuple[int, int, int]) -> Callable[[], None]:
    """A training step of MST++: mean absolute error, its gradient and Adam."""
    model, rgb, cube = MSTPlusPlus(), torch.rand(shape[0], 3, *shape[1:]), torch.rand(shape[0], 31, *shape[1:])
    optimizer = torch.optim.Adam(model.parameters(), 4e-4)

    def step() -> None:
        optimizer.zero_grad()
        F.l1_loss(model(rgb), cube).backward()
        optimizer.step()

    return step
