"""A tiny task that has nothing to do with faces, and a command that trains it."""

from __future__ import annotations

import atexit
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdic.training import recipe as recipes
from sdic.training.data import seeded
from sdic.training.devices import fabric
from sdic.training.loop import Trainer
from sdic.training.task import Batch, Phase

SIDE = 8


class ToyTask:
    """Two small networks which play against each other; with batch norm and dropout, or plain."""

    skips_parameters = False

    def __init__(self, plain: bool = False) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.networks: dict[str, nn.Module] = {
                "painter": nn.Sequential(
                    nn.Conv2d(3, 8, 3, padding=1),
                    nn.Identity() if plain else nn.BatchNorm2d(8),
                    nn.Identity() if plain else nn.Dropout(0.2),
                    nn.ReLU(),
                    nn.Conv2d(8, 3, 3, padding=1),
                ),
                "critic": nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 1)),
            }
        self.critic = self.networks["critic"]

    def frozen(self) -> Sequence[nn.Module]:
        return []

    def phases(self) -> Sequence[Phase]:
        return [Phase("painter", ("painter",)), Phase("critic", ("critic",), 0.5)]

    def step(self, phase: str, batch: Batch, step: int) -> dict[str, Tensor]:
        painted = self.networks["painter"](batch.images)
        if phase == "critic":
            margin = self.networks["critic"](painted.detach()) - self.critic(batch.images)
            return {"critic": torch.sigmoid(margin).mean()}
        mse = (painted - batch.images).square().mean()
        trick = torch.sigmoid(-self.critic(painted)).mean()
        return {"total": mse + 0.1 * trick, "mse": mse, "trick": trick}

    def sample_grid(self, batch: Batch) -> Tensor:
        painted = self.networks["painter"](batch.images)
        return torch.stack((batch.images, painted), dim=1)

    def validate(self, images: Tensor) -> dict[str, Tensor]:
        error = (self.networks["painter"](images) - images).square().mean(dim=(1, 2, 3))
        return {"error": error}


class ToyData:
    """Smooth random images; a function of the index alone, as the contract wants it."""

    def __init__(self, size: int = 2) -> None:
        self.size = size

    def batch(self, index: int, rank: int = 0, world_size: int = 1) -> Batch:
        noise = torch.rand(self.size, 3, SIDE, SIDE, generator=seeded("toy", index, rank))
        known = torch.zeros(self.size, dtype=torch.bool)
        return Batch(2 * noise - 1, torch.zeros(self.size, 512), known, 100 * index + rank)


def toy_recipe(**changes: Any) -> recipes.Recipe:
    table: dict[str, Any] = {
        "task": "encoder",
        "steps": 6,
        "precision": "fp32",
        "ema_decay": 0.9,
        "optimiser": {"learning_rate": 1e-2, "warmup": 2, "clip": 1.0},
        "log": {"scalars": 1, "grid": 0, "checkpoint": 3},
    }
    for key, value in changes.items():
        parents = key.split("__")
        inner = table
        for parent in parents[:-1]:
            inner = inner.setdefault(parent, {})
        inner[parents[-1]] = value
    return recipes.from_dict(table)


def trainer(out: Path, recipe: recipes.Recipe | None = None, **arguments: Any) -> Trainer:
    recipe = recipe or toy_recipe()
    task = arguments.pop("task", None) or ToyTask()
    data = arguments.pop("data", None) or ToyData()
    launched = fabric("cpu", recipe.precision, arguments.pop("processes", 1))
    return Trainer(task, data, recipe, launched, out, **arguments)


def photos(count: int) -> Tensor:
    """Images [count,3,8,8] to validate on."""
    return torch.rand(count, 3, SIDE, SIDE, generator=seeded("photos"))


class SharedData(ToyData):
    """What `processes` processes would get, one after the other in a single one."""

    def __init__(self, processes: int) -> None:
        super().__init__()
        self.processes = processes

    def batch(self, index: int, rank: int = 0, world_size: int = 1) -> Batch:
        return super().batch(index // self.processes, index % self.processes)


def record_threads(out: Path) -> None:
    """Add the names of this process's threads to `threads.txt`, where the system tells them."""
    names = [file.read_text() for file in Path("/proc/self/task").glob("*/comm")]
    with (out / "threads.txt").open("a") as file:
        file.writelines(names)


def main(out: str, text: str) -> None:
    """Train and append each step's losses to `losses.jsonl` (the first process does)."""
    torch.set_num_threads(1)
    options = json.loads(text)
    pause, plain = options.pop("pause", 0.0), options.pop("plain", False)
    processes = options.pop("processes", 1)
    images = photos(options.pop("photos")) if "photos" in options else None
    atexit.register(record_threads, Path(out))  # the last handler to run: it was the first
    run = trainer(
        Path(out),
        toy_recipe(**options),
        task=ToyTask(plain),
        processes=processes,
        validation=images,
    )

    def record(step: int, losses: dict[str, float]) -> None:
        if run.fabric.is_global_zero:
            with (Path(out) / "losses.jsonl").open("a") as file:
                file.write(json.dumps([step, losses]) + "\n")
        time.sleep(pause)

    run.train(on_step=record)


if __name__ == "__main__":
    main(*sys.argv[1:])
