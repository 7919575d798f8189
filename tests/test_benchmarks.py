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

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


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


def test_directions_are_judged_by_their_change_and_their_distance(monkeypatch):
    """A face is one number here: its brightness, which `age` raises by 0.1 for each strength."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    script = importlib.import_module("directions")
    direction = Direction("age", torch.eye(512)[0], "mobile")
    strengths = [-2.0, 1.0, 4.0]

    def render(edit, start):
        latents = edit.apply(torch.full((1, 2, 512), start))
        return (0.1 * latents[:, :1, :1, None]).expand(1, 3, 8, 8)

    class Brightness:
        def margin(self, pictures):
            return pictures.mean((1, 2, 3)) * 100

    class Recogniser:
        def compare(self, first, second):
            return (first - second).abs().mean((1, 2, 3)) * 2

    done = [
        script.measure(
            lambda edit, start=start: render(edit, start),
            {"age": direction},
            strengths,
            {"age": Brightness()},
            Recogniser(),
        )
        for start in (0.0, 1.0)
    ]
    (row,) = script.summarise(done, ["age"], strengths, different_people=0.83)
    assert row["slope"] == pytest.approx(10)
    assert row["right way"] == 1
    assert row["samples"] == 2
    assert row["limit at +"] == pytest.approx(3)
    assert row["limit at -"] is None
    assert row["other person at +"] is None
    assert row["levels"] == pytest.approx({"-2": -15, "0": 5, "+1": 15, "+4": 45})
    assert row["per strength"] == pytest.approx({"age": 10})
    text = script.markdown([row], strengths)
    assert re.search(r"\| age \| \+10 ± \S+ \| 100% \| -15, 5, 15, 45 \| 0.40, 0.20, 0.80 \|", text)
    assert "| age | +10 |" in text
