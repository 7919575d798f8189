"""Resuming is exact, whatever ended the run before."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from sdic.errors import TrainingError
from sdic.training import checkpoint, loop
from sdic.training.task import Batch

from . import toy

TOY = Path(toy.__file__)
Losses = list[tuple[int, dict[str, float]]]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(out: Path, stop_at: int | None = None, **changes: Any) -> Losses:
    losses: Losses = []
    run = toy.trainer(out, toy.toy_recipe(**changes))
    run.train(stop_at=stop_at, on_step=lambda step, values: losses.append((step, values)))
    return losses


def newest(out: Path) -> tuple[int, dict[str, Tensor]]:
    found = checkpoint.latest(out)
    assert found is not None
    step, tensors, _ = checkpoint.load(found)
    return step, tensors


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("optimiser", ["ranger", "adamw"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_slices_equal_one_run_bit_for_bit(
    tmp_path: Path, optimiser: str, precision: str
) -> None:
    changes = {"optimiser__name": optimiser, "precision": precision, "accumulate": 2}
    straight = train(tmp_path / "straight", **changes)
    first = train(tmp_path / "sliced", stop_at=3, **changes)
    second = train(tmp_path / "sliced", **changes)
    assert [step for step, _ in second] == [4, 5, 6]
    assert first + second == straight
    assert equal(newest(tmp_path / "straight")[1], newest(tmp_path / "sliced")[1])


@pytest.mark.parametrize("optimiser", ["adamw", "muon", "ranger"])
def test_compact_storage_resumes_exactly_and_is_smaller(tmp_path: Path, optimiser: str) -> None:
    changes = {"storage": "compact", "optimiser__name": optimiser}
    straight = train(tmp_path / "straight", **changes)  # it has a checkpoint at step 3, too
    sliced = train(tmp_path / "sliced", stop_at=3, **changes) + train(
        tmp_path / "sliced", **changes
    )
    assert sliced == straight
    train(tmp_path / "exact", **(changes | {"storage": "exact"}))
    sizes = [
        sum(t.numel() * t.element_size() for t in newest(tmp_path / name)[1].values())
        for name in ("straight", "exact")
    ]
    assert sizes[0] < 0.7 * sizes[1]


def test_killed_at_any_moment_it_repeats_the_same_losses(tmp_path: Path) -> None:
    options = {"steps": 40, "log__checkpoint": 2, "log__scalars": 40}
    straight = train(tmp_path / "straight", **options)
    out = tmp_path / "killed"
    command = [sys.executable, str(TOY), str(out), json.dumps({**options, "pause": 0.02})]
    kills = 0
    for delay in (0.0, 0.07):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        begun = len(lines(out))
        deadline = time.monotonic() + 300
        while len(lines(out)) < begun + 6 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(delay)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        step = newest(out)[0]
        seen = max(step for step, _ in lines(out))
        assert seen - 2 <= step <= seen + 1
    assert kills == 2
    repeated = lines(out) + train(out, **options)
    assert dict(repeated) == dict(straight)
    assert all(values == dict(straight)[step] for step, values in repeated)
    assert equal(newest(tmp_path / "straight")[1], newest(out)[1])


def lines(out: Path) -> Losses:
    """The recorded losses; a last line that the kill cut short is left out."""
    file = out / "losses.jsonl"
    text = file.read_text() if file.exists() else ""
    return [tuple(json.loads(line)) for line in text.splitlines(keepends=True) if line[-1] == "\n"]


def test_terminated_it_writes_a_checkpoint_first(tmp_path: Path) -> None:
    """In a process of its own: here, pytest's faulthandler has a say in how signals arrive."""
    options = {"steps": 10_000, "log__checkpoint": 10_000, "log__scalars": 10_000, "pause": 0.02}
    command = [sys.executable, str(TOY), str(tmp_path), json.dumps(options)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(lines(tmp_path)) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=300) == 0
    assert newest(tmp_path)[0] == max(step for step, _ in lines(tmp_path)) >= 3


