"""The tasks train what they say, by the losses they say, on tiny real networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from rounding import close
from sdic.encoders import LatentDiscriminator
from sdic.errors import InputError, TrainingError
from sdic.training import build
from sdic.training.curve import read_curve
from sdic.training.data import Mixture
from sdic.training.devices import fabric
from sdic.training.export import export
from sdic.training.loop import Trainer
from sdic.training.recipe import Progressive, Recipe
from sdic.training.tasks import CompensationTask, EncoderTask

from . import tiny


def data(recipe: Recipe, generator: Any) -> Mixture:
    return Mixture(recipe.data, recipe.batch_size, 0, tiny.SIZE, None, generator)


def compensation(recipe: Recipe) -> CompensationTask:
    generator = tiny.generator()
    encoder, dipn, dicn = tiny.networks(generator)
    encoder.requires_grad_(False).eval()
    losses, joint = recipe.losses, tiny.joint(recipe)
    return CompensationTask(generator, encoder, dipn, dicn, losses, joint, tiny.SIZE)


def test_compensation_learns_validates_draws_and_exports(tmp_path: Path) -> None:
    recipe = tiny.recipe(
        "compensation",
        steps=24,
        losses={"l2": 1.0, "edit_latents": 0.1, "edit_features": 0.01},
        optimiser={"name": "adamw", "learning_rate": 1e-3},
        validation={"photos": ["x"], "every": 12},
        data={"generator_share": 0.0},
    )
    task = compensation(recipe)
    images = Mixture(recipe.data, 2, 0, tiny.SIZE, tiny.photos(), None)
    before = {key: value.clone() for key, value in task.encoder.state_dict().items()}
    validation = tiny.photos()[range(3)]
    losses: list[dict[str, float]] = []
    run = Trainer(task, images, recipe, fabric("cpu", "fp32"), tmp_path, validation)
    run.train(on_step=lambda _, values: losses.append(values))
    first = losses[0]
    expected = first["l2"] + 0.1 * first["edit_latents"] + 0.01 * first["edit_features"]
    assert first["total"] == pytest.approx(expected, rel=1e-5)
    curve = read_curve(tmp_path / "curve.csv")
    assert [row["step"] for row in curve] == ["0", "12", "24"]
    assert float(curve[2]["psnr"]) > float(curve[0]["psnr"]) + 0.4
    assert len({row["initial_psnr"] for row in curve}) == 1
    assert all(torch.equal(task.encoder.state_dict()[key], before[key]) for key in before)
    assert (tmp_path / "grid.png").is_file()
    assert list((tmp_path / "tensorboard").iterdir())
    check_export(tmp_path, run, curve[2]["psnr"])


def check_export(tmp_path: Path, run: Trainer, psnr: str) -> None:
    file = tmp_path / "exported" / "weights.safetensors"
    export(tmp_path, file)
    with safe_open(file, "pt") as opened:
        keys = set(opened.keys())
        kernel = opened.get_tensor("dipn.stem.weight")
        bias = opened.get_tensor("dipn.stem.bias")
        metadata = opened.metadata()
    assert keys == set(run.ema.average)
    assert (kernel.dtype, bias.dtype) == (torch.float16, torch.float32)
    assert torch.equal(kernel, run.ema.average["dipn.stem.weight"].half())
    assert metadata["step"] == "24"
    assert f'"psnr": "{psnr}"' in metadata["metrics"]
    assert '"task": "compensation"' in metadata["recipe"]


def test_export_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no checkpoint"):
        export(tmp_path, tmp_path / "file")


def encoder_task(recipe: Recipe, discriminator: bool = False) -> EncoderTask:
    generator = tiny.generator()
    encoder = tiny.networks(generator)[0]
    torch.manual_seed(2)
    judge = LatentDiscriminator(16, 1) if discriminator else None
    losses, joint = recipe.losses, tiny.joint(recipe)
    return EncoderTask(generator, encoder, losses, joint, tiny.SIZE, judge, recipe.progressive)


def test_known_latents_are_regressed_and_unknown_ones_are_not() -> None:
    recipe = tiny.recipe("encoder", losses={"l2": 0.0, "latents": 1.0})
    task = encoder_task(recipe)
    batch = data(recipe, task.generator).batch(0, 0, 1)
    losses = task.step("encoder", batch, 0)
    latents = task.networks["encoder"](batch.images)
    expected = (latents - batch.latents[:, None]).square().mean()
    close(losses["latents"], expected)
    close(losses["total"], expected)
    batch.known.fill_(False)
    assert task.step("encoder", batch, 0)["latents"] == 0


def test_images_of_known_latents_are_judged_by_them_alone() -> None:
    weighed = tiny.recipe("encoder", losses={"l2": 1.0, "latents": 1.0})
    task = encoder_task(weighed)
    batch = data(weighed, task.generator).batch(0, 0, 1)
    known = task.step("encoder", batch, 0)
    assert known["l2"] == 0
    assert torch.allclose(known["total"], known["latents"])
    batch.known[0] = False
    mixed = task.step("encoder", batch, 0)
    assert mixed.keys() == known.keys()
    with torch.no_grad():
        result = task.generator(task.encoder(batch.images[:1]), tiny.SIZE)
    close(mixed["l2"], (result - batch.images[:1]).square().mean())

    unweighed = encoder_task(tiny.recipe("encoder", losses={"l2": 1.0}))
    batch.known.fill_(True)
    assert unweighed.step("encoder", batch, 0)["l2"] > 0


def test_the_discriminator_learns_in_its_own_phase_only(tmp_path: Path) -> None:
    recipe = tiny.recipe("encoder", losses={"l2": 1.0, "adversarial": 0.1, "delta": 2e-4})
    task = encoder_task(recipe, discriminator=True)
    losses: list[dict[str, float]] = []
    run = Trainer(task, data(recipe, task.generator), recipe, fabric("cpu", "bf16"), tmp_path)
    frozen = [p.clone() for p in task.generator.parameters()]
    run.train(stop_at=2, on_step=lambda _, values: losses.append(values))
    assert "r1" in losses[0]
    assert "r1" not in losses[1]  # it is taken in every 16th step
    assert losses[1]["learning_rate"] > 0
    assert all(torch.equal(a, b) for a, b in zip(frozen, task.generator.parameters(), strict=True))
    gradients = {name: values[f"{name}_gradient"] for values in losses for name in task.networks}
    assert all(value > 0 for value in gradients.values())


def test_progressive_training_unlocks_rows() -> None:
    recipe = tiny.recipe("encoder", progressive={"start": 10, "every": 5})
    assert recipe.progressive == Progressive(10, 5)
    task = encoder_task(recipe)
    batch = data(recipe, task.generator).batch(0, 0, 1)
    stages = []
    for step in (0, 9, 10, 14, 15, 10_000):
        task.step("encoder", batch, step)
        stages.append(task.encoder.stage)
    assert stages == [0, 0, 1, 1, 2, task.generator.num_styles - 1]


def test_components_that_do_not_exist_or_fit_are_named() -> None:
    generator = tiny.generator()
    recipe = tiny.recipe("encoder", components={"encoder": "none"})
    with pytest.raises(InputError, match="no encoder 'none'"):
        build.build_task(recipe, generator)
    recipe = tiny.recipe("compensation")
    with pytest.raises(TrainingError, match=r"components\.encoder_weights"):
        build.build_task(recipe, generator)
    recipe = tiny.recipe("encoder", components={"options": {"encoder": {"colour": 1}}})
    with pytest.raises(InputError, match=r"components\.options\.encoder does not fit"):
        build.build_task(recipe, generator)
