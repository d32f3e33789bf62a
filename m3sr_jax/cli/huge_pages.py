"""Large pages of memory, which a process on Linux can only ask for before it starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

TUNABLE = "glibc.malloc.hugetlb"
SWITCH = "M3SR_HUGE_PAGES"
KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")
GLIBC = (2, 35)  # the first with the tunable


def with_huge_pages() -> None:
    """Starts this program again with pages of 2 MB for large arrays, where Linux offers them on request.

    Training hands out the same large arrays at every step, which takes a tenth of its time or more in pages of 4 KB
    (docs/kernels.md). The process keeps its number. Nothing happens if M3SR_HUGE_PAGES is 0, or if GLIBC_TUNABLES
    speaks of huge pages already, as it does the second time.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if os.environ.get(SWITCH) == "0" or TUNABLE in tunables or not sys.executable or not _on_request():
        return
    sys.stdout.flush()
    wanted = ":".join(filter(None, (tunables, f"{TUNABLE}=1")))
    os.execve(sys.executable, sys.orig_argv, os.environ | {"GLIBC_TUNABLES": wanted})


def _on_request() -> bool:
    """Whether the C library can ask for huge pages, and the kernel gives them to those who ask alone."""
    if sys.platform != "linux":
        return False
    try:
        library, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        return (
            library == "glibc"
            and tuple(int(part) for part in version.split(".")[:2]) >= GLIBC
            and "[madvise]" in KERNEL.read_text()
        )
    except (OSError, ValueError):
        return False
