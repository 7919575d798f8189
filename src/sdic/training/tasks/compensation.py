"""Training SDIC: DIPN and DICN behind a frozen encoder and generator, by the loss of eq. 9."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from sdic.generators.base import Generator
from sdic.losses import Compensation, JointLoss
from sdic.methods.sdic import build_compensation
from sdic.methods.sdic.method import SDIC_PRESETS, SDICPreset, compensate
from sdic.metrics.pixels import psnr
from sdic.training.judges import joint_loss
from sdic.training.recipe import Losses, Recipe
from sdic.training.task import Batch, Phase
from sdic.training.tasks import TaskKind
from sdic.training.tasks.common import check_losses, judge, trained_encoder

LOSSES = ("l2", "perceptual", "identity", "edit_latents", "edit_features", "discrepancy")


class CompensationTask:
    """DIPN and DICN trained together; obeys `Task`.

    Args:
        generator: frozen.
        encoder: images [N,3,H,W] to w+ [N,S,512], frozen.
        dipn: (x, R0) -> D.
        dicn: (D, F, w) -> (F*, w*).
        weights: of the losses `LOSSES`.
        joint: the joint loss of the same weights.
        size: side of the images.
        preset: of the run, see `methods.sdic.SDICPreset`.
    """

    skips_parameters = False

    def __init__(
        self,
        generator: Generator,
        encoder: nn.Module,
        dipn: nn.Module,
        dicn: nn.Module,
        weights: Losses,
        joint: JointLoss,
        size: int = 256,
        preset: SDICPreset = SDIC_PRESETS["paper"],
    ) -> None:
        check_losses(weights, LOSSES, "compensation")
        self.preset = preset
        self.generator, self.encoder = generator, encoder
        self.joint, self.size = joint, size
        self.networks: dict[str, nn.Module] = {"dipn": dipn, "dicn": dicn}

    def frozen(self) -> list[nn.Module]:
        """Generator, encoder and the networks of the losses."""
        return [self.generator, self.encoder, self.joint]

    def phases(self) -> list[Phase]:
        """One step for both networks."""
        return [Phase("compensation", ("dipn", "dicn"))]

    def step(self, phase: str, batch: Batch, step: int) -> dict[str, Tensor]:
        """Eq. 9: reconstruction (eq. 7) and closeness to w and F (eq. 8)."""
        pair, result = self._compensate(batch.images)
        total, terms = self.joint(result, batch.images, pair)
        return {"total": total, **terms}

    def sample_grid(self, batch: Batch) -> Tensor:
        """Rows of photo, initial reconstruction R0 and final reconstruction R."""
        pair, result = self._compensate(batch.images)
        return torch.stack((batch.images, cast(Tensor, pair.initial), result), dim=1)

    def validate(self, images: Tensor) -> dict[str, Tensor]:
        """PSNR and the image losses, and the PSNR before compensation."""
        pair, result = self._compensate(images)
        before = psnr(images, cast(Tensor, pair.initial))
        return judge(images, result, self.joint) | {"initial_psnr": before}

    def _compensate(self, images: Tensor) -> tuple[Compensation, Tensor]:
        """Both passes over the images: codes and features before and after, and R."""
        with torch.no_grad():
            latents = self.encoder(images).float()
        pair = compensate(self.generator, self.networks, images, latents, self.preset)
        result = self.generator.from_features(pair.new_features, pair.new_latents, self.size)
        return pair, result.float()


def build(recipe: Recipe, generator: Generator) -> CompensationTask:
    """The recipe's DIPN and DICN behind its trained encoder."""
    encoder = trained_encoder(recipe, generator)
    networks = build_compensation(recipe.components, generator)
    preset = SDIC_PRESETS["published" if recipe.components.dipn == "published" else "paper"]
    return CompensationTask(
        generator,
        encoder,
        networks["dipn"],
        networks["dicn"],
        recipe.losses,
        joint_loss(recipe),
        recipe.image_size,
        preset,
    )


KIND = TaskKind("compensation", build)
