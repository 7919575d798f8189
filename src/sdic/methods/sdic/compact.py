"""SDIC's two networks in a form that a CPU can train and run: the embedded default.

They keep the roles, the order and the signatures of the paper's DIPN and DICN, and change what was
measured to hold fidelity down (docs/results/sdic.md):

- The discrepancy D is a map of features at the resolution of F, where the paper squeezes it into
  three channels at 256x256.
- The compensation of F is predicted in the Haar domain. The mobile generator reads its
  512x64x64 map as four bands of a 128x128x128 map, so the last layers work there, where
  neighbouring pixels share weights, and a Haar transform carries the result to F.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.generators.base import LATENT_DIM
from sdic.generators.mobile import haar, inverse_haar

SLOPE = 0.2


def start_at_zero(layer: nn.Linear | nn.Conv2d) -> None:
    """Weights and bias of zeros."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class Residual(nn.Module):
    """Two 3x3 convolutions around a leaky ReLU, added to their input; starts as the identity."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        start_at_zero(self.conv2)

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,C,H,W]."""
        y = self.conv1(nnf.leaky_relu(x, SLOPE))
        out: Tensor = x + self.conv2(nnf.leaky_relu(y, SLOPE))
        return out


class CompactDIPN(nn.Module):
    """Discrepancy information prediction: (x, R0) -> D.

    Both images are folded into the channels of a map of F's resolution (a 4x4 cell of pixels per
    position), next to their difference.
    """

    def __init__(self, channels: int = 256, blocks: int = 3, cell: int = 4) -> None:
        super().__init__()
        self.cell = cell
        self.stem = nn.Conv2d(6 * cell * cell, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(Residual(channels) for _ in range(blocks)))

    def forward(self, images: Tensor, reconstruction: Tensor) -> Tensor:
        """Images x and initial reconstruction R0, [N,3,256,256] each -> D [N,C,64,64]."""
        pair = torch.cat((images, images - reconstruction), dim=1)
        return self.blocks(self.stem(nnf.pixel_unshuffle(pair, self.cell)))  # type: ignore[no-any-return]


class CompactDICN(nn.Module):
    """Discrepancy information compensation: (D, F, w) -> (F*, w*).

    F* = F + phi(D, F) scaled by the styles (eq. 5 without its gate), and
    w* = gamma * w + theta (eq. 3 and 4) from the pooled discrepancy.
    """

    def __init__(
        self,
        num_styles: int,
        feature_channels: int = 512,
        channels: int = 256,
        blocks: int = 2,
        fine_channels: int = 128,
        fine_blocks: int = 2,
        affine_rank: int = 32,
    ) -> None:
        super().__init__()
        self.num_styles = num_styles
        self.from_features = nn.Conv2d(feature_channels, channels, 1)
        self.blocks = nn.Sequential(*(Residual(channels) for _ in range(blocks)))
        self.to_fine = nn.Conv2d(channels, 4 * fine_channels, 1)
        self.fine_blocks = nn.Sequential(*(Residual(fine_channels) for _ in range(fine_blocks)))
        self.to_bands = nn.Conv2d(fine_channels, feature_channels // 4, 3, padding=1)
        self.style_scale = nn.Linear(LATENT_DIM, feature_channels)
        # A full matrix would hold half of all weights, for changes of w that are small and alike.
        to_affine = nn.Linear(affine_rank, 2 * num_styles * LATENT_DIM)
        self.to_affine = nn.Sequential(
            nn.Linear(channels, 256),
            nn.SiLU(),
            nn.Linear(256, affine_rank, bias=False),
            to_affine,
        )
        start_at_zero(self.style_scale)
        start_at_zero(to_affine)

    def forward(
        self, discrepancy: Tensor, features: Tensor, latents: Tensor
    ) -> tuple[Tensor, Tensor]:
        """D [N,C,64,64], F [N,512,64,64], w [N,S,512] -> F* and w* of the shapes of F and w."""
        x = self.blocks(discrepancy + self.from_features(features))
        fine = self.fine_blocks(inverse_haar(self.to_fine(x)))
        phi = haar(self.to_bands(nnf.leaky_relu(fine, SLOPE)))
        phi = phi * (1 + self.style_scale(latents.mean(dim=1)))[:, :, None, None]
        affine = self.to_affine(x.mean(dim=(2, 3))).view(-1, 2, self.num_styles, LATENT_DIM)
        gamma, theta = affine.unbind(1)
        return features + phi, (1 + gamma) * latents + theta
