"""Training SDIC for its edits: DIPN, DICN and the transfer together, behind a frozen encoder.

Photos teach fidelity: their reconstruction is judged as in `compensation`. Generated images teach
edits: their edited result is judged against the true image after the edit, so the compensation
learns a form that can be carried over, and the transfer learns to carry it. A photo has no true
edit, but it should change as its plain edit does, which the encoder can read: the loss `change`
teaches the transfer that.
"""

from __future__ import annotations

import hashlib
from typing import cast

import torch
from torch import Tensor, nn

from sdic.editing import library
from sdic.errors import TrainingError
from sdic.generators.base import Generator
from sdic.images import to_uint8
from sdic.losses import Compensation, JointLoss
from sdic.methods.sdic import build_compensation, build_transfer, compensate
from sdic.metrics.pixels import psnr
from sdic.training.data import seeded
from sdic.training.edited_pairs import EditSampler, random_latents
from sdic.training.judges import joint_loss
from sdic.training.recipe import Losses, Recipe
from sdic.training.task import Batch, Phase
from sdic.training.tasks import TaskKind
from sdic.training.tasks.common import check_losses, judge, trained_encoder
from sdic.training.tasks.compensation import LOSSES as PHOTO_LOSSES
from sdic.weights import exported

LOSSES = (*PHOTO_LOSSES, "change")
NOTHING = 1.0  # squared distance in w+ that the encoder reads into images which hardly differ


