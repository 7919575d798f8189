"""Where the compact encoder starts: fitted on cached maps, it reads w of images it has not seen."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from rounding import close
from sdic.cli.train import train_app
from sdic.encoders.compact import TAPS, CompactEncoder
from sdic.encoders.efficientnet import STAGES
from sdic.training import encoder_start as start
from sdic.weights import exported

from . import tiny


@pytest.fixture
def encoder() -> CompactEncoder:
    torch.manual_seed(0)
    return CompactEncoder(5, torch.linspace(-1, 1, 512)).train()


def made(encoder: CompactEncoder, count: int) -> start.Samples:
    """Samples whose maps and w both show the same four hidden causes."""
    random = torch.Generator().manual_seed(1)
    causes = torch.randn(count, 4, generator=random)
    taps = []
    for i, _, side in TAPS:
        pattern = torch.randn(4, STAGES[i][4] * side * side, generator=random)
        taps.append((causes @ pattern).view(count, STAGES[i][4], side, side))
    latents = causes @ torch.randn(4, 512, generator=random)
    return start.Samples(taps, encoder.mean_latent + latents)


def test_samples_are_generated_images_and_their_w(
    encoder: CompactEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "IMAGE_SIZE", tiny.SIZE)
    generator = tiny.generator()
    samples = start.collect(encoder, generator, 9, seed=3)
    assert torch.equal(samples.latents, generator.sample(9, 3))
    assert [tap.shape[0] for tap in samples.taps] == [9, 9, 9]
    with torch.no_grad():
        image = generator(generator.broadcast(samples.latents[8:]), tiny.SIZE).clamp(-1, 1)
        for tap, expected in zip(samples.taps, encoder.taps(image), strict=True):
            close(tap[8:], expected)


def test_the_fit_explains_fresh_samples_and_moves_nothing_else(encoder: CompactEncoder) -> None:
    samples = made(encoder, 250)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    fresh = samples.at(slice(200, None))
    assert start.explained(encoder, fresh) == pytest.approx(0, abs=0.05)
    start.fit(encoder, samples.at(slice(0, 200)), steps=100)
    assert start.explained(encoder, fresh) > 0.8
    moved = {
        key.split(".")[0]
        for key, value in encoder.state_dict().items()
        if not torch.equal(value, before[key])
    }
    assert moved == {"reduce", "to_w"}


def test_a_fit_is_a_function_of_its_seed(encoder: CompactEncoder) -> None:
    samples = made(encoder, 100)
    fitted = []
    for _ in range(2):
        torch.manual_seed(5)
        other = CompactEncoder(5, encoder.mean_latent).train()
        start.fit(other, samples, seed=2, steps=3)
        fitted.append(other.to_w.weight)
    assert torch.equal(*fitted)


def test_the_command_writes_a_file_that_training_starts_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = tiny.generator()
    trunk = {**CompactEncoder(1).trunk.state_dict(), "classifier": torch.zeros(1)}
    monkeypatch.setattr(start, "IMAGE_SIZE", tiny.SIZE)
    monkeypatch.setattr("sdic.generators.create", lambda name: generator)
    monkeypatch.setattr("sdic.runtime.backends.accelerate", lambda generator: generator)
    monkeypatch.setattr("sdic.weights.load", lambda name: trunk)
    monkeypatch.setattr(start, "fit", partial(start.fit, steps=2))
    out = tmp_path / "start.safetensors"
    arguments = ["encoder-start", "--out", str(out), "--samples", "6", "--fresh", "4"]
    result = CliRunner().invoke(train_app, arguments)
    assert result.exit_code == 0, result.output
    assert "of the variance of w on 4 fresh images" in result.output
    encoder = CompactEncoder(generator.num_styles, generator.mean_latent)
    exported.read(out).fill(encoder, "encoder")
    assert encoder.to_w.weight.abs().max() > 0
