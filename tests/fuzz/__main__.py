"""`PYTHONPATH=tests python -m fuzz`: see the package."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from .world import KINDS, BrokenError, World


def main() -> int:
    """Attack, and print what does not hold with the seed that shows it again."""
    options = argparse.ArgumentParser(prog="fuzz")
    options.add_argument("--inputs", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--kind", choices=KINDS, action="append")
    options.add_argument("--only", type=int, help="the number of one input")
    given = options.parse_args()
    kinds, counts, began = given.kind or KINDS, Counter[str](), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder).resolve() / "world")
        for i in [given.only] if given.only is not None else range(given.inputs):
            kind = kinds[i % len(kinds)]
            try:
                random = Random(f"{given.seed}-{i}")
                counts[f"{kind}: {world.attack(kind, random)}"] += 1
            except BrokenError as broken:
                counts[f"{kind}: BROKEN"] += 1
                print(f"--- input {i}, {kind}: {broken}", flush=True)
                world = World(Path(tempfile.mkdtemp(dir=folder)) / "world")
    for name, count in sorted(counts.items()):
        print(f"{name} {count}")
    print(f"{time.monotonic() - began:.0f} s")
    return int(any(name.endswith("BROKEN") for name in counts))


if __name__ == "__main__":
    raise SystemExit(main())
