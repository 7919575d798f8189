"""One call of `sdic train`: from names and folders to a finished slice of training."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from sdic import weights
from sdic.errors import TrainingError
from sdic.files import check_writable
from sdic.runtime.allocator import tune_allocator
from sdic.training import build, devices
from sdic.training.loop import Trainer
from sdic.training.recipe import load


@dataclass(frozen=True)
class SliceOutcome:
    """How a call ended: steps done in all, whether that is all, and whether this process speaks."""

    step: int
    finished: bool
    speaks: bool


def run(
    recipe_source: str,
    overrides: Sequence[str],
    out: Path,
    *,
    data: Path | None = None,
    deadline: float | None = None,
    stop_at: int | None = None,
    device: str = "auto",
    processes: int = 1,
    console: Console | None = None,
) -> SliceOutcome:
    """Train from a recipe into a folder, or go on with what lies there.

    Args:
        recipe_source: see `recipe.load`.
        overrides: "key=value" texts that change the recipe.
        out: the run's folder.
        data: folder that the recipe's photo folders are relative to.
        deadline: time on `time.monotonic`'s clock at which the checkpoint is written.
        stop_at: steps in all after which this call stops.
        device: see `devices.fabric`.
        processes: how many, each on a device of its own.
        console: where progress is shown.

    Raises:
        SdicError: one sentence for whatever a user can put right.
    """
    tune_allocator()
    check_writable(out / "curve.csv", TrainingError)
    recipe = load(recipe_source, overrides)
    skips_parameters = recipe.progressive.every > 0
    fabric = devices.fabric(device, recipe.precision, processes, skips_parameters)
    cache = weights.cache_dir()
    generator = build.build_generator(recipe)
    trainer = Trainer(
        build.build_task(recipe, generator),
        build.build_data(recipe, generator, data, cache),
        recipe,
        fabric,
        out,
        build.build_validation(recipe, data, cache),
        console if fabric.is_global_zero else None,
    )
    seconds = math.inf if deadline is None else deadline - time.monotonic()
    outcome = trainer.train(seconds, stop_at)
    return SliceOutcome(outcome.step, outcome.finished, fabric.is_global_zero)
