"""Training images are a function of (seed, index, rank), and what the recipe says."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rounding import close
from sdic.errors import InputError, TrainingError
from sdic.training.augmentation import augment, degrade, occlude
from sdic.training.data import Mixture, Photos, derive_seed
from sdic.training.recipe import Augmentation, DataRecipe
from sdic.training.task import Batch

from . import tiny

PLAIN = Augmentation(flip=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten plain pictures; picture i has the grey level 20 * i."""
    root = tmp_path_factory.mktemp("photos")
    for i in range(10):
        Image.new("RGB", (32, 32), (20 * i,) * 3).save(root / f"{i:02d}.png")
    return root


@pytest.fixture(scope="module")
def photos(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return Photos.read([folder], 16, tmp_path_factory.mktemp("cache"))


def levels(batch: Batch) -> list[int]:
    return [round((float(image.mean()) + 1) * 127.5 / 20) for image in batch.images]


def test_photos_are_decoded_once_and_kept(folder: Path, tmp_path: Path) -> None:
    first = Photos.read([folder], 16, tmp_path)
    (cached,) = tmp_path.glob("*.npy")
    written = cached.stat().st_mtime_ns
    again = Photos.read([folder], 16, tmp_path)
    assert cached.stat().st_mtime_ns == written
    assert len(first) == len(again) == 10
    assert torch.equal(first[[3]], again[[3]])
    expected = torch.full((1, 3, 16, 16), 60 / 127.5 - 1)
    assert torch.allclose(first[[3]], expected, atol=1e-6)


def test_a_changed_photo_is_decoded_anew(tmp_path: Path) -> None:
    file = tmp_path / "photos" / "one.png"
    file.parent.mkdir()
    for level in (0, 255):
        Image.new("RGB", (16, 16), (level,) * 3).save(file)
        photos = Photos.read([file.parent], 16, tmp_path / "cache")
        assert round((float(photos[[0]].mean()) + 1) * 127.5) == level


def test_empty_missing_and_unaligned_photos_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file or folder"):
        Photos.read([tmp_path / "none"], 16, tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="empty"):
        Photos.read([empty], 16, tmp_path)
    Image.new("RGB", (20, 10)).save(empty / "wide.png")
    with pytest.raises(InputError, match=r"wide\.png is 20x10; training takes aligned"):
        Photos.read([empty], 16, tmp_path)
    (empty / "wide.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(InputError, match=r"wide\.png"):
        Photos.read([empty], 16, tmp_path)
    assert not [*tmp_path.glob("*.npy"), *tmp_path.glob(".sdic-*")]


def test_what_is_kept_of_photos_is_private_and_clean(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "photos"
    cache.mkdir(mode=0o755)
    left = cache / ".sdic-0123.part"
    left.write_bytes(b"half a face")
    os.utime(left, (0, 0))
    Photos.read([folder], 16, cache)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert not left.exists()
    (kept,) = cache.glob("*.npy")
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(TrainingError, match=r"\.npy are damaged; delete it"):
        Photos.read([folder], 16, cache)
    with pytest.raises(TrainingError, match="is not a folder"):
        Photos.read([folder], 16, kept / "below")


def test_a_batch_depends_on_seed_index_and_rank_only(photos: Photos) -> None:
    settings = DataRecipe(
        generator_share=0.5, augmentation=Augmentation(0.5, 0.5, 0.5, 0.5, max_occluders=3)
    )

    def batch(seed: int, index: int, rank: int) -> Batch:
        return Mixture(settings, 4, seed, 16, photos, tiny.generator()).batch(index, rank, 2)

    first, again = batch(1, 7, 0), batch(1, 7, 0)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.latents, again.latents)
    assert first.seed == again.seed
    for other in (batch(2, 7, 0), batch(1, 8, 0), batch(1, 7, 1)):
        assert not torch.equal(first.images, other.images)
        assert first.seed != other.seed
    assert first.images.abs().max() <= 1


def test_each_pass_shows_every_photo_once_in_a_new_order(photos: Photos) -> None:
    mixture = Mixture(DataRecipe(augmentation=PLAIN), 5, 0, 16, photos, None)
    passes = [
        levels(mixture.batch(index, 0, 1)) + levels(mixture.batch(index + 1, 0, 1))
        for index in (0, 2, 4)
    ]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert passes[0] != passes[1] != passes[2]


def test_processes_share_a_pass(photos: Photos) -> None:
    mixture = Mixture(DataRecipe(augmentation=PLAIN), 5, 0, 16, photos, None)
    seen = levels(mixture.batch(0, 0, 2)) + levels(mixture.batch(0, 1, 2))
    assert sorted(seen) == list(range(10))


def test_generated_images_are_those_of_their_latents(photos: Photos) -> None:
    generator = tiny.generator()
    settings = DataRecipe(generator_share=0.5, truncation=0.7, augmentation=PLAIN)
    batch = Mixture(settings, 4, 0, 16, photos, generator).batch(0, 0, 1)
    assert batch.known.tolist() == [True, True, False, False]
    with torch.no_grad():
        images = generator(generator.broadcast(batch.latents[:2]), 16).clamp(-1, 1)
    close(batch.images[:2], images)
    assert batch.latents[2:].abs().max() == 0


def test_a_share_of_no_whole_number_holds_on_average() -> None:
    settings = DataRecipe(generator_share=0.3, augmentation=PLAIN)
    photos = Photos(np.zeros((3, 3, 16, 16), np.uint8))
    mixture = Mixture(settings, 1, 0, 16, photos, tiny.generator())
    known = sum(int(mixture.batch(index, 0, 1).known.sum()) for index in range(200))
    assert 40 <= known <= 80


def test_missing_sources_are_named() -> None:
    with pytest.raises(TrainingError, match="--data"):
        Mixture(DataRecipe(), 1, 0, 16, None, None)
    with pytest.raises(TrainingError, match="no generator"):
        Mixture(DataRecipe(generator_share=1.0), 1, 0, 16, None, None)


def test_seeds_of_different_parts_differ() -> None:
    parts = [(0, 1), (1, 0), (0, 11), (0, "1", ""), (0,), (0, 1, 0)]
    assert len({derive_seed(*each) for each in parts}) == len(parts)
    assert all(0 <= derive_seed(*each) < 2**63 for each in parts)


def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_augmentation_switched_off_is_the_identity() -> None:
    images = torch.rand(3, 3, 24, 24, generator=random()) * 2 - 1
    assert torch.equal(augment(images, PLAIN, random()), images)
    assert torch.equal(occlude(images, PLAIN, random()), images)


def test_degraded_images_lose_detail_and_stay_what_they_show() -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    images = (0.6 * torch.stack((x, y, x * y))).expand(16, 3, 64, 64)
    assert torch.equal(degrade(images, PLAIN, random()), images)
    always = Augmentation(degrade=1.0)
    degraded = degrade(images, always, random())
    assert torch.equal(degraded, degrade(images, always, random()))
    assert degraded.abs().max() <= 1
    error = (degraded - images).abs().mean(dim=(1, 2, 3))
    assert (error > 1e-3).all()
    assert (error < 0.1).all()
    assert torch.pdist(degraded.flatten(1)).min() > 0  # each in its own way
    some = degrade(images, Augmentation(degrade=0.5), random())
    touched = (some != images).any(dim=(1, 2, 3))
    assert torch.equal(some[~touched], images[~touched])
    assert 3 <= int(touched.sum()) <= 13


def test_generated_images_alone_are_degraded(photos: Photos) -> None:
    def batch(degraded: float) -> Batch:
        augmentation = Augmentation(flip=0.0, degrade=degraded)
        settings = DataRecipe(generator_share=0.5, augmentation=augmentation)
        return Mixture(settings, 4, 0, 16, photos, tiny.generator()).batch(0, 0, 1)

    plain, degraded = batch(0.0), batch(1.0)
    changed = (plain.images != degraded.images).any(dim=(1, 2, 3))
    assert changed.tolist() == plain.known.tolist() == [True, True, False, False]
    assert torch.equal(plain.latents, degraded.latents)


def test_flip_mirrors() -> None:
    images = torch.rand(3, 3, 8, 8, generator=random())
    assert torch.equal(augment(images, Augmentation(flip=1.0), random()), images.flip(3))


def test_jitter_moves_a_little_and_keeps_plain_pictures() -> None:
    jitter = Augmentation(flip=0.0, jitter=1.0)
    plain = torch.full((4, 3, 32, 32), 0.3)
    assert torch.allclose(augment(plain, jitter, random()), plain, atol=1e-6)
    ramp = torch.linspace(-1, 1, 64).expand(4, 3, 64, 64).contiguous()
    moved = augment(ramp, jitter, random())
    difference = (moved - ramp).abs().amax(dim=(1, 2, 3))
    assert (difference > 1e-3).all()
    assert (difference < 0.3).all()


def test_colour_changes_levels_but_not_shapes() -> None:
    images = torch.zeros(4, 3, 8, 8)
    images[:, :, :, 4:] = 0.5
    changed = augment(images, Augmentation(flip=0.0, colour=1.0), random())
    assert not torch.allclose(changed, images, atol=1e-2)
    assert changed.abs().max() <= 1
    assert torch.allclose(changed[:, :, :, :4], changed[:, :, :1, :1].expand(-1, -1, 8, 4))
    assert (changed[:, :, 0, 7] > changed[:, :, 0, 0]).all()


def test_occluders_cover_a_part_of_some_images() -> None:
    images = torch.rand(64, 3, 32, 32, generator=random()) * 2 - 1
    settings = Augmentation(occluders=0.5, max_occluders=2)
    result = occlude(images, settings, random())
    covered = ((result - images).abs().amax(dim=1) > 0.02).float().mean(dim=(1, 2))
    touched = covered > 0
    assert 20 <= int(touched.sum()) <= 44
    assert 0.03 < float(covered[touched].mean()) < 0.6
    assert result.abs().max() <= 1
