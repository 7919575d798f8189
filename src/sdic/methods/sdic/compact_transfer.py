"""A network that carries the compensation over to the edited face.

Eq. 6 adds the compensation F* - F(w) to the edited features as it is, in its old place. But it
belongs to the face as it was: where the edit moves an outline the compensation has to move along,
where it opens a mouth the closed one has to go. HFGI (Wang et al. 2022) aligns its distortion map
with the edited image for the same reason, before it is encoded; here the compensation itself is
aligned, so the inversion is not touched. Trained on generated faces, whose true edit is known
(`training.edited_pairs`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.generators.mobile import haar, inverse_haar
from sdic.methods.sdic.carry_over import relative_change
from sdic.methods.sdic.compact import SLOPE, Residual, start_at_zero

# Relative change of the features at which the network has 1 - 1/e of its say: below the changes of
# any edit that can be seen, above rounding.
SENSITIVITY = 0.15
DILATIONS = (1, 2, 4, 1)  # of the blocks: an outline moves by several cells of F
FLOW_GAIN = 0.1


class CompactTransfer(nn.Module):
    """(F*, F(w), F(edited w)) -> F* of the edited face; obeys `methods.sdic.carry_over`.

    With phi = F* - F(w) and m in [0,1), which grows with the change of the features from 0 on,

        F*' = F(edited w) + (1 - m g) * warp(phi, m f) + m c

    where the network predicts the flow f, the gates g in (0,1), and the correction c. All but the
    prediction of f happens in the Haar domain, as in `CompactDICN`.
    """

    def __init__(
        self, feature_channels: int = 512, channels: int = 128, fine_channels: int = 64
    ) -> None:
        super().__init__()
        bands = feature_channels // 4
        self.from_phi = nn.Conv2d(feature_channels, channels, 1)
        self.from_features = nn.Conv2d(feature_channels, channels, 1)
        self.from_change = nn.Conv2d(feature_channels, channels, 1)
        self.blocks = nn.Sequential(*(Residual(channels, dilation) for dilation in DILATIONS))
        self.to_flow = nn.Conv2d(channels, 2, 3, padding=1)
        self.to_fine = nn.Conv2d(channels, 4 * fine_channels, 1)
        self.from_warped = nn.Conv2d(bands, fine_channels, 1)
        self.fine_blocks = nn.Sequential(*(Residual(fine_channels) for _ in range(2)))
        self.to_gates = nn.Conv2d(fine_channels, bands, 1)
        self.to_correction = nn.Conv2d(fine_channels, bands, 3, padding=1)
        for layer in (self.to_flow, self.to_gates, self.to_correction):
            start_at_zero(layer)

    def forward(self, compensated: Tensor, base: Tensor, edited: Tensor) -> Tensor:
        """F*, F(w) and F(edited w) [N,C,H,W] to F* of the edited face."""
        phi = compensated - base
        amount = 1 - torch.exp(-(relative_change(base, edited) / SENSITIVITY).square())
        x = self.from_phi(phi) + self.from_features(base) + self.from_change(edited - base)
        x = self.blocks(x)
        flow = FLOW_GAIN * amount * self.to_flow(nnf.leaky_relu(x, SLOPE))
        warped = warp(inverse_haar(phi), _doubled(flow))
        fine = self.fine_blocks(inverse_haar(self.to_fine(x)) + self.from_warped(warped))
        fine = nnf.leaky_relu(fine, SLOPE)
        amount = _doubled(amount)
        gates, correction = torch.sigmoid(self.to_gates(fine)), self.to_correction(fine)
        carried = (1 - amount * gates) * warped + amount * correction
        return edited + haar(carried)


def warp(maps: Tensor, flow: Tensor) -> Tensor:
    """Maps [N,C,H,W] read at places moved by flow [N,2,H,W] (x, y; 2 is the whole side)."""
    height, width = maps.shape[2:]
    x = (2 * torch.arange(width, device=maps.device) + 1) / width - 1
    y = (2 * torch.arange(height, device=maps.device) + 1) / height - 1
    still = torch.stack((x.expand(height, -1), y[:, None].expand(-1, width)))
    grid = (flow.float() + still).permute(0, 2, 3, 1)
    warped = nnf.grid_sample(maps.float(), grid, padding_mode="border", align_corners=False)
    return warped.to(maps.dtype)


def _doubled(maps: Tensor) -> Tensor:
    return nnf.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