def test_stops_within_its_time_with_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of one second, a clock of ten: a tenth step might not end in time."""
    now = 0.0

    class SlowTask(toy.ToyTask):
        def step(self, phase: str, batch: Batch, step: int) -> dict[str, Tensor]:
            nonlocal now
            now += 0.5  # in each of its two phases
            return super().step(phase, batch, step)

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now))
    recipe = toy.toy_recipe(steps=100, log__checkpoint=100)
    outcome = toy.trainer(tmp_path, recipe, task=SlowTask()).train(seconds=10.0)
    assert (outcome.step, outcome.finished, now) == (9, False, 9.0)
    assert newest(tmp_path)[0] == 9


def test_a_full_disk_is_one_sentence_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path, stop_at=3)
    before = newest(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "fsync", full)
        with pytest.raises(TrainingError, match=r"disk is full.*checkpoint-00000003 is kept"):
            train(tmp_path)
    after = newest(tmp_path)
    assert after[0] == before[0]
    assert equal(after[1], before[1])
    assert not list(tmp_path.glob(".checkpoint-*"))


def test_another_process_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    def intrude(step: int, _: dict[str, float]) -> None:
        if step == 1:
            with pytest.raises(TrainingError, match="Another process trains"):
                train(tmp_path)

    toy.trainer(tmp_path).train(stop_at=1, on_step=intrude)


def test_the_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    train(tmp_path, stop_at=1)
    with pytest.raises(TrainingError, match=r"began with seed = 0, the recipe now says 1"):
        train(tmp_path, seed=1)
    with pytest.raises(TrainingError, match=r"optimiser\.name"):
        train(tmp_path, optimiser__name="adamw")


def test_the_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    train(tmp_path, stop_at=1)
    with pytest.raises(TrainingError, match=r"another network: 'painter' differs in 5 tensors"):
        toy.trainer(tmp_path, task=toy.ToyTask(plain=True)).train()


@pytest.mark.parametrize("extra", [{}, {"recipe": []}, {"recipe": {"seed": [[]]}}, None])
def test_a_checkpoint_that_holds_no_state_is_refused(tmp_path: Path, extra: Any) -> None:
    train(tmp_path, stop_at=1)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    step, tensors, whole = checkpoint.load(found)
    if extra is None:
        extra = whole | {"optimisers": {"painter": {"numbers": {"x": 1}}, "critic": []}}
    checkpoint.save(tmp_path, step, tensors, extra)
    with pytest.raises(TrainingError, match=r"no whole state of a run|The run began with"):
        train(tmp_path)


@pytest.mark.parametrize("curve", [b"\xff\xfe\0", b"a,b\n1,2\n", b"step\nx\n", b"step,a\n1\n,,,"])
def test_a_damaged_curve_is_one_sentence(tmp_path: Path, curve: bytes) -> None:
    (tmp_path / "curve.csv").write_bytes(curve)
    with pytest.raises(TrainingError, match=r"curve\.csv is no curve of a run"):
        train(tmp_path)


def test_a_lost_index_does_not_start_the_run_anew(tmp_path: Path) -> None:
    train(tmp_path, stop_at=1)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    (found / "index.json").unlink()
    with pytest.raises(TrainingError, match=r"no index\.json"):
        train(tmp_path)
    assert list(tmp_path.glob("checkpoint-*")) == [found]


def test_other_steps_and_rates_are_no_other_run(tmp_path: Path) -> None:
    train(tmp_path, stop_at=2)
    losses = train(tmp_path, steps=4, optimiser__learning_rate=1e-3)
    assert [step for step, _ in losses] == [3, 4]


class BrokenTask(toy.ToyTask):
    """Has a loss, or a gradient, that is not finite from step 2 on."""

    def __init__(self, gradient_only: bool) -> None:
        super().__init__()
        self.gradient_only = gradient_only

    def step(self, phase: str, batch: Batch, step: int) -> dict[str, Tensor]:
        losses = super().step(phase, batch, step)
        if step >= 2 and phase == "painter":
            if self.gradient_only:  # sqrt has an infinite slope at 0
                weight = next(self.networks["painter"].parameters())
                losses["total"] = losses["total"] + (0 * weight).square().sum().sqrt()
            else:
                losses["trick"] = losses["trick"] * float("nan")
                losses["total"] = losses["total"] + losses["trick"]
        return losses


@pytest.mark.parametrize(
    ("gradient_only", "name"),
    [(False, "loss 'trick' is nan"), (True, r"gradient 'painter\.0\.weight'")],
)
def test_not_a_number_is_named_and_nothing_is_spoilt(
    tmp_path: Path, gradient_only: bool, name: str
) -> None:
    run = toy.trainer(tmp_path, toy.toy_recipe(log__checkpoint=2), task=BrokenTask(gradient_only))
    with pytest.raises(TrainingError, match=f"step 3: {name}.*checkpoint-00000002"):
        run.train()
    step, tensors = newest(tmp_path)
    assert step == 2
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
