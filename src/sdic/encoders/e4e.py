"""e4e: an encoder for editing (Tov 2021, arXiv 2102.02766).

One w for the whole code plus a small offset for each further style row, so that the code stays
near W, where edits work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.encoders.irse import IRSE50, IRSE50_STAGES
from sdic.encoders.layers import EqualizedLinear
from sdic.errors import InputError
from sdic.generators.base import LATENT_DIM


class StyleHead(nn.Module):
    """A feature map to one style vector: 3x3 convolutions of stride 2 down to 1x1, then linear.

    Args:
        channels: channels of the map.
        side: side of the map for images of 256x256; a power of two.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.convs = nn.Sequential()
        in_chs = channels
        for _ in range(int(math.log2(side))):
            self.convs.append(nn.Conv2d(in_chs, LATENT_DIM, 3, 2, 1))
            self.convs.append(nn.LeakyReLU(0.01, inplace=True))
            in_chs = LATENT_DIM
        self.linear = EqualizedLinear(LATENT_DIM, LATENT_DIM)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N,C,side,side] to [N,512]."""
        return self.linear(self.convs(x).flatten(1))  # type: ignore[no-any-return]


class E4EEncoder(nn.Module):
    """Images [N,3,256,256] in [-1,1] to latents w+ [N,S,512].

    Head 0 gives w from the coarsest map; head i gives the offset of row i from the map of its
    level. Rows 1 to 2 are coarse, 3 to 6 middle, the rest fine, as in the paper.

    Args:
        num_styles: rows S of the code.
        first_middle: first row that is read from the 32x32 map.
        first_fine: first row that is read from the 64x64 map.
        stages: stages of the trunk, as `IRSE50` takes them.

    Attributes:
        mean_latent: [S,512], added to every code.
        stage: number of rows after the first that have an offset (progressive training); in the
            state dict, as "stage", where it is not all of them.
    """

    OPTIONAL_KEYS = ("stage",)  # published files have none; see `weights.checkpoints.load_strict`

    def __init__(
        self,
        num_styles: int = 18,
        first_middle: int = 3,
        first_fine: int = 7,
        stages: Sequence[tuple[int, int]] = IRSE50_STAGES,
    ) -> None:
        super().__init__()
        self.num_styles = num_styles
        self.first_middle = first_middle
        self.first_fine = first_fine
        self.stage = num_styles - 1
        self.trunk = IRSE50(tuple(stages))
        c1, c2, c3 = self.trunk.out_chs
        self.lateral2 = nn.Conv2d(c2, c3, 1)
        self.lateral1 = nn.Conv2d(c1, c3, 1)
        sides = [
            16 if row < first_middle else 32 if row < first_fine else 64
            for row in range(num_styles)
        ]
        self.styles = nn.ModuleList(StyleHead(c3, side) for side in sides)
        self.mean_latent = nn.Buffer(torch.zeros(num_styles, LATENT_DIM))

    def set_stage(self, stage: int) -> None:
        """Progressive training: give only rows 1 to `stage` an offset; S-1 is all of them.

        Raises:
            InputError: stage is not in 0..S-1.
        """
        if not 0 <= stage < self.num_styles:
            raise InputError(
                f"Stage {stage} was asked for; the encoder has stages 0 to {self.num_styles - 1}."
            )
        self.stage = stage

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.stage < self.num_styles - 1:
            destination[prefix + "stage"] = torch.tensor(self.stage)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        stage = state_dict.pop(prefix + "stage", torch.tensor(self.num_styles - 1))
        self.set_stage(-1 if stage.is_floating_point() or stage.numel() != 1 else int(stage))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N,3,H,W] in [-1,1] to latents w+ [N,S,512]; H and W are meant to be 256."""
        w, offsets = self.codes(images)
        latents = w[:, None] + torch.cat((torch.zeros_like(w)[:, None], offsets), dim=1)
        return latents + self.mean_latent

    def codes(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The parts of a code, which the losses of e4e judge one by one.

        Returns:
            w [N,512], relative to the mean latent, and the offsets [N,S-1,512] of rows 1 to S-1
            from w; rows beyond `stage` have offset zero.
        """
        c1, c2, c3 = self.trunk(images)
        w = self.styles[0](c3)
        p2 = p1 = c3
        if self.stage >= self.first_middle:
            p2 = _upsample_add(c3, self.lateral2(c2))
        if self.stage >= self.first_fine:
            p1 = _upsample_add(p2, self.lateral1(c1))
        offsets = w.new_zeros(len(w), self.num_styles - 1, LATENT_DIM)
        rows = []
        for row in range(1, self.stage + 1):
            level = c3 if row < self.first_middle else p2 if row < self.first_fine else p1
            rows.append(self.styles[row](level))
        if not rows:
            return w, offsets
        return w, torch.cat((torch.stack(rows, dim=1), offsets[:, self.stage :]), dim=1)


def _upsample_add(coarse: Tensor, fine: Tensor) -> Tensor:
    size = fine.shape[-2:]
    return nnf.interpolate(coarse, size=size, mode="bilinear", align_corners=True) + fine
