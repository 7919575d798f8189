"""How a command's process waits, and when it collects garbage.

These are choices of a program, made by commands before PyTorch is loaded, and never by an import of
the library. Nothing here loads PyTorch itself. `benchmarks/startup.py` measures the first of them.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# What the OpenMP libraries of GNU (PyTorch's on Linux), LLVM (on macOS) and Intel read as they are
# loaded.
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
OTHERS = ("GOMP_SPINCOUNT", "KMP_LIBRARY")


def wait_passively() -> bool:
    """Let threads that wait for others sleep at once, where they would spin for a while.

    Spinning gains little on an idle machine, and takes the processor from those that are waited for
    as soon as anything else runs. Processes that are started from here inherit the choice.

    Returns:
        Whether it was made: not if the user has made one, nor after PyTorch is loaded, which is
        when it would come too late.
    """
    if "torch" in sys.modules or any(name in os.environ for name in (*PASSIVE, *OTHERS)):
        return False
    os.environ.update(PASSIVE)
    return True


@contextmanager
def while_importing() -> Iterator[None]:
    """No garbage collection while a command imports, and none of what it imported ever after.

    Imports make hundreds of thousands of objects that stay; the collector would go through all of
    them many times, and once more at the end of the process. That is a fifth of a short command.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
