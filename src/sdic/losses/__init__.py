"""Losses: perceptual, identity, the joint loss of SDIC, and regularisers of latents and noise."""

from sdic.losses.identity import IdentityLoss
from sdic.losses.joint import PRESETS, Compensation, JointLoss, LossWeights, Target
from sdic.losses.perceptual import PerceptualLoss

__all__ = [
    "PRESETS",
    "Compensation",
    "IdentityLoss",
    "JointLoss",
    "LossWeights",
    "PerceptualLoss",
    "Target",
]