class EditingTask:
    """DIPN, DICN and a transfer (`methods.sdic.carry_over`) trained together; obeys `Task`.

    Args:
        generator: frozen.
        encoder: images [N,3,H,W] to w+ [N,S,512], frozen.
        networks: "dipn", "dicn" and "transfer".
        weights: of the losses `LOSSES`.
        joint: the joint loss of the same weights.
        sampler: draws the edits of a validation, where no truth is known.
        perturbation: of the codes of generated images, see `recipe.Edits`.
        size: side of the images.
    """

    skips_parameters = True  # a batch of photos alone leaves the transfer out

    def __init__(
        self,
        generator: Generator,
        encoder: nn.Module,
        networks: dict[str, nn.Module],
        weights: Losses,
        joint: JointLoss,
        sampler: EditSampler,
        perturbation: float = 0.0,
        size: int = 256,
    ) -> None:
        check_losses(weights, LOSSES, "editing")
        self.generator, self.encoder, self.networks = generator, encoder, networks
        self.weights, self.joint, self.sampler = weights, joint, sampler
        self.perturbation, self.size = perturbation, size

    def frozen(self) -> list[nn.Module]:
        """Generator, encoder and the networks of the losses."""
        return [self.generator, self.encoder, self.joint]

    def phases(self) -> list[Phase]:
        """One step for all networks."""
        return [Phase("editing", ("dipn", "dicn", "transfer"))]

    def step(self, phase: str, batch: Batch, step: int) -> dict[str, Tensor]:
        """Eq. 9, against the truth after the edit where it is known."""
        if batch.edit is None or batch.edited is None:
            raise TrainingError("The task 'editing' trains on EditedPairs.")
        known = batch.known[:, None, None]
        edit = torch.where(known, batch.edit, 0.0)
        pair = self._compensate(batch.images, self._codes(batch))
        result = self._edited(pair, edit, batch.known)
        truth = torch.where(known[..., None], batch.edited, batch.images)
        total, terms = self.joint(result, truth, pair)
        if not self.weights.change:
            return {"total": total, **terms}
        extra, change = self._change(batch, pair, result)
        return {"total": total + extra, **terms, "change": change}

    def sample_grid(self, batch: Batch) -> Tensor:
        """Rows of image, reconstruction, truth after the edit, the encoder's edit, and the result.

        Photos have no truth; the encoder's reconstruction before the edit takes its place.
        """
        latents = self._codes(batch)
        pair = self._compensate(batch.images, latents)
        edit, truth = batch.edit, batch.edited
        if edit is None or truth is None:
            edit, truth = self._validation_edit(batch.images, latents), cast(Tensor, pair.initial)
        before = self._image(pair.new_features, pair.new_latents)
        plain: Tensor = self.generator(latents + edit, self.size).float()
        return torch.stack((batch.images, before, truth, plain, self._edited(pair, edit)), dim=1)

    def validate(self, images: Tensor) -> dict[str, Tensor]:
        """Measures of photos before and after an edit.

        `psnr` and the losses are before the edit; `kept` is the part of the encoder's own change
        of the image that the edited result has (1 is all of it), and `edit_psnr` compares that
        result with the photo.
        """
        latents = self.encoder(images).float()
        edit = self._validation_edit(images, latents)
        pair = self._compensate(images, latents)
        before = self._image(pair.new_features, pair.new_latents)
        result = self._edited(pair, edit)
        plain = self.generator(latents + edit, self.size).float()
        wanted, got = plain - cast(Tensor, pair.initial), result - before
        kept = (wanted * got).sum((1, 2, 3)) / wanted.square().sum((1, 2, 3)).clamp_min(1e-8)
        measures = judge(images, before, self.joint)
        return measures | {"kept": kept, "edit_psnr": psnr(images, result.clamp(-1, 1))}

    def _validation_edit(self, images: Tensor, latents: Tensor) -> Tensor:
        """An edit [N,S,512]; that of a photo depends on it alone, so that all runs see the same."""
        edits = []
        for i, pixels in enumerate(to_uint8(images)):
            digest = hashlib.sha256(pixels.tobytes()).hexdigest()
            edits.append(self.sampler.draw(latents[i : i + 1], seeded("validation", digest)))
        return torch.cat(edits)

    def _codes(self, batch: Batch) -> Tensor:
        """The encoder's codes w+ of a batch; those of generated images are perturbed."""
        with torch.no_grad():
            latents: Tensor = self.encoder(batch.images).float()
            random = seeded(batch.seed, "perturbation")
            share = self.perturbation * torch.rand(len(latents), 1, 1, generator=random)
            towards = random_latents(self.generator, len(latents), random)
            return torch.lerp(latents, towards, share.to(latents) * batch.known[:, None, None])

    def _compensate(self, images: Tensor, latents: Tensor) -> Compensation:
        return compensate(self.generator, self.networks, images, latents)

    def _edited(self, pair: Compensation, edit: Tensor, rows: Tensor | None = None) -> Tensor:
        """Results [N,3,H,W]; only the rows [N] bool are edited, or all of them."""
        rows = torch.ones(len(edit), dtype=torch.bool, device=edit.device) if rows is None else rows
        features, latents = pair.new_features.float(), pair.new_latents + edit
        if rows.any():
            with torch.no_grad():
                edited = self.generator.to_features((pair.latents + edit)[rows]).float()
            carried = self.networks["transfer"](features[rows], pair.features[rows], edited)
            features = features.index_put((rows.nonzero()[:, 0],), carried.float())
        return self._image(features, latents)

    def _change(self, batch: Batch, pair: Compensation, result: Tensor) -> tuple[Tensor, Tensor]:
        """What the edits of a batch's photos cost, weighed, and the loss `change` of them alone.

        The transfer alone learns from it, since the encoder is no judge of fidelity. A batch
        without photos has losses of 0.

        Args:
            batch: its edits are those of the photos.
            pair: of the batch.
            result: of the photos, their reconstruction.
        """
        photos = ~batch.known
        if batch.edit is None or not photos.any():
            return result.new_zeros(()), result.new_zeros(())
        edit = batch.edit[photos]
        with torch.no_grad():
            latents = pair.latents[photos] + edit
            edited = self.generator.to_features(latents).float()
            plain = self._image(edited, latents).clamp(-1, 1)
            wanted = self._read(plain) - self._read(cast(Tensor, pair.initial)[photos])
            before = self._read(result[photos])
        compensated, base = pair.new_features[photos].detach(), pair.features[photos]
        carried = self.networks["transfer"](compensated, base, edited).float()
        after = self._image(carried, pair.new_latents[photos].detach() + edit)
        missed = (self._read(after) - before - wanted).square().sum()
        change = missed / (wanted.square().sum() + NOTHING)
        total = self.weights.change * change
        identity = self.joint.identity
        if identity is not None:
            with torch.no_grad():
                person = identity.embed(batch.images[photos])
            distance = identity.distance(identity.embed(after), person)
            total = total + self.weights.identity * distance.mean()
        return total, change.detach()

    def _read(self, images: Tensor) -> Tensor:
        return self.encoder(images).float()  # type: ignore[no-any-return]

    def _image(self, features: Tensor, latents: Tensor) -> Tensor:
        return self.generator.from_features(features, latents, self.size).float()


def edit_sampler(recipe: Recipe, generator: Generator) -> EditSampler:
    """Random edits along the directions that ship for the recipe's generator."""
    directions = library.load_library(recipe.components.generator).values()
    return EditSampler(generator, list(directions), recipe.edits)


def build(recipe: Recipe, generator: Generator) -> EditingTask:
    """The recipe's DIPN, DICN and transfer, which start from its `compensation_weights`."""
    encoder = trained_encoder(recipe, generator)
    networks = build_compensation(recipe.components, generator)
    networks["transfer"] = build_transfer(recipe.components, generator)
    source = recipe.components.compensation_weights
    if source:
        start = exported.read(source)
        for name, network in networks.items():
            if name != "transfer" or name in start.networks:  # a first part has none
                start.fill(network, name)
    return EditingTask(
        generator,
        encoder,
        networks,
        recipe.losses,
        joint_loss(recipe),
        edit_sampler(recipe, generator),
        recipe.edits.perturbation,
        recipe.image_size,
    )


KIND = TaskKind("editing", build, edits=True)
