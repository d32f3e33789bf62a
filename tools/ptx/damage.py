"""Damages a kernel in one place at a time, to see whether an execution notices."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tools.ptx.execute import Launch, execute

_Change = Callable[[re.Match[str]], str]


def _shift_address(match: re.Match[str]) -> str:
    """One element of 4 bytes further."""
    return re.sub(
        r"\[\s*([%\w$]+)\s*(?:\+\s*(-?\d+))?\s*\]",
        lambda address: f"[{address.group(1)}+{int(address.group(2) or 0) + 4}]",
        match.group(),
    )


def _halve_distance(match: re.Match[str]) -> str:
    distance = int(match.group(2))
    return f"{match.group(1)}{distance // 2 or 16}{match.group(3)}"


def _replace(old: str, new: str) -> _Change:
    return lambda match: match.group().replace(old, new, 1)


# Pattern and replacement by kind.
KINDS: dict[str, tuple[str, _Change]] = {
    "store mask dropped": (r"@!?%p\d+ +(st\.global[^;]*;)", lambda match: match.group(1)),
    "store mask inverted": (r"@%p\d+ +st\.global[^;]*;", _replace("@%", "@!%")),
    "load mask inverted": (r"@%p\d+ +ld\.global[^;]*;", _replace("@%", "@!%")),
    "load address shifted": (r"ld\.(?:global|shared)[^;]*;", _shift_address),
    "store address shifted": (r"st\.(?:global|shared)[^;]*;", _shift_address),
    "barrier dropped": (r"bar\.sync[^;]*;", lambda match: ""),
    "sum to difference": (r"add\.(?:rn\.)?f32[^;]*;", _replace("add", "sub")),
    "addend dropped": (
        r"fma\.rn\.f32\s+(%\w+), (%\w+), (%\w+), %\w+;",
        lambda match: f"mul.rn.f32 {match.group(1)}, {match.group(2)}, {match.group(3)};",
    ),
    "shuffle distance halved": (r"(shfl\.sync\.bfly\.b32[^;]*, )(16|8|4|2|1)(, 31[^;]*;)", _halve_distance),
    "less to less or equal": (r"setp\.lt\.[su]32[^;]*;", _replace(".lt.", ".le.")),
}


@dataclasses.dataclass(frozen=True)
class Damage:
    """A change of a kernel.

    Attributes:
      kind: a key of `KINDS`.
      instruction: what was changed.
      ptx: the damaged text.
    """

    kind: str
    instruction: str
    ptx: str


def damages(launch: Launch, kind: str, most: int, seed: int = 0) -> Iterator[Damage]:
    """At most so many damages of a kind, chosen at random."""
    pattern, change = KINDS[kind]
    start = re.search(rf"\.entry\s+{re.escape(launch.entry)}", launch.ptx)
    begin = start.start() if start else 0
    found = list(re.compile(pattern).finditer(launch.ptx, begin))
    for match in found if len(found) <= most else random.Random(seed).sample(found, most):
        text = launch.ptx[: match.start()] + change(match) + launch.ptx[match.end() :]
        yield Damage(kind, " ".join(match.group().split()), text)


def notice(launch: Launch, arrays: Sequence[np.ndarray], outputs: Sequence[np.ndarray], damage: Damage) -> str | None:
    """What gives a damage away: a fault, or other numbers than the undamaged `outputs`; None if nothing does.

    Without a barrier, a kernel may give the right numbers until its warps run one after the other.
    """
    damaged = dataclasses.replace(launch, ptx=damage.ptx)
    for order in ("together", "first", "last") if "barrier" in damage.kind else ("together",):
        try:
            got, report = execute(damaged, arrays, order=order)
        except RuntimeError as error:  # it does not end
            return str(error)
        if report.faults:
            return next(iter(report.kinds))
        for mine, theirs in zip(got, outputs, strict=True):
            if mine.tobytes() != theirs.tobytes():
                return "other numbers"
    return None
