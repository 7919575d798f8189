"""Training SDIC: DIPN and DICN behind a frozen encoder and generator, by the loss of eq. 9."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sdic.generators.base import Generator
from sdic.training.recipe import Losses
from sdic.training.task import Batch, Phase
from sdic.training.tasks.common import Judges, check_losses, image_losses, judge, total

LOSSES = ("mse", "perceptual", "identity", "edit_latents", "edit_features")


@dataclass(frozen=True)
class _Compensated:
    """Both passes over the images: before (w, F, R0) and after compensation (w*, F*, R)."""

    latents: Tensor
    features: Tensor
    initial: Tensor
    new_latents: Tensor
    new_features: Tensor
    result: Tensor


class CompensationTask:
    """DIPN and DICN trained together; obeys `Task`.

    Args:
        generator: frozen.
        encoder: images [N,3,H,W] to w+ [N,S,512], frozen.
        dipn: (x, R0) -> D.
        dicn: (D, F, w) -> (F*, w*).
        weights: of the losses `LOSSES`.
        judges: networks of the perceptual and identity losses.
        size: side of the images.
    """

    skips_parameters = False

    def __init__(
        self,
        generator: Generator,
        encoder: nn.Module,
        dipn: nn.Module,
        dicn: nn.Module,
        weights: Losses,
        judges: Judges,
        size: int = 256,
    ) -> None:
        check_losses(weights, LOSSES, "compensation")
        self.generator, self.encoder = generator, encoder
        self.weights, self.judges, self.size = weights, judges, size
        self.networks: dict[str, nn.Module] = {"dipn": dipn, "dicn": dicn}

    def frozen(self) -> list[nn.Module]:
        """Generator, encoder and judges."""
        return [self.generator, self.encoder, *self.judges.networks()]

    def phases(self) -> list[Phase]:
        """One step for both networks."""
        return [Phase("compensation", ("dipn", "dicn"))]

    def step(self, phase: str, batch: Batch, step: int) -> dict[str, Tensor]:
        """Eq. 9: reconstruction (eq. 7) and closeness to w and F (eq. 8)."""
        done = self._compensate(batch.images)
        losses = image_losses(batch.images, done.result, self.judges)
        if self.weights.edit_latents:
            losses["edit_latents"] = (done.new_latents - done.latents).abs().mean()
        if self.weights.edit_features:
            losses["edit_features"] = (done.new_features - done.features).abs().mean()
        return total(losses, self.weights)

    def sample_grid(self, batch: Batch) -> Tensor:
        """Rows of photo, initial reconstruction R0 and final reconstruction R."""
        done = self._compensate(batch.images)
        return torch.stack((batch.images, done.initial, done.result), dim=1)

    def validate(self, images: Tensor) -> dict[str, Tensor]:
        """PSNR, what the judges say, and the PSNR before compensation."""
        done = self._compensate(images)
        before = judge(images, done.initial, Judges())
        return judge(images, done.result, self.judges) | {"initial_psnr": before["psnr"]}

    def _compensate(self, images: Tensor) -> _Compensated:
        with torch.no_grad():
            latents = self.encoder(images).float()
            features = self.generator.to_features(latents).float()
            initial = self.generator.from_features(features, latents, self.size)
            initial = initial.float().clamp(-1, 1)
        discrepancy = self.networks["dipn"](images, initial)
        new_features, new_latents = self.networks["dicn"](discrepancy, features, latents)
        new_features, new_latents = new_features.float(), new_latents.float()
        result = self.generator.from_features(new_features, new_latents, self.size).float()
        return _Compensated(latents, features, initial, new_latents, new_features, result)
