"""Letting go of the compensation where an edit changes much.

Eq. 6 adds the change of an edit to F*, compensation and all. Where the edit replaces what is there
(an open mouth by a closed one), the compensation still holds the old mouth and wins. So it is
released there, by as much as the features change:

    F*' = F(edited w) + (1 - m) * (F* - F(w)),   m = 1 - exp(-(r / release)^2)

with r the change of the features at a place, relative to the size of all features, averaged over a
neighbourhood. No change gives m = 0, and release 0 stands for none: both are eq. 6.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as nnf

NEIGHBOURHOOD = 5  # cells of F on each side over which the change is averaged


def released(compensated: Tensor, base: Tensor, edited: Tensor, release: float) -> Tensor:
    """F*' [N,C,H,W] from F*, F(w) and F(edited w); release > 0 is a relative change.

    At a change of `release` the compensation counts 1/e.
    """
    change = (edited - base).square().mean(dim=1, keepdim=True).sqrt()
    relative = change / base.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    border = NEIGHBOURHOOD // 2
    padded = nnf.pad(relative, (border,) * 4, mode="replicate")
    relative = nnf.avg_pool2d(padded, NEIGHBOURHOOD, stride=1)
    kept = torch.exp(-(relative / release).square())
    return edited + kept * (compensated - base)
