"""Seconds and peak memory of one piece of work, with the device synchronised."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

Result = TypeVar("Result")

_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): the peak resident set starts again from the current one


@dataclass(frozen=True)
class Cost:
    """What a piece of work took.

    Attributes:
        seconds: wall time.
        peak_memory_mb: highest memory in MiB, see `memory_kind`; None where it cannot be read.
    """

    seconds: float
    peak_memory_mb: float | None


def measure_cost(work: Callable[[], Result], device: torch.device) -> tuple[Result, Cost]:
    """Run a piece of work once; the device's queue is empty before and after."""
    synchronise(device)
    _reset_peak(device)
    start = time.perf_counter()
    result = work()
    synchronise(device)
    seconds = time.perf_counter() - start
    return result, Cost(seconds, _peak(device))


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def memory_kind(device: torch.device) -> str:
    """What the peak memory counts on this device, in words."""
    if device.type == "cuda":
        return "highest allocation by PyTorch on the GPU (max_memory_allocated) during the image"
    if sys.platform == "win32":
        return "not measured on Windows"
    since = "during the image" if _CLEAR_REFS.exists() else "since the process started"
    return f"peak resident set of the whole process (judging networks too) {since}"


def device_name(device: torch.device) -> str:
    """The device in words: the GPU's name, or the kind and the number of threads."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} (cuda)"
    return f"{device.type}, {torch.get_num_threads()} threads"


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR_REFS.exists():
        _CLEAR_REFS.write_text(_RESET_PEAK)


def _peak(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
