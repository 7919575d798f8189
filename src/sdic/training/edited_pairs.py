"""Faces with an edit: generated ones, whose truth after the edit is known, and photos without it.

The truth is what the generator makes of the true w, moved by the same step. Both images get the
same colours, jitter, occluders, noise and JPEG, so what the generator could not have made has to
stay through the edit. Like all training data a batch is a function of (seed, index, rank).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from sdic.editing.direction import Direction
from sdic.generators.base import LATENT_DIM, Generator
from sdic.training.augmentation import Cover, augment, degrade, draw_cover
from sdic.training.data import Faces, Mixture, Photos, full_precision, seeded
from sdic.training.recipe import Augmentation, DataRecipe, Edits
from sdic.training.task import Batch

LEAST = 0.25  # of an edit's full strength: weaker ones teach next to nothing


class EditSampler:
    """Random edits of a generator, as steps of its w+.

    Args:
        generator: for random w.
        directions: named edits, drawn within their useful range.
        settings: how many of which, and how far.
    """

    def __init__(
        self, generator: Generator, directions: Sequence[Direction], settings: Edits
    ) -> None:
        self.generator = generator
        self.directions = list(directions)
        self.settings = settings

    def draw(self, latents: Tensor, random: torch.Generator) -> Tensor:
        """A step [N,S,512] for each of the latents w+ [N,S,512]."""
        steps = [self._step(latents[i : i + 1], random) for i in range(len(latents))]
        return torch.cat(steps)

    def _step(self, latents: Tensor, random: torch.Generator) -> Tensor:
        share, side, part = torch.rand(3, generator=random).tolist()
        part = LEAST + (1 - LEAST) * part
        if self.directions and share < self.settings.library:
            index = int(torch.randint(len(self.directions), (), generator=random))
            direction = self.directions[index]
            end = direction.strength_range[round(side)]
            return direction.apply(latents, part * end) - latents
        towards = random_latents(self.generator, 1, random)
        step: Tensor = self.settings.difference * part * (towards - latents)
        return step


def random_latents(generator: Generator, count: int, random: torch.Generator) -> Tensor:
    """w+ [N,S,512] of random z."""
    mean = generator.mean_latent
    with full_precision(mean.device):
        z = torch.randn(count, LATENT_DIM, generator=random)
        return generator.broadcast(generator.mapping(z.to(mean)))


class EditedPairs:
    """Batches of images with an edit and, of generated ones, the image after it.

    Args:
        settings: share of generated images, truncation, augmentation; generated images are not
            mirrored, and they alone are degraded and get occluders, some of them pieces of photos.
        batch_size: N.
        seed: of all batches.
        size: side of the images.
        generator: makes images.
        sampler: draws the edits.
        photos: None where all images are generated and no photo lends pieces.
        faces: see `Mixture`.

    Raises:
        TrainingError: photos are wanted and missing.
    """

    def __init__(
        self,
        settings: DataRecipe,
        batch_size: int,
        seed: int,
        size: int,
        generator: Generator,
        sampler: EditSampler,
        photos: Photos | None = None,
        faces: Faces | None = None,
    ) -> None:
        self.mixture = Mixture(
            dataclasses.replace(settings, augmentation=_bare(settings.augmentation)),
            batch_size,
            seed,
            size,
            photos,
            generator,
            faces,
        )
        self.settings, self.size, self.seed = settings, size, seed
        # A mirrored face turns the other way, and its edit with it.
        self._alike = dataclasses.replace(settings.augmentation, flip=0.0)
        self.generator, self.sampler, self.photos = generator, sampler, photos

    @torch.no_grad()
    def batch(self, index: int, rank: int = 0, world_size: int = 1) -> Batch:
        """Micro-batch `index` of process `rank`; see `Batch`."""
        device = self.generator.mean_latent.device
        plain = self.mixture.batch(index, rank, world_size).to(device)
        random = seeded(plain.seed, "edits")
        count = int(plain.known.sum())
        latents = self.generator.broadcast(plain.latents).clone()
        # The step of a photo may depend on its w, which is not known: any other w stands in.
        latents[count:] = random_latents(self.generator, len(latents) - count, random)
        with full_precision(latents.device):
            edit = self.sampler.draw(latents, random)
        images, edited = plain.images.clone(), plain.images.clone()
        if count:
            made = self.generator((latents + edit)[:count], self.size)
            with full_precision(latents.device):
                made = made.float().clamp(-1, 1)
                cover = self._cover(images[:count], random)
                for pictures, new in ((images, images[:count]), (edited, made)):
                    same = seeded(plain.seed, "alike")
                    alike = degrade(augment(new, self._alike, same), self._alike, same)
                    pictures[:count] = cover.over(alike)
        return Batch(images, plain.latents, plain.known, plain.seed, edit, edited)

    def _cover(self, images: Tensor, random: torch.Generator) -> Cover:
        donors = images
        if self.photos is not None:
            chosen = torch.randint(len(self.photos), (len(images),), generator=random).tolist()
            donors = self.photos[chosen].to(images)
        return draw_cover(donors, self.settings.augmentation, random)


def _bare(augmentation: Augmentation) -> Augmentation:
    return dataclasses.replace(augmentation, occluders=0.0, degrade=0.0)
