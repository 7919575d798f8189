"""How a command's process waits, and when it collects garbage.

These are choices of a program, made by commands before PyTorch is loaded, and never by an import of
the library. Nothing here loads PyTorch itself. `benchmarks/startup.py` measures the first of them.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys

# What the OpenMP libraries of GNU (PyTorch's on Linux), LLVM (on macOS) and Intel read as they are
# loaded.
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
OTHERS = ("GOMP_SPINCOUNT", "KMP_LIBRARY")
IMPORTED = 400_000  # objects, more than an edit makes from start to end


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


def spare_imports() -> None:
    """Keep the garbage collector away from the objects that imports make, now and at the end.

    PyTorch and what stands on it make 300,000 objects that stay. The collector would go through
    them a dozen times as they come, and once more as the process ends: a tenth of a short command.
    The first collection is put off until there are more; it sets them aside, and then all is as
    ever.
    """
    usual = gc.get_threshold()

    def first(phase: str, info: dict[str, int]) -> None:
        gc.callbacks.remove(first)
        gc.set_threshold(*usual)
        gc.freeze()

    gc.callbacks.append(first)
    gc.set_threshold(IMPORTED, *usual[1:])
    atexit.register(gc.freeze)
