"""`sdic generate`, with a tiny generator in place of the packaged one."""

import json

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from sdic import generators
from sdic.cli.generate import generate, parse_seeds
from sdic.errors import InputError
from tiny import tiny_generator


@pytest.fixture(scope="module")
def network():
    return tiny_generator()


@pytest.fixture
def run(monkeypatch, network):
    monkeypatch.setattr(generators, "create", lambda *_: network)
    monkeypatch.setattr("sdic.runtime.backends.openvino.is_available", lambda: False)

    app = typer.Typer()
    app.command()(generate)

    def call(*arguments):
        command = ["--device", "cpu", "--size", "64", *map(str, arguments)]
        return CliRunner().invoke(app, command, catch_exceptions=False)

    return call


def test_writes_one_image_for_each_seed(run, tmp_path, network):
    result = run("--seeds", "3,5-6", "--out", tmp_path / "new" / "folder")
    names = ["000003.png", "000005.png", "000006.png"]
    assert [line.rsplit("/", 1)[-1] for line in result.stdout.split()] == names
    w = network.sample(1, seed=5, truncation=0.7)
    expected = (network(network.broadcast(w), 64)[0].permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5
    pixels = np.asarray(Image.open(tmp_path / "new" / "folder" / "000005.png")).astype(float)
    assert pixels.shape == (64, 64, 3)
    assert np.abs(pixels - expected.numpy()).max() <= 0.51


def test_truncation_0_is_the_mean_face_for_every_seed(run, tmp_path):
    run("--seeds", "0-1", "--truncation", 0, "--out", tmp_path)
    first, second = (np.asarray(Image.open(tmp_path / f"00000{i}.png")) for i in range(2))
    assert np.array_equal(first, second)


def test_json(run, tmp_path):
    report = json.loads(run("--seeds", "4", "--out", tmp_path, "--json").stdout)
    assert (report["generator"], report["truncation"], report["size"]) == ("mobile", 0.7, 64)
    assert report["images"] == [{"seed": 4, "file": str(tmp_path / "000004.png")}]


def test_wrong_size_is_told_before_anything_is_written(run, tmp_path):
    with pytest.raises(InputError, match="Image size 100"):
        run("--size", 100, "--out", tmp_path)
    assert not list(tmp_path.iterdir())


def test_seeds():
    assert parse_seeds("0-3") == [0, 1, 2, 3]
    assert parse_seeds("7, 2-3,3-4") == [7, 2, 3, 4]
    for text in ("", "a", "1-", "-1", "3-1", "1,,2", "1.5"):
        with pytest.raises(InputError, match="names no seeds"):
            parse_seeds(text)
    with pytest.raises(InputError, match="more than 100000"):
        parse_seeds("0-99999999999")
