"""Tiny real components: a whole SDIC that trains in milliseconds at 64x64."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdic.generators.mobile import MobileStyleGAN
from sdic.losses import JointLoss, LossWeights
from sdic.methods.sdic.compact import CompactDICN, CompactDIPN
from sdic.training import recipe as recipes
from sdic.training.data import Photos
from tiny import tiny_generator

SIZE = 64


class TinyEncoder(nn.Module):
    """The mean colour of an image to w+."""

    def __init__(self, num_styles: int) -> None:
        super().__init__()
        self.num_styles = num_styles
        self.stage = 0
        self.linear = nn.Linear(3, 512)

    def set_stage(self, stage: int) -> None:
        self.stage = stage

    def forward(self, images: Tensor) -> Tensor:
        w = self.linear(images.mean(dim=(2, 3)))
        return w[:, None].expand(-1, self.num_styles, -1)


def generator() -> MobileStyleGAN:
    """F is 16x16, as DIPN's cells of 4 want it for 64x64 images."""
    return tiny_generator(channels=(16, 16, 16, 16, 8), feature_block=1, deep=True)


def photos(count: int = 6) -> Photos:
    """Pictures of two plain colours each."""
    colours = np.random.default_rng(0).integers(40, 215, (count, 3, 2, 1, 1), np.uint8)
    halves = np.broadcast_to(colours, (count, 3, 2, SIZE // 2, SIZE))
    return Photos(halves.reshape(count, 3, SIZE, SIZE))


def networks(tiny: MobileStyleGAN) -> tuple[TinyEncoder, CompactDIPN, CompactDICN]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return (
            TinyEncoder(tiny.num_styles),
            CompactDIPN(8, 1),
            CompactDICN(tiny.num_styles, 16, 8, 1, 4, 1),
        )


def recipe(task: str, **sections: Any) -> recipes.Recipe:
    table: dict[str, Any] = {
        "task": task,
        "steps": 4,
        "image_size": SIZE,
        "precision": "fp32",
        "data": {"generator_share": 1.0},
        "log": {"grid": 2, "scalars": 1},
    }
    return recipes.from_dict(table | sections)


def joint(recipe: recipes.Recipe) -> JointLoss:
    losses = recipe.losses
    return JointLoss(
        LossWeights(losses.l2, 0.0, 0.0, losses.edit_latents, losses.edit_features, discrepancy=0.0)
    )
