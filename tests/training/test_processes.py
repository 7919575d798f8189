"""Two processes on the CPU (gloo) do what one does with both their batches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sdic.errors import InputError, TrainingError
from sdic.training import checkpoint
from sdic.training.curve import read_curve
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


def test_fewer_validation_photos_than_processes_are_measured_by_some_of_them(
    tmp_path: Path,
) -> None:
    options = {"plain": True, "processes": 2, "photos": 1, "steps": 1, "validation__every": 1}
    command = [sys.executable, toy.__file__, str(tmp_path), json.dumps(options)]
    subprocess.run(command, check=True, timeout=300)
    measured = [float(row["error"]) for row in read_curve(tmp_path / "curve.csv")]
    with torch.no_grad():
        expected = float(toy.ToyTask(plain=True).validate(toy.photos(1))["error"])
    assert len(measured) == 2
    assert measured[0] == pytest.approx(expected, rel=1e-4)  # before any step


class Coarse(torch.Tensor):
    """Numbers of a device without float64, as Apple's."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.cpu:
            return args[0].as_subclass(torch.Tensor)
        assert func is not torch.Tensor.double
        return super().__torch_function__(func, types, args, kwargs or {})


def test_a_device_without_float64_validates(tmp_path: Path) -> None:
    class CoarseTask(toy.ToyTask):
        def validate(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"error": super().validate(images)["error"].as_subclass(Coarse)}

    recipe = toy.toy_recipe(validation__every=6)
    toy.trainer(tmp_path, recipe, task=CoarseTask(), validation=torch.rand(3, 3, 8, 8)).train()
    assert len(read_curve(tmp_path / "curve.csv")) == 2


@pytest.mark.parametrize("device", ["tpu", "cpu:x", "cuda:99", "cuda:²", "cuda:" + 5000 * "9"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(InputError, match=f"device '{device}' is not there; there is: cpu"):
        fabric(device)


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device, room in (("cuda", 2), ("auto", 2), ("cuda:1", 1)):
        with pytest.raises(TrainingError, match=f"3 processes .*'{device}'.* room for {room}"):
            fabric(device, processes=3)
