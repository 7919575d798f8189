"""Two processes on the CPU (gloo) do what one does with both their batches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sdic.errors import InputError, TrainingError
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
    with pytest.raises(InputError, match=f"device '{device}' is not there; there is: cpu"):
        fabric(device)


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device, room in (("cuda", 2), ("auto", 2), ("cuda:1", 1)):
        with pytest.raises(TrainingError, match=f"3 processes .*'{device}'.* room for {room}"):
            fabric(device, processes=3)
