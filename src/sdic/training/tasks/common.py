"""What the tasks share: the check of their losses, and the measures of a validation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sdic.errors import TrainingError
from sdic.losses import JointLoss
from sdic.metrics.pixels import psnr
from sdic.training.recipe import Losses


def check_losses(weights: Losses, known: Sequence[str], task: str) -> None:
    """Refuse a recipe that weighs a loss which the task does not have, or none at all.

    Raises:
        TrainingError: as said.
    """
    asked = [name for name, weight in weights.weights().items() if weight]
    foreign = [name for name in asked if name not in known]
    if foreign or not asked:
        wrong = f"losses.{foreign[0]} is no loss of it" if foreign else "all losses weigh 0"
        raise TrainingError(
            f"The recipe trains the task '{task}', but {wrong}; it has: {', '.join(known)}."
        )


def judge(images: Tensor, results: Tensor, joint: JointLoss) -> dict[str, Tensor]:
    """Measures [N] of results against images: PSNR, and the losses whose networks are there.

    Results are clamped to [-1,1] first.
    """
    results = results.float().clamp(-1, 1)
    terms = joint.reconstruction(results, joint.target(images))
    return {"psnr": psnr(images, results)} | {f"{name}_loss": term for name, term in terms.items()}
