"""The blocks that every implementation of `mamba_token_mix` must run."""

from ..comparison import Case


def sizes(M, L, C, N=16, rank=2, taps=4):
    D = 2 * C
    params = {"in_proj": (C, 2 * D), "conv_kernel": (taps, D), "conv_bias": (D,), "x_proj": (D, rank + 2 * N)}
    params |= {"dt_proj": (rank, D), "dt_bias": (D,), "a_log": (D, N), "d": (D,), "out_proj": (D, C)}
    return {"tokens": (M, L, C), "params": params}


CASES = {
    "fewer tokens than taps": Case(sizes(7, 2, 5)),
    "as many tokens as taps": Case(sizes(7, 4, 5)),
    "more tokens than taps": Case(sizes(7, 6, 5)),
    "too many tokens to fuse": Case(sizes(7, 18, 5)),
}
TOLERANCE = 1e-11
