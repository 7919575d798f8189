"""A compact e4e-like encoder: EfficientNet-lite0, one w plus a delta for each style row.

The structure is e4e's (Tov et al. 2021): one w for all rows and small deltas that a regulariser
keeps small, so that codes stay where edits work. The trunk costs 0.5 GMAC at 256x256, where e4e's
IR-SE50 costs 72.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.encoders.efficientnet import STAGES, EfficientNetLite0
from sdic.encoders.layers import resize_area
from sdic.generators.base import LATENT_DIM

# Trunk stages that the heads read, with the channels each is reduced to and the side of its grid.
TAPS = ((2, 32, 8), (4, 64, 4), (6, 128, 4))
DELTA_HIDDEN = 256
# The heads read thousands of values; unscaled, one step of Adam would move w across all of W.
HEAD_GAIN = 0.1


class CompactEncoder(nn.Module):
    """Images [N,3,256,256] in [-1,1] -> latents w+ [N,S,512]."""

    def __init__(self, num_styles: int, mean_latent: Tensor | None = None) -> None:
        super().__init__()
        self.num_styles = num_styles
        self.trunk = EfficientNetLite0(head=False)
        self.reduce = nn.ModuleList(nn.Conv2d(STAGES[i][4], chs, 1) for i, chs, _ in TAPS)
        width = sum(chs * side * side for _, chs, side in TAPS)
        self.to_w = nn.Linear(width, LATENT_DIM)
        self.to_hidden = nn.Linear(width, DELTA_HIDDEN)
        self.to_deltas = nn.Linear(DELTA_HIDDEN, num_styles * LATENT_DIM)
        self.mean_latent = nn.Buffer(
            torch.zeros(LATENT_DIM) if mean_latent is None else mean_latent.clone()
        )
        nn.init.zeros_(self.to_w.weight)
        nn.init.zeros_(self.to_w.bias)
        nn.init.zeros_(self.to_deltas.weight)
        nn.init.zeros_(self.to_deltas.bias)

    def train(self, mode: bool = True) -> CompactEncoder:
        """Training mode, but for the trunk's batch norms: batches are too small to move them."""
        super().train(mode)
        self.trunk.eval()
        return self

    def taps(self, images: Tensor) -> list[Tensor]:
        """What the heads read of the trunk: pooled maps of images [N,3,256,256] in [-1,1]."""
        maps = self.trunk.stages(images)
        return [resize_area(maps[i], side) for i, _, side in TAPS]

    def embed(self, taps: list[Tensor]) -> Tensor:
        """The heads' common input, made of `taps`."""
        reduced = [reduce(tap) for reduce, tap in zip(self.reduce, taps, strict=True)]
        x = torch.cat([part.flatten(1) for part in reduced], dim=1)
        return nnf.silu(HEAD_GAIN * nnf.layer_norm(x, x.shape[1:]))

    def base_and_deltas(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The common w [N,512] and the deltas [N,S,512] that are added to it, row by row."""
        x = self.embed(self.taps(images))
        w = self.mean_latent + self.to_w(x)
        deltas = self.to_deltas(nnf.silu(self.to_hidden(x)))
        return w, deltas.view(-1, self.num_styles, LATENT_DIM)

    def forward(self, images: Tensor) -> Tensor:
        """Latents w+ [N,S,512] of images [N,3,256,256] in [-1,1]."""
        w, deltas = self.base_and_deltas(images)
        return w[:, None] + deltas
