"""The benchmark scripts run; how fast is not a matter of tests."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sdic.editing.direction import Direction

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def run(tmp_path):
    def run(script, *arguments):
        command = [sys.executable, BENCHMARKS / script, "--quick", "--threads", "1", "--runs", "1"]
        out = tmp_path / "new" / "result"
        environment = os.environ | {"SDIC_CACHE": str(tmp_path)}
        subprocess.run([*command, *arguments, "--out", out], check=True, env=environment)
        return json.loads(out.with_suffix(".json").read_text()), out.with_suffix(".md").read_text()

    return run


def test_generator(run):
    variants = ("mobile, eager", "mobile, fused, bf16")
    data, text = run("generator.py", "--variants", *variants, "--batches", "2")
    assert [(row["variant"], row["batch"]) for row in data["rows"]] == [(v, 2) for v in variants]
    for row in data["rows"]:
        assert row["ms"] > 0
        assert row["mib"] > 50
    assert "| mobile, eager | 2 |" in text
    assert " 1.00x |" in text


def test_inversion(run):
    data, text = run("inversion.py", "--configurations", "compact, f32")
    (row,) = data["rows"].values()
    parts = row["parts"]
    assert list(parts)[-2:] == ["invert", "edit"]
    assert all(part["ms"] > 0 and part["mib"] > 50 for part in parts.values())
    assert text.count("\n| ") >= 9


def test_startup(run):
    data, text = run("startup.py", "--busy", "1")
    conditions = [(row["machine"], row["waiting"]) for row in data["rows"]]
    assert conditions == [
        (machine, f"threads {what}") for machine in ("idle", "busy") for what in ("spin", "sleep")
    ]
    assert all(row["wall"] > 0.1 and row["cpu"] > 0.1 for row in data["rows"])
    assert "| idle, threads spin |" in text
    assert "| 1.00x | 1.00x |" in text


def test_directions_are_judged_by_their_change_and_their_distance(monkeypatch):
    """A face is one number here: its brightness, which `age` raises by 0.1 for each strength."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    script = importlib.import_module("directions")
    direction = Direction("age", torch.eye(512)[0], "mobile")
    strengths = {"age": [-2.0, 1.0, 4.0], "grin": [3.0]}

    def render(edit, start):
        latents = edit.apply(torch.full((1, 2, 512), start))
        return (0.1 * latents[:, :1, :1, None]).expand(1, 3, 8, 8)

    def brightness(pictures):
        return pictures.mean((1, 2, 3)) * 100

    class Recogniser:
        def compare(self, first, second):
            return (first - second).abs().mean((1, 2, 3)) * 2

    done = [
        script.measure(
            lambda edit, start=start: render(edit, start),
            {"age": direction, "grin": direction},
            strengths,
            {"age": brightness},
            Recogniser(),
        )
        for start in (0.0, 1.0)
    ]
    row, other = script.summarise(done, strengths, different_people=0.83)
    assert row["slope"] == pytest.approx(10)
    assert row["right way"] == 1
    assert row["samples"] == 2
    assert row["limit at +"] == pytest.approx(3)
    assert row["limit at -"] is None
    assert row["other person at +"] is None
    assert row["levels"] == pytest.approx({"-2": -15, "0": 5, "+1": 15, "+4": 45})
    assert row["per strength"] == pytest.approx({"age": 10})
    assert "slope" not in other
    assert other["changes"]["age"] == pytest.approx({"+3": 30})
    text = script.markdown([row, other], strengths)
    levels, distances = "-15, 5, 15, 45", "0.40, 0.20, 0.80"
    cells = rf"\| age \| \+10 ± \S+ \| 100% \| -2, 0, \+1, \+4 \| {levels} \| {distances} \|"
    assert re.search(cells, text)
    assert "| grin | - | - | 0, +3 | - | 0.60 |" in text
    assert "| age | +10 |" in text


def test_shares_of_clearly_happy_faces(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    script = importlib.import_module("directions")
    done = [
        {"happiness": [[0.0, -3.0, 3.0]], "identity": [[0.0, 0.1, 0.1]]},
        {"happiness": [[2.0, -1.0, 4.0]], "identity": [[0.0, 0.1, 0.1]]},
    ]
    strengths = {"smile": [-4.0, 4.0]}
    (row,) = script.summarise(done, strengths, different_people=0.83)
    assert row["unhappy"] == {"0": 0, "-4": 0.5, "+4": 0}
    assert row["happy"] == {"0": 0.5, "-4": 0, "+4": 1}
    text = script.markdown([row], strengths)
    assert "smile: happiness is below 0.2 for 0.0% at 0, 50.0% at -4, 0.0% at +4\n" in text


def test_separation_of_people(monkeypatch):
    """Distances that overlap in one pair of each kind, and others that do not overlap."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    script = importlib.import_module("identity")
    same, different = torch.tensor([0.1, 0.2, 0.3, 0.6]), torch.tensor([0.5, 0.7, 0.8, 0.9])
    found = script.separation(same, different, lower_is_alike=True)
    assert found["auc"] == pytest.approx(15 / 16)
    assert found["eer"] == pytest.approx(0.25)
    assert found["d'"] == pytest.approx(0.425 / 0.1954, rel=0.01)
    assert found["same"] == pytest.approx(0.3)
    reverse = script.separation(same, different, lower_is_alike=False)
    assert reverse["auc"] == pytest.approx(1 / 16)
    assert script.separation(same - 0.2, different, lower_is_alike=True)["eer"] == 0


def test_altered_copies_are_others_of_the_same_size(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    script = importlib.import_module("identity")
    faces = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    copies = script.altered(faces, seed=0)
    assert copies.shape == faces.shape
    assert copies.abs().max() <= 1
    assert (copies - faces).abs().mean() > 0.05
    assert torch.equal(copies, script.altered(faces, seed=0))
