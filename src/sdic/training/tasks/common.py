"""What the tasks share: losses between two images, and the PSNR of a validation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sdic.errors import TrainingError
from sdic.training.recipe import Losses


@dataclass(frozen=True)
class Judges:
    """Frozen networks that compare images; None where the recipe does not ask for one.

    Attributes:
        perceptual: two images [N,3,H,W] in [-1,1] -> distance [N].
        identity: images [N,3,H,W] in [-1,1] -> unit features [N,D].
    """

    perceptual: nn.Module | None = None
    identity: nn.Module | None = None

    def networks(self) -> list[nn.Module]:
        """Those that are there."""
        return [network for network in (self.perceptual, self.identity) if network is not None]


def check_losses(weights: Losses, known: Sequence[str], task: str) -> None:
    """Refuse a recipe that weighs a loss which the task does not have, or none at all.

    Raises:
        TrainingError: as said.
    """
    asked = [name for name, weight in dataclasses.asdict(weights).items() if weight]
    foreign = [name for name in asked if name not in known]
    if foreign or not asked:
        wrong = f"losses.{foreign[0]} is no loss of it" if foreign else "all losses weigh 0"
        raise TrainingError(
            f"The recipe trains the task '{task}', but {wrong}; it has: {', '.join(known)}."
        )


def image_losses(images: Tensor, results: Tensor, judges: Judges) -> dict[str, Tensor]:
    """The reconstruction losses of eq. 7 that the judges allow, unweighted, each a scalar."""
    results = results.float()
    losses = {"mse": (results - images).square().mean()}
    if judges.perceptual is not None:
        losses["perceptual"] = judges.perceptual(results, images).float().mean()
    if judges.identity is not None:
        with torch.no_grad():
            wanted = judges.identity(images).float()
        cosine = (judges.identity(results).float() * wanted).sum(dim=1)
        losses["identity"] = 1 - cosine.mean()
    return losses


def total(losses: dict[str, Tensor], weights: Losses) -> dict[str, Tensor]:
    """The weighted sum as "total", then the losses themselves."""
    weighed = [getattr(weights, name) * loss for name, loss in losses.items()]
    return {"total": torch.stack(weighed).sum(), **losses}


def psnr(images: Tensor, results: Tensor) -> Tensor:
    """Peak signal-to-noise ratio [N] in dB of images in [-1,1]; results are clamped to that."""
    error = (results.float().clamp(-1, 1) - images).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(4 / error.clamp_min(1e-12))


def judge(images: Tensor, results: Tensor, judges: Judges) -> dict[str, Tensor]:
    """Measures [N] of results against images: PSNR, and what the judges say."""
    results = results.float().clamp(-1, 1)
    measures = {"psnr": psnr(images, results)}
    if judges.perceptual is not None:
        measures["perceptual"] = judges.perceptual(results, images).float()
    if judges.identity is not None:
        measures["identity"] = (
            (judges.identity(results) * judges.identity(images)).sum(dim=1).float()
        )
    return measures
