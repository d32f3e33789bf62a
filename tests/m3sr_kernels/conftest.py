"""Tile sizes for kernels that are interpreted: small ones compile in a fifth of the time."""

import pytest
from m3sr_kernels.tiles import TABLE

SMALL = {"chunk": 64, "programs": 1, "heads": 2, "gradient_heads": 1, "unroll": 1, "snapshot": 16, "rebuild": 2}


@pytest.fixture
def small_tiles(monkeypatch):
    """Still several chunks, blocks of heads, pixels a step, snapshots a block and states at once."""
    for op in ("ssd_scan", "ss2d_scan"):
        monkeypatch.setitem(TABLE[op], "default", {**SMALL, "num_warps": 1, "num_stages": 1})
    monkeypatch.setitem(
        TABLE["ssd_mosaic"], "default", {"chunk": 4, "channels": 2, "unroll": 1, "snapshot": 2, "gradient_states": 2}
    )
