"""The ablations: every variant is a recipe that builds, and the table says what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sdic.cli.train import train_app
from sdic.errors import TrainingError
from sdic.training import session
from sdic.training.ablations import ABLATIONS, as_table, choose, run_all
from sdic.training.curve import write_curve
from sdic.training.recipe import load


def curve(folder: Path, step: int, psnr: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    row = {"step": str(step), "psnr": str(psnr), "l2_loss": "0.00123456", "perceptual_loss": "0.1"}
    write_curve(folder / "curve.csv", [{"step": "0", "psnr": "1"}, row])


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_variant_is_a_valid_recipe(name: str) -> None:
    plain = load("sdic-ablation").components
    varied = load("sdic-ablation", ABLATIONS[name].overrides).components
    assert (varied == plain) == (name == "full")


def test_variants_by_name() -> None:
    assert [ablation.name for ablation in choose(["layer-9", "full"])] == ["layer-9", "full"]
    assert len(choose([])) == len(ABLATIONS)
    with pytest.raises(TrainingError, match="no ablation 'layer-8'; choose from: full, no-att"):
        choose(["layer-8"])


def test_the_table_has_the_newest_measures_of_what_was_trained(tmp_path: Path) -> None:
    curve(tmp_path / "full", 50, 28.123456)
    curve(tmp_path / "layer-5", 40, 25)
    table = as_table(tmp_path)
    assert "| SDIC (layer 7) | tables 2 and 3 | 50 | 28.12 | 0.001235 | 0.1 |  |" in table
    assert "| layer 5 | table 3 | 40 | 25 |" in table
    assert table.count("\n") == 4


def test_runs_end_with_the_time_and_the_table_is_there(tmp_path: Path) -> None:
    seen: list[str] = []

    def train(overrides: tuple[str, ...], folder: Path) -> bool:
        seen.append(folder.name)
        curve(folder, 10, 20)
        return len(seen) == 2

    table = run_all(choose([]), tmp_path, train)
    assert seen == list(ABLATIONS)[:2]
    assert table.read_text("utf-8") == as_table(tmp_path)


def test_the_command_trains_each_with_its_own_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {}

    def run(
        recipe: str, overrides: list[str], folder: Path, **options: object
    ) -> session.SliceOutcome:
        calls[folder.name] = (recipe, overrides, options["data"])
        curve(folder, 30, 24)
        return session.SliceOutcome(30, True, True)

    monkeypatch.setattr(session, "run", run)
    arguments = ["ablations", "full", "layer-5", "--data", str(tmp_path), "--steps", "30"]
    result = CliRunner().invoke(train_app, [*arguments, "--out", str(tmp_path), "--set", "seed=4"])
    assert result.exit_code == 0, result.output
    assert list(calls) == ["full", "layer-5"]
    recipe, overrides, data = calls["layer-5"]
    assert (recipe, data) == ("sdic-ablation", tmp_path)
    assert overrides[:3] == ["steps=30", "validation.every=30", "seed=4"]
    assert overrides[3:] == ["components.options.generator.feature_layer=5"]
    assert "| layer 5 | table 3 | 30 | 24 |" in result.output
