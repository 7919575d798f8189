"""The networks that judge images in training, as a recipe names them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch import nn

from sdic.domains import FACES
from sdic.errors import TrainingError
from sdic.losses import IdentityLoss, JointLoss, LossWeights, PerceptualLoss, perceptual
from sdic.losses.identity import load_arcface
from sdic.losses.moco import load_moco
from sdic.recognition import identity
from sdic.training.recipe import Losses, Recipe
from sdic.weights.checkpoints import read_checkpoint


def joint_loss(recipe: Recipe) -> JointLoss:
    """The losses of images that a recipe weighs, with the networks that they need.

    Raises:
        TrainingError: one of LPIPS' two files is not named.
        InputError, WeightsError: a file is not there, or cannot be read.
    """
    names = {entry.name for entry in dataclasses.fields(LossWeights)}
    wanted = dataclasses.asdict(recipe.losses)
    losses = LossWeights(**{name: value for name, value in wanted.items() if name in names})
    return JointLoss(
        losses,
        _perceptual(recipe.losses) if losses.perceptual else None,
        IdentityLoss(_recogniser(recipe.losses)) if losses.identity else None,
    )


def _perceptual(losses: Losses) -> PerceptualLoss:
    """LPIPS of the recipe's files, or ST-LPIPS."""
    backbone, linear = losses.perceptual_backbone, losses.perceptual_linear
    if not backbone and not linear:
        return perceptual.create()
    if not backbone or not linear:
        raise TrainingError(
            "LPIPS is made of two files; name both of them, in losses.perceptual_backbone and "
            "losses.perceptual_linear."
        )
    return perceptual.load_lpips(Path(backbone), Path(linear))


def _recogniser(losses: Losses) -> nn.Module:
    """ArcFace or MoCo of the recipe's file, or the domain's own."""
    if not losses.identity_weights:
        return identity.create(FACES.recogniser)
    file = Path(losses.identity_weights)
    # MoCo's is a checkpoint of its training; ArcFace's is a bare state dict.
    return load_moco(file) if "state_dict" in read_checkpoint(file) else load_arcface(file)
