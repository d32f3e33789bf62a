"""Scores quoted from papers, to compare with: never measured here, and marked as published wherever they appear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    """A row of a published table; None where the table has no such column.

    Attributes:
        method: the table's name for it.
        psnr: dB.
        rmse: cubes in [0, 1].
        sam: degrees.
        mssim: at most 1.
    """

    method: str
    psnr: float
    rmse: float
    sam: float | None = None
    mssim: float | None = None

    @property
    def scores(self) -> dict[str, float | None]:
        """Metric name → score, None where the table has none; these papers report no MRAE."""
        return {"psnr": self.psnr, "rmse": self.rmse, "sam": self.sam, "mssim": self.mssim, "mrae": None}


# Source: the M3SR paper's comparison tables, at 482×512 (512×512 for CAVE, on a split that is not public).
PUBLISHED: Mapping[str, tuple[Published, ...]] = {
    "ntire2022": (
        Published("HSCNN+", 25.26, 0.0580),
        Published("HRNet", 25.22, 0.0577),
        Published("MST++", 30.18, 0.0350),
        Published("GMSR", 26.92, 0.0492),
        Published("M3SR", 31.40, 0.0343, 6.62, 0.9351),
    ),
    "cave": (
        Published("HSCNN+", 33.81, 0.0227),
        Published("HRNet", 34.53, 0.0205),
        Published("MST++", 34.65, 0.0205),
        Published("GMSR", 34.58, 0.0206),
        Published("M3SR", 35.61, 0.0184),
    ),
    "ntire2020_clean": (
        Published("MST++", 36.32, 0.0198),
        Published("HSRNet", 37.17, 0.0198),
        Published("GMSR", 33.97, 0.0239),
        Published("M3SR", 37.71, 0.0196),
    ),
    "ntire2020_real": (
        Published("MST++", 35.63, 0.0185),
        Published("HSRNet", 34.55, 0.0213),
        Published("GMSR", 31.90, 0.0278),
        Published("M3SR", 36.35, 0.0171),
    ),
}
# Source: the paper's ablation tables, on NTIRE 2022.
WITHOUT_BRANCH: Mapping[str, Published] = {
    "spatial": Published("M3SR, no spatial branch", 30.49, 0.0381, 12.55, 0.8827),
    "frequency": Published("M3SR, no frequency branch", 30.59, 0.0365, 6.52, 0.9315),
    "spectral": Published("M3SR, no spectral branch", 30.36, 0.0369, 6.28, 0.9241),
}
GROUPS: Mapping[int, Published] = {
    2: Published("M3SR, G = 2", 31.23, 0.0351),
    8: Published("M3SR, G = 8", 30.64, 0.0372),
    16: Published("M3SR, G = 16", 30.76, 0.0361),
}


def published_rows(dataset: str, model: Mapping[str, Any] | None = None) -> tuple[Published, ...]:
    """Returns the rows to show beside a score on a data set.

    Args:
        dataset: the data set's name; most have no rows.
        model: fields of the scored network; for an ablation, the paper's row of the same ablation is included.
    """
    rows = PUBLISHED.get(dataset, ())
    if dataset != "ntire2022" or not model or model.get("name", "m3sr") != "m3sr":
        return rows
    branches = model.get("branches", tuple(WITHOUT_BRANCH))
    ablated = [row for branch, row in WITHOUT_BRANCH.items() if branch not in branches]
    same_groups = [row for groups, row in GROUPS.items() if groups == model.get("num_groups")]
    return (*rows, *(ablated if len(ablated) == 1 else []), *same_groups)
