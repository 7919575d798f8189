"""SDIC trained for its edits: what is judged by what, and that it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from rounding import close
from sdic.editing.direction import Direction
from sdic.errors import TrainingError
from sdic.methods.sdic.compact_transfer import CompactTransfer
from sdic.metrics.pixels import psnr
from sdic.training import build
from sdic.training.curve import read_curve
from sdic.training.data import Mixture
from sdic.training.devices import fabric
from sdic.training.edited_pairs import EditedPairs, EditSampler
from sdic.training.loop import Trainer
from sdic.training.recipe import Recipe, load
from sdic.training.task import Batch
from sdic.training.tasks.editing import NOTHING, EditingTask

from . import tiny

NETWORKS = ("dipn", "dicn", "transfer")


def direction() -> Direction:
    vector = torch.zeros(512)
    vector[3] = 1
    return Direction("third", vector, "mobile", None, (-2.0, 4.0))


def editing_task(recipe: Recipe) -> EditingTask:
    generator = tiny.generator()
    encoder, dipn, dicn = tiny.networks(generator)
    encoder.requires_grad_(False).eval()
    torch.manual_seed(3)
    return EditingTask(
        generator,
        encoder,
        {"dipn": dipn, "dicn": dicn, "transfer": CompactTransfer(16, 8, 4)},
        recipe.losses,
        tiny.joint(recipe),
        EditSampler(generator, [direction()], recipe.edits),
        recipe.edits.perturbation,
        tiny.SIZE,
    )


def data(recipe: Recipe, task: EditingTask) -> EditedPairs:
    photos = tiny.photos()
    return EditedPairs(recipe.data, 2, 0, tiny.SIZE, task.generator, task.sampler, photos)


def mixed_batch(share: float) -> tuple[EditingTask, Batch]:
    recipe = tiny.recipe("editing", data={"generator_share": share}, edits={"perturbation": 0.0})
    task = editing_task(recipe)
    return task, data(recipe, task).batch(0)


def test_fidelity_of_photos_and_truth_of_edits_are_learnt(tmp_path: Path) -> None:
    recipe = tiny.recipe(
        "editing",
        steps=30,
        data={"generator_share": 0.5},
        ema_decay=0.5,
        optimiser={"name": "adamw", "learning_rate": 3e-3},
        validation={"every": 15, "photos": ["any"]},
    )
    task = editing_task(recipe)
    validation = tiny.photos(4)[range(4)]
    losses: list[float] = []
    trainer = Trainer(
        task, data(recipe, task), recipe, fabric("cpu", "fp32", 1), tmp_path, validation
    )
    before = {name: parameters(network) for name, network in trainer.raw.items()}
    trainer.train(on_step=lambda step, now: losses.append(now["l2"]))
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert (tmp_path / "grid.png").is_file()
    rows = read_curve(tmp_path / "curve.csv")
    assert {"psnr", "kept", "edit_psnr", "l2_loss"} <= rows[-1].keys()
    assert float(rows[-1]["psnr"]) > float(rows[0]["psnr"])
    for name, network in trainer.raw.items():
        assert not torch.equal(before[name], parameters(network))


def parameters(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()]).clone()


def test_photos_are_judged_without_their_edit() -> None:
    task, batch = mixed_batch(0.0)
    assert not batch.known.any()
    losses = task.step("editing", batch, 0)
    with torch.no_grad():
        pair = task._compensate(batch.images, task._codes(batch))
        result = task._image(pair.new_features, pair.new_latents)
    expected = (result - batch.images).square().mean()
    close(losses["l2"].detach(), expected)
    losses["total"].backward()
    assert all(p.grad is None for p in task.networks["transfer"].parameters())


def test_generated_images_are_judged_after_their_edit() -> None:
    task, batch = mixed_batch(1.0)
    assert batch.known.all()
    losses = task.step("editing", batch, 0)
    assert batch.edit is not None
    assert batch.edited is not None
    with torch.no_grad():
        pair = task._compensate(batch.images, task._codes(batch))
        result = task._edited(pair, batch.edit)
    close(losses["l2"].detach(), (result - batch.edited).square().mean())
    losses["total"].backward()
    for name in NETWORKS:
        grads = [p.grad for p in task.networks[name].parameters()]
        assert any(grad is not None and grad.abs().max() > 0 for grad in grads)


CHANGE = {"l2": 1.0, "change": 0.5}


def test_edited_photos_teach_the_transfer_alone_to_let_the_change_through() -> None:
    recipe = tiny.recipe("editing", data={"generator_share": 0.0}, losses=CHANGE)
    task = editing_task(recipe)
    batch = data(recipe, task).batch(0)
    losses = task.step("editing", batch, 0)
    torch.testing.assert_close(losses["total"], losses["l2"] + 0.5 * losses["change"])
    gradients = {}
    for name, loss in (("both", losses["total"]), ("l2", None)):
        if loss is None:
            plain = mixed_batch(0.0)[0]
            loss, task = plain.step("editing", batch, 0)["total"], plain
        loss.backward()
        gradients[name] = [[p.grad for p in task.networks[key].parameters()] for key in NETWORKS]
    for both, alone in zip(gradients["both"][:2], gradients["l2"][:2], strict=True):
        torch.testing.assert_close(both, alone)
    assert any(grad is not None and grad.abs().max() > 0 for grad in gradients["both"][2])


def test_change_is_what_the_encoder_reads() -> None:
    recipe = tiny.recipe("editing", data={"generator_share": 0.5}, losses=CHANGE)
    task = editing_task(recipe)
    batch = data(recipe, task).batch(0)
    assert batch.edit is not None
    with torch.no_grad():
        losses = task.step("editing", batch, 0)
        pair = task._compensate(batch.images, task._codes(batch))
        before = task._image(pair.new_features, pair.new_latents)[1:]
        after = task._edited(pair, batch.edit)[1:]
        plain = task.generator(pair.latents + batch.edit, tiny.SIZE)[1:].clamp(-1, 1)
        wanted = task.encoder(plain) - task.encoder(pair.initial[1:])
        got = task.encoder(after) - task.encoder(before)
    expected = (got - wanted).square().sum() / (wanted.square().sum() + NOTHING)
    close(losses["change"], expected, 1e-3)


def test_an_edit_that_changes_nothing_has_a_finite_loss() -> None:
    recipe = tiny.recipe("editing", data={"generator_share": 0.0}, losses=CHANGE)
    task = editing_task(recipe)
    batch = data(recipe, task).batch(0)
    batch = replace(batch, edit=torch.zeros_like(torch.as_tensor(batch.edit)))
    assert float(task.step("editing", batch, 0)["change"]) < 1e-3


def test_a_batch_without_photos_has_no_change_to_judge() -> None:
    recipe = tiny.recipe("editing", losses=CHANGE)
    task = editing_task(recipe)
    losses = task.step("editing", data(recipe, task).batch(0), 0)
    assert losses["change"] == 0
    torch.testing.assert_close(losses["total"], losses["l2"])


def test_rows_of_a_mixed_batch_do_not_touch_each_other() -> None:
    task, batch = mixed_batch(0.5)
    assert batch.known.tolist() == [True, False]
    assert batch.edit is not None
    with torch.no_grad():
        pair = task._compensate(batch.images, task._codes(batch))
        edit = torch.where(batch.known[:, None, None], batch.edit, 0.0)
        mixed = task._edited(pair, edit, batch.known)
        all_edited = task._edited(pair, batch.edit)
        plain = task._image(pair.new_features, pair.new_latents)
    close(mixed[0], all_edited[0])
    close(mixed[1], plain[1])
    assert (mixed[0] - plain[0]).abs().max() > 0.05


def test_codes_of_generated_images_alone_are_perturbed() -> None:
    task, batch = mixed_batch(0.5)
    task.perturbation = 0.3
    plain = task.encoder(batch.images)
    moved = task._codes(batch)
    assert not torch.equal(moved[0], plain[0])
    assert torch.equal(moved[1], plain[1])
    assert torch.equal(moved, task._codes(batch))
    task.perturbation = 0.0
    assert torch.equal(task._codes(batch), plain)


def test_validation_reads_fidelity_before_the_edit_and_the_change_after_it() -> None:
    task = editing_task(tiny.recipe("editing"))
    images = tiny.photos(3)[range(3)]
    with torch.no_grad():
        measures = task.validate(images)
        pair = task._compensate(images, task.encoder(images))
        result = task._image(pair.new_features, pair.new_latents)
    torch.testing.assert_close(measures["psnr"], psnr(images, result.clamp(-1, 1)))
    assert measures["kept"].shape == (3,)
    assert torch.equal(task.validate(images)["kept"], measures["kept"])


def test_the_edit_of_a_validation_depends_on_its_photo_alone() -> None:
    task = editing_task(tiny.recipe("editing"))
    images = tiny.photos(3)[range(3)]
    with torch.no_grad():
        latents = task.encoder(images)
        together = task._validation_edit(images, latents)
        alone = [task._validation_edit(images[i : i + 1], latents[i : i + 1]) for i in (2, 0, 1)]
    torch.testing.assert_close(together, torch.cat(alone)[[1, 2, 0]], atol=1e-5, rtol=1e-4)
    assert torch.pdist(together.flatten(1)).min() > 1e-2


def test_batches_without_an_edit_are_refused() -> None:
    recipe = tiny.recipe("editing")
    mixture = Mixture(recipe.data, 2, 0, tiny.SIZE, None, tiny.generator())
    with pytest.raises(TrainingError, match="EditedPairs"):
        editing_task(recipe).step("editing", mixture.batch(0), 0)


def exported(path: Path, **networks: torch.nn.Module) -> str:
    save_file(
        {
            f"{name}.{key}": value.contiguous()
            for name, network in networks.items()
            for key, value in network.state_dict().items()
        },
        path,
    )
    return str(path)


def test_the_recipe_builds_the_task_from_exported_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = tiny.generator()
    encoder, dipn, dicn = tiny.networks(generator)
    monkeypatch.setattr("sdic.training.tasks.common.build_encoder", lambda *_: encoder)
    files: dict[str, Any] = {
        "encoder_weights": exported(tmp_path / "e", encoder=encoder),
        "compensation_weights": exported(tmp_path / "c", dipn=dipn, dicn=dicn),
        "options": {
            "dipn": {"channels": 8, "blocks": 1},
            "dicn": {"channels": 8, "blocks": 1, "fine_channels": 4, "fine_blocks": 1},
            "transfer": {"channels": 8, "fine_channels": 4},
        },
    }
    recipe = tiny.recipe("editing", components=files)
    task = build.build_task(recipe, generator)
    assert isinstance(task, EditingTask)
    kept = task.networks["dicn"].state_dict()
    assert all(torch.equal(kept[key], value) for key, value in dicn.state_dict().items())
    assert isinstance(build.build_data(recipe, generator, None, tmp_path), EditedPairs)
    moved = CompactTransfer(generator.feature_shape[0], 8, 4)
    for parameter in moved.parameters():
        torch.nn.init.constant_(parameter, 0.5)
    files["compensation_weights"] = exported(tmp_path / "t", dipn=dipn, dicn=dicn, transfer=moved)
    again = build.build_task(tiny.recipe("editing", components=files), generator)
    assert torch.equal(parameters(again.networks["transfer"]), parameters(moved))
    del files["compensation_weights"]
    fresh = build.build_task(tiny.recipe("editing", components=files), generator)
    assert not torch.equal(parameters(fresh.networks["dicn"]), parameters(dicn))
    del files["encoder_weights"]
    with pytest.raises(TrainingError, match=r"components\.encoder_weights"):
        build.build_task(tiny.recipe("editing", components=files), generator)


def test_the_shipped_recipe_is_read() -> None:
    recipe = load("sdic-compact-edits")
    assert recipe.task == "editing"
    assert 0 < recipe.data.generator_share < 1
