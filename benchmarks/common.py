"""What the benchmarks share: medians, peak memory, processes of their own, tables.

PyTorch is imported only where it is used. On Linux a process inherits the peak memory of the one
that started it, so the process that starts the measurements has to stay small.
"""

from __future__ import annotations

import ctypes
import gc
import json
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def median_ms(call: Callable[[], object], runs: int) -> float:
    """Median time of a call in milliseconds, after one call that is not counted."""
    call()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def process_peak_mib() -> float:
    """Largest resident memory of this process since it began or since `peak_mib_of`, in MiB."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def peak_mib_of(call: Callable[[], object]) -> float:
    """Largest resident memory of this process during a call, in MiB; weights are part of it.

    Where the system cannot start the count anew (other than Linux), it counts from the beginning.
    """
    gc.collect()
    if CLEAR_REFS.exists():
        if platform.libc_ver()[0] == "glibc":
            ctypes.CDLL(None).malloc_trim(0)
        CLEAR_REFS.write_text("5")
        call()
        lines = STATUS.read_text().splitlines()
        kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        return kib / 1024
    call()
    return process_peak_mib()


def in_own_process(script: str, arguments: Sequence[object]) -> dict[str, Any]:
    """Run `script ARGUMENTS` and return the JSON object of its last line of output."""
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def cpu_has_bfloat16() -> bool:
    """Whether OpenVINO would use bf16 units of this CPU; False without OpenVINO."""
    script = (
        "from sdic.runtime import openvino as o; print(o.is_available() and 'BF16' in "
        "o.import_openvino().Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES'))"
    )
    return subprocess.check_output([sys.executable, "-c", script]) == b"True\n"  # noqa: S603


def machine(threads: int) -> str:
    """The CPU, the threads in use and the versions that count, in one line."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), name)
    return f"{name}, {threads} threads, torch {_version('torch')}, openvino {_version('openvino')}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [headers, ["---", *(["---:"] * (len(headers) - 1))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(title: str, body: str, data: dict[str, Any], out: Path | None) -> None:
    """Print a report, and write it as OUT.md and OUT.json if OUT is given."""
    command = shlex.join(["python", *sys.argv])
    text = f"# {title}\n\n{data['machine']}\n\n{body}\n\nMade by `{command}`.\n"
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.with_name(f"{out.name}.md").write_text(text, encoding="utf-8")
        out.with_name(f"{out.name}.json").write_text(json.dumps(data, indent=1), encoding="utf-8")
