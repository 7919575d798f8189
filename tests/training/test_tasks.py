"""The tasks train what they say, by the losses they say, on tiny real networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from rounding import close
from sdic.encoders import IRSE50, E4EEncoder, LatentDiscriminator
from sdic.errors import InputError, TrainingError, WeightsError
from sdic.files import save_tensors
from sdic.generators.base import Generator
from sdic.generators.mobile_fused import fuse, to_bfloat16
from sdic.training import build
from sdic.training.curve import read_curve
from sdic.training.data import Mixture
from sdic.training.devices import fabric
from sdic.training.export import export
from sdic.training.loop import Trainer
from sdic.training.recipe import Progressive, Recipe
from sdic.training.tasks.compensation import CompensationTask
from sdic.training.tasks.encoder import EncoderTask
from sdic.weights import exported

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


def exported_run(tmp_path: Path, encoder_weights: str) -> Path:
    recipe = tiny.recipe(
        "compensation",
        data={"photos": [str(tmp_path / "faces" / "train")], "generator_share": 1.0},
        components={
            "encoder_weights": encoder_weights,
            "options": {"generator": {"checkpoint": str(tmp_path / "runs" / "face.pt")}},
        },
    )
    task = compensation(recipe)
    images = data(recipe, task.generator)
    out = tmp_path / "runs" / "sdic"
    Trainer(task, images, recipe, fabric("cpu", "fp32"), out).train(stop_at=1)
    export(out, tmp_path / "moved" / "weights.safetensors")
    return tmp_path / "moved" / "weights.safetensors"


def test_an_export_holds_no_path_and_finds_its_files_beside_it(tmp_path: Path) -> None:
    sources = [tmp_path / "runs" / "e.safetensors", tmp_path / "runs" / "face.pt"]
    sources[0].parent.mkdir()
    for source in sources:
        source.write_bytes(source.name.encode())
    file = exported_run(tmp_path, str(sources[0]))
    assert str(tmp_path).encode() not in file.read_bytes()
    assert exported.read(file).recipe["data"]["photos"] == ["train"]
    components = exported.read(file).recipe["components"]  # nothing lies there yet
    assert components["encoder_weights"] == "e.safetensors"
    moved = [source.rename(file.with_name(source.name)) for source in sources]
    components = exported.read(file).recipe["components"]
    assert components["encoder_weights"] == str(moved[0])
    assert components["options"]["generator"]["checkpoint"] == str(moved[1])
    moved[1].write_bytes(b"another one")
    with pytest.raises(WeightsError, match=r"face\.pt, but that of this name beside it is another"):
        exported.read(file)


@pytest.mark.parametrize("named", ["n" * 5000, "a\0b", "..", "/", 3, None, [], {"a": 1}])
def test_an_export_may_name_what_is_no_file(tmp_path: Path, named: Any) -> None:
    recipe = {"components": {"encoder_weights": named, "options": named}}
    metadata = {"format": exported.FORMAT, "recipe": json.dumps(recipe)}
    save_tensors(tmp_path / "file", {"a.b": torch.zeros(1)}, metadata)
    assert exported.read(tmp_path / "file").recipe == recipe


def test_an_export_may_stand_on_weights_of_the_registry(tmp_path: Path) -> None:
    file = exported_run(tmp_path, "encoder-mobile")
    file.with_name("encoder-mobile").write_bytes(b"no weights")
    assert exported.read(file).recipe["components"]["encoder_weights"] == "encoder-mobile"


@pytest.mark.parametrize("run", ["", "nothing", "file", "n" * 5000, "a\0b"])
def test_export_without_a_checkpoint_is_refused(tmp_path: Path, run: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"no checkpoint|cannot be read"):
        export(tmp_path / run, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


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


class Perfect(torch.nn.Module):
    """Knows the codes [K,512] of the images that it sees, up to a step."""

    def __init__(self, generator: Generator, latents: torch.Tensor) -> None:
        super().__init__()
        self.generator, self.latents = generator, latents
        self.step = torch.nn.Parameter(torch.zeros(512))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.generator.broadcast(self.latents) + self.step


@pytest.mark.parametrize("name", ["styles", "features"])
@pytest.mark.parametrize("fused", [False, True])
def test_codes_are_judged_by_what_the_generator_makes_of_them(name: str, fused: bool) -> None:
    recipe = tiny.recipe("encoder", losses={"l2": 0.0, name: 2.0})
    generator = tiny.generator()
    batch = data(recipe, generator).batch(0, 0, 1)
    if fused:
        to_bfloat16(fuse(generator))
    encoder = Perfect(generator, batch.latents)
    task = EncoderTask(generator, encoder, recipe.losses, tiny.joint(recipe), tiny.SIZE)
    losses = task.step("encoder", batch, 0)
    assert losses[name] < 1e-6
    with torch.no_grad():
        encoder.step += 0.1
    losses = task.step("encoder", batch, 0)
    torch.testing.assert_close(losses["total"], 2 * losses[name])
    losses["total"].backward()
    assert encoder.step.grad is not None
    assert encoder.step.grad.abs().max() > 0
    batch.known.fill_(False)  # photos: their codes are not known
    assert task.step("encoder", batch, 0)[name] == 0


def test_each_style_counts_in_units_of_its_spread() -> None:
    recipe = tiny.recipe("encoder", losses={"l2": 0.0, "styles": 1.0})
    generator = tiny.generator()
    batch = data(recipe, generator).batch(0, 0, 1)
    others = generator.sample(len(batch.latents), 3)
    task = EncoderTask(
        generator, Perfect(generator, others), recipe.losses, tiny.joint(recipe), tiny.SIZE
    )
    with torch.no_grad():
        loss = task.step("encoder", batch, 0)["styles"]
        random = generator.styles(generator.broadcast(generator.sample(500, 7)))
        one, two = (generator.styles(generator.broadcast(w)) for w in (others, batch.latents))
    expected = ((one - two) / random.std(dim=0)).square()
    assert expected.isfinite().all()
    torch.testing.assert_close(loss, expected.mean(), rtol=0.1, atol=0)


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


def small_e4e(num_styles: int) -> E4EEncoder:
    """e4e with one small head for all rows of a level, for images of 64x64."""
    torch.manual_seed(0)
    with torch.device("meta"):
        encoder = E4EEncoder(num_styles, stages=((16, 1),) * 4)
    encoder.trunk = IRSE50(((16, 1),) * 4)
    encoder.lateral1, encoder.lateral2 = torch.nn.Conv2d(16, 16, 1), torch.nn.Conv2d(16, 16, 1)
    for row in range(num_styles):
        pooled = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
        encoder.styles[row] = torch.nn.Sequential(*pooled, torch.nn.Linear(16, 512))
    encoder.mean_latent = torch.zeros(num_styles, 512)
    return encoder


def test_a_run_stopped_early_is_exported_with_its_rows_locked(tmp_path: Path) -> None:
    recipe = tiny.recipe(
        "encoder",
        steps=100,
        ema_decay=0.0,
        progressive={"start": 1, "every": 2},
        validation={"photos": ["x"], "every": 50},
    )
    generator = tiny.generator()

    def trainer() -> Trainer:
        encoder = small_e4e(generator.num_styles)
        task = EncoderTask(
            generator, encoder, recipe.losses, tiny.joint(recipe), 64, None, recipe.progressive
        )
        launched = fabric("cpu", "fp32", 1, task.skips_parameters)
        photos = tiny.photos()[range(1)]
        return Trainer(task, data(recipe, generator), recipe, launched, tmp_path, photos)

    first = trainer()
    assert first.task.encoder.stage == 0
    first.train(stop_at=4)
    assert first.task.encoder.stage == 2
    resumed = trainer()
    resumed.resume()
    assert resumed.task.encoder.stage == 2  # a validation before the next step sees it
    export(tmp_path, tmp_path / "weights.safetensors")
    encoder = exported.read(tmp_path / "weights.safetensors").fill(
        small_e4e(generator.num_styles), "encoder"
    )
    assert encoder.stage == 2
    images = tiny.photos()[range(2)]
    with torch.no_grad():
        offsets = encoder.eval().codes(images)[1]
        expected = first.task.encoder.eval().codes(images)[1]
    assert not offsets[:, 2:].any()
    torch.testing.assert_close(offsets, expected, atol=1e-2, rtol=1e-2)  # float16 in the file


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
