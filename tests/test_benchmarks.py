"""The benchmark scripts run; how fast is not a matter of tests."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
