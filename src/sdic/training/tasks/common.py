"""What the tasks share: their encoder, the check of their losses, the measures of a validation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sdic.errors import TrainingError
from sdic.generators.base import Generator
from sdic.losses import JointLoss
from sdic.methods.e4e import build_encoder
from sdic.metrics.pixels import psnr
from sdic.training.recipe import Losses, Recipe
from sdic.weights import exported


def encoder_of(recipe: Recipe, generator: Generator) -> nn.Module:
    """The recipe's encoder, with the weights that it names or fresh ones.

    Raises:
        SdicError: there is no such encoder, or its weights cannot be read.
    """
    encoder = build_encoder(recipe.components, generator)
    source = recipe.components.encoder_weights
    return exported.read(source).fill(encoder, "encoder") if source else encoder


def trained_encoder(recipe: Recipe, generator: Generator) -> nn.Module:
    """The recipe's encoder, trained before and frozen.

    Raises:
        TrainingError: the recipe names no weights for it.
        SdicError: see `encoder_of`.
    """
    if not recipe.components.encoder_weights:
        raise TrainingError(
            "Compensation stands on a trained encoder; name its file in "
            "components.encoder_weights (made by `sdic train export`)."
        )
    return encoder_of(recipe, generator).eval().requires_grad_(False)


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
