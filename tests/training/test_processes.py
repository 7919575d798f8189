"""Two processes on the CPU (gloo) do what one does with both their batches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sdic.errors import TrainingError
from sdic.training import checkpoint
from sdic.training.devices import fabric

from . import toy


def test_two_processes_equal_one_with_both_batches(tmp_path: Path) -> None:
    out = tmp_path / "two"
    options = {"plain": True, "processes": 2, "steps": 4, "log__checkpoint": 2}
    command = [sys.executable, toy.__file__, str(out), json.dumps(options)]
    subprocess.run(command, check=True, timeout=900)
    assert "gloo" not in (out / "threads.txt").read_text()  # they can abort a process that exits
    lines = [json.loads(line) for line in (out / "losses.jsonl").read_text().splitlines()]

    losses: list[dict[str, float]] = []
    recipe = toy.toy_recipe(steps=4, log__checkpoint=2, accumulate=2)
    run = toy.trainer(
        tmp_path / "one", recipe, task=toy.ToyTask(plain=True), data=toy.SharedData(2)
    )
    run.train(on_step=lambda _, values: losses.append(values))

    assert [step for step, _ in lines] == [1, 2, 3, 4]
    for (_, shared), alone in zip(lines, losses, strict=True):
        assert shared == pytest.approx(alone, rel=1e-4)
    saved = []
    for name in ("two", "one"):
        found = checkpoint.latest(tmp_path / name)
        assert found is not None
        saved.append(checkpoint.load(found)[1])
    for key, value in saved[1].items():
        assert torch.allclose(saved[0][key], value, rtol=1e-3, atol=1e-5), key


@pytest.mark.parametrize("device", ["tpu", "cpu:x", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(TrainingError, match=f"Device '{device}'.*there is: cpu"):
        fabric(device)
