"""A short command from its start: on an idle machine and a busy one, threads spinning or asleep.

python benchmarks/startup.py --runs 5 --out docs/results/startup

Measured is `sdic edit` of one photo, everything cached. Busy is one process for each core that does
nothing but count. The four conditions take turns, so that what else the machine does meets them
all; the ratios say more than the seconds.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import common

# GNU's OpenMP spins for so long by itself. Whoever sets it is taken to have chosen, so that the
# command leaves the rest as it is.
SPINNING = {"GOMP_SPINCOUNT": "300000"}
ASLEEP = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
WAITING = {"threads spin": SPINNING, "threads sleep": ASLEEP}
EDIT = "from sdic.cli import main; main()"
QUICK = "import torch; x = torch.rand(512, 512); [x @ x for _ in range(20)]"


def command(folder: Path, quick: bool) -> list[str]:
    """What is measured; its photo is written to the folder."""
    if quick:
        return [sys.executable, "-c", QUICK]
    from PIL import Image
    from skimage import data

    photo = folder / "astronaut.png"
    Image.fromarray(data.astronaut()).save(photo)
    edit = ["edit", str(photo), "-e", "smile=2", "--out", str(folder / "edited"), "--overwrite"]
    return [sys.executable, "-c", EDIT, *edit]


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Processes that count, for as long as the block runs."""
    counting = [sys.executable, "-c", "while True: pass"]
    started = [subprocess.Popen(counting) for _ in range(processes)]  # noqa: S603
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def measure(arguments: Sequence[str], environment: dict[str, str]) -> dict[str, float]:
    """Seconds of a command, on the clock and on the processor."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(  # noqa: S603
        arguments, check=True, env=environment, stdout=subprocess.DEVNULL
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu}


def all_conditions(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each condition, with the medians of its runs."""
    names = {name for choice in WAITING.values() for name in choice}
    plain = {name: value for name, value in os.environ.items() if name not in names}
    plain["OMP_NUM_THREADS"] = str(options.threads)
    machines = {"idle": 0, "busy": options.busy}
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        arguments = command(Path(folder), options.quick)
        measure(arguments, plain)  # fills the caches
        for run in range(options.runs):
            for machine, processes in machines.items():
                for waiting, choice in WAITING.items():
                    with busy(processes):
                        taken = measure(arguments, plain | choice)
                    found.setdefault((machine, waiting), []).append(taken)
                    print(f"{run + 1}: {machine}, {waiting}: {taken['wall']:.1f} s", flush=True)
    return [
        {"machine": machine, "waiting": waiting}
        | {kind: statistics.median(taken[kind] for taken in runs) for kind in ("wall", "cpu")}
        for (machine, waiting), runs in found.items()
    ]


def as_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line for each condition, and its seconds next to those of the first."""
    base = rows[0]
    lines = [
        [
            f"{row['machine']}, {row['waiting']}",
            *(f"{row[kind]:.2f}" for kind in ("wall", "cpu")),
            *(f"{row[kind] / base[kind]:.2f}x" for kind in ("wall", "cpu")),
        ]
        for row in rows
    ]
    first = f"{base['machine']}, {base['waiting']}"
    headers = ["", "seconds", "of the processor", f"seconds against '{first}'", "of the processor"]
    return common.table(headers, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    cores = os.cpu_count() or 1
    parser.add_argument("--threads", type=int, default=cores)
    parser.add_argument("--runs", type=int, default=5, help="of each condition; the median counts")
    parser.add_argument("--busy", type=int, default=cores, help="processes beside the command")
    parser.add_argument("--out", type=Path, help="write OUT.md and OUT.json")
    parser.add_argument("--quick", action="store_true", help="a small command, to try the script")
    options = parser.parse_args()
    rows = all_conditions(options)
    data = {"machine": common.machine(options.threads), "rows": rows}
    common.report("An edit from a cold start", as_table(rows), data, options.out)


if __name__ == "__main__":
    main()
