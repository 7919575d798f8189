"""Images with an edit: the truth after it, what stays, and how far edits go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rounding import close
from sdic.editing.direction import Direction
from sdic.errors import TrainingError
from sdic.training.data import seeded
from sdic.training.edited_pairs import LEAST, EditedPairs, EditSampler, random_latents
from sdic.training.generated import GeneratedFaces
from sdic.training.recipe import Augmentation, DataRecipe, Edits

from . import tiny

PLAIN = DataRecipe(generator_share=1.0, augmentation=Augmentation(flip=0.0))


def direction(rows: tuple[int, ...] | None = None) -> Direction:
    vector = torch.zeros(512)
    vector[3] = 1
    return Direction("third", vector, "mobile", rows, (-2.0, 4.0))


def pairs(settings: DataRecipe = PLAIN, photos: Any = None, faces: Any = None) -> EditedPairs:
    generator = tiny.generator()
    sampler = EditSampler(generator, [direction((1, 2))], Edits())
    return EditedPairs(settings, 3, 0, tiny.SIZE, generator, sampler, photos, faces)


def test_both_images_are_what_the_generator_makes_of_the_codes() -> None:
    data = pairs()
    batch = data.batch(5)
    assert batch.known.all()
    assert batch.edit is not None
    latents = data.generator.broadcast(batch.latents)
    with torch.no_grad():
        before, after = data.generator(torch.cat((latents, latents + batch.edit)), tiny.SIZE).chunk(
            2
        )
    assert batch.edited is not None
    close(batch.images, before.clamp(-1, 1))
    close(batch.edited, after.clamp(-1, 1))


def test_faces_that_were_made_before_are_edited_as_fresh_ones(tmp_path: Path) -> None:
    generator = tiny.generator()
    faces = GeneratedFaces.open(generator, tmp_path, 5, 0.7, tiny.SIZE)
    batch = pairs(faces=faces).batch(2)
    assert batch.edit is not None
    for image, latents in zip(batch.images, batch.latents, strict=True):
        (number,) = (faces.latents == latents).all(dim=1).nonzero()[:, 0].tolist()
        assert torch.equal(image, faces.at([number])[0][0])
    with torch.no_grad():
        edited = generator(generator.broadcast(batch.latents) + batch.edit, tiny.SIZE)
    torch.testing.assert_close(batch.edited, edited.clamp(-1, 1), atol=1e-4, rtol=1e-4)


def test_degraded_faces_are_degraded_alike_after_the_edit() -> None:
    settings = DataRecipe(generator_share=1.0, augmentation=Augmentation(flip=0.0, degrade=1.0))
    data = pairs(settings)
    data.sampler.draw = lambda latents, random: torch.zeros_like(latents)  # type: ignore[method-assign]
    batch = data.batch(0)
    torch.testing.assert_close(batch.images, batch.edited, atol=0.1, rtol=0)
    assert (batch.images - pairs().batch(0).images).abs().mean() > 1e-3


def test_a_batch_depends_on_seed_index_and_rank_only() -> None:
    first, again = pairs().batch(7, 1, 2), pairs().batch(7, 1, 2)
    assert first.edited is not None
    for name in ("images", "latents", "edit", "edited"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    for other in (pairs().batch(8, 1, 2), pairs().batch(7, 0, 2)):
        assert not torch.equal(first.edited, other.edited)  # type: ignore[arg-type]


def test_occluders_stay_through_the_edit() -> None:
    covered = DataRecipe(generator_share=1.0, augmentation=Augmentation(flip=0.0, occluders=1.0))
    plain, batch = pairs().batch(0), pairs(covered, tiny.photos()).batch(0)
    assert batch.edited is not None
    assert plain.edited is not None
    hidden = (batch.images - plain.images).abs().amax(dim=1) > 0.05
    assert 0.01 < hidden.float().mean() < 0.95
    where = (batch.edited - plain.edited).abs().amax(dim=1) > 0.05
    assert (where == hidden).float().mean() > 0.9
    # Where nothing of the image shows through, both pictures show the same.
    same = (batch.images - batch.edited).abs().amax(dim=1) < 1e-4
    assert same.float().mean() > 0.005


def test_photos_have_an_edit_and_no_truth() -> None:
    mixed = DataRecipe(generator_share=0.34, augmentation=Augmentation(flip=0.0, occluders=1.0))
    photos = tiny.photos()
    batch = pairs(mixed, photos).batch(0)
    count = int(batch.known.sum())
    assert count in (1, 2)
    assert batch.edit is not None
    assert batch.edit.abs().amax(dim=(1, 2)).min() > 0
    everything = photos[range(len(photos))]
    for photo in batch.images[count:]:  # no occluder lies on it
        assert (everything - photo).abs().amax(dim=(1, 2, 3)).min() < 1e-6


def test_photos_that_are_wanted_and_missing_are_named() -> None:
    with pytest.raises(TrainingError, match="--data"):
        pairs(DataRecipe(generator_share=0.5))


def test_library_edits_go_both_ways_within_their_range() -> None:
    generator = tiny.generator()
    sampler = EditSampler(generator, [direction((1, 2))], Edits(library=1.0))
    random = seeded("test")
    latents = random_latents(generator, 60, random)
    steps = sampler.draw(latents, random)
    assert steps[:, [0, 3]].abs().max() == 0
    strengths = steps[:, 1, 3]
    torch.testing.assert_close(steps[:, 2, 3], strengths)
    assert strengths.max() <= 4
    assert strengths.min() >= -2
    positive, negative = strengths[strengths > 0], strengths[strengths < 0]
    assert len(positive) > 15
    assert len(negative) > 15
    assert positive.min() >= 4 * LEAST - 1e-5
    assert negative.max() <= -2 * LEAST + 1e-5


def test_other_edits_are_a_part_of_the_way_to_another_w() -> None:
    generator = tiny.generator()
    sampler = EditSampler(generator, [direction()], Edits(library=0.0, difference=0.5))
    random = seeded("test")
    latents = random_latents(generator, 8, random)
    steps = sampler.draw(latents, random)
    assert (steps - steps[:, :1]).abs().max() < 1e-6  # all rows alike
    lengths = steps[:, 0].norm(dim=1)
    assert lengths.min() > 0
    spread = torch.pdist(latents[:, 0]).mean()
    assert lengths.max() < spread
