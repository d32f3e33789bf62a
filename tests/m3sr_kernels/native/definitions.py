"""The ops in float64 numpy, for shapes at random: nothing is compiled for each of them."""

import numpy as np

from .kernels import EPSILON, NORM_GROUPS


def softplus(x):
    return np.logaddexp(0, x)


def silu(x):
    return x / (1 + np.exp(-x))


def ssd(x, dt, a, b, c, d, dt_bias):
    """(y, last state); x (B, L, R, P), b and c (B, L, G, N)."""
    repeats = x.shape[2] // b.shape[2]
    b, c = (np.repeat(array, repeats, axis=2) for array in (b, c))
    step = softplus(dt + dt_bias)
    state, y = np.zeros((*x.shape[:1], *x.shape[2:], b.shape[-1])), np.empty_like(x)
    for t in range(x.shape[1]):
        fed = (step[:, t, :, None] * x[:, t])[..., None] * b[:, t, :, None]
        state = np.exp(step[:, t] * a)[..., None, None] * state + fed
        y[:, t] = (state * c[:, t, :, None]).sum(-1) + d * x[:, t]
    return y, state


def s6(x, dt, b, c, rates, d, dt_bias, *gate):
    """(y,), of padded parameters; rates are those of powers of two."""
    D = x.shape[2]
    step = softplus(dt + dt_bias[:D])
    state, y = np.zeros((x.shape[0], *rates[:, :D].shape)), np.empty_like(x)
    for t in range(x.shape[1]):
        fed = (step[:, t] * x[:, t])[:, None] * b[:, t, :, None]
        state = np.exp2(step[:, t, None] * rates[:, :D]) * state + fed
        y[:, t] = (state * c[:, t, :, None]).sum(1) + d[:D] * x[:, t]
    return (y * silu(gate[0]) if gate else y,)


s6gated = s6


def ss2d(x, dt, a, b, c, d, dt_bias):
    """(y,); d is the sum of the skips."""
    B, H, W, _ = x.shape
    R, P = d.shape
    total, x = np.zeros((B, H * W, R, P)), x.reshape(B, H * W, R, P)
    down = (np.arange(H * W) % H) * W + np.arange(H * W) // H
    for k, order in enumerate((np.arange(H * W), down, np.arange(H * W)[::-1], down[::-1])):
        maps = [array.reshape(B, H * W, 4, -1)[:, order, k : k + 1] for array in (b, c)]
        steps = dt.reshape(B, H * W, 4, R)[:, order, k]
        total[:, order] += ssd(x[:, order], steps, a[k], *maps, 0 * d, dt_bias[k])[0]
    return ((total + d * x).reshape(B, H, W, R * P),)


def conv(x, kernel):
    """(y,), of the depthwise convolution and SiLU."""
    _, H, W, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return (silu(sum(padded[:, k : k + H, l : l + W] * kernel[k, l] for k in range(3) for l in range(3))),)


def norm(x, scale, bias):
    """(y,), of layer norm."""
    return ((x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + EPSILON) * scale + bias,)


def groupnorm(x, scale, bias, shortcut):
    """(y,), of group norm, SiLU and a shortcut."""
    grouped = x.reshape(*x.shape[:2], NORM_GROUPS, -1)
    centred = grouped - grouped.mean((1, 3), keepdims=True)
    normed = centred / np.sqrt(grouped.var((1, 3), keepdims=True) + EPSILON)
    return (silu(normed.reshape(x.shape) * scale + bias) + shortcut,)


def mix(tokens, w_in, kernel, bias, w_x, w_dt, dt_bias, rates, d, w_out):
    """(out,), of the padded weights that the kernels take; rates are those of powers of two."""
    E, N, rank, taps = d.size, rates.shape[0], w_dt.shape[0], kernel.shape[0]
    u, z = np.split(tokens @ w_in, 2, axis=-1)
    padded = np.pad(u, ((0, 0), (taps - 1, 0), (0, 0)))
    u = silu(bias + sum(padded[:, j : j + tokens.shape[1]] * kernel[j] for j in range(taps)))
    projected = u @ w_x
    b, c, low = projected[..., :N], projected[..., N : 2 * N], projected[..., 2 * N : 2 * N + rank]
    step = softplus(low @ w_dt + dt_bias)
    state, y = np.zeros((tokens.shape[0], N, E)), np.empty_like(u)
    for t in range(tokens.shape[1]):
        state = np.exp2(step[:, t, None] * rates) * state + b[:, t, :, None] * (step[:, t] * u[:, t])[:, None]
        y[:, t] = (c[:, t, :, None] * state).sum(1) + d * u[:, t]
    return (((y * silu(z)) @ w_out)[..., : tokens.shape[2]],)
