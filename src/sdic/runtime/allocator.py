"""glibc's allocator, told to keep large blocks.

A generator's maps are tens of megabytes. glibc maps each of them anew from the kernel and gives it
back at once, so that every pass pays for its page faults again: on a CPU more than half of an eager
pass. Kept in the heap, the same memory serves the next layer. `benchmarks/generator.py` shows it.

The price: a small block that is kept may land in the middle of a large free one, which then is too
small for the next map. Loops that keep something of every round call `release_memory` between them.
"""

from __future__ import annotations

import ctypes
import platform

# Option numbers of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_GIB = 2**30


def tune_allocator() -> bool:
    """Let glibc keep freed blocks of up to 1 GiB; returns whether it could be done.

    The thresholds count in a C int, so they end below 2 GiB. On other systems nothing changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    options = (
        (_M_MMAP_THRESHOLD, _GIB),
        (_M_TRIM_THRESHOLD, 2 * _GIB - 1),
        (_M_TOP_PAD, _GIB // 4),
    )
    return all(mallopt(option, value) == 1 for option, value in options)


def release_memory() -> None:
    """Give all free pages back to the system, wherever in the heap they lie; glibc only."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
