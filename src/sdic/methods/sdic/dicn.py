"""DICN, the discrepancy information compensation network of SDIC (Zhang 2024).

The discrepancy map D compensates both the latents w, by an affine transformation (eq. 3 and 4), and
the generator's features F, by spatial attention fusion (eq. 5).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sdic.encoders.layers import (
    ConvNorm,
    EqualizedConv2d,
    ScaledLeakyReLU,
    resize_area,
    resize_bilinear,
)
from sdic.errors import InputError
from sdic.generators.base import LATENT_DIM

DICN_PRESETS = ("paper", "published")
IMAGE_SIZE = 256
CODE_MAP_CHANNELS = 18  # of the published map that codes are read from, for any number of rows
CODE_MAP_SIZE = 64


class AffineLatents(nn.Module):
    """Eq. 3 and 4 as the paper has them: w* = gamma * w + theta, from D by two 3x3 convolutions.

    The paper does not say how maps become rows of 512: here each of S maps is averaged to 16x32.
    It starts as the identity, gamma = 1 and theta = 0.
    """

    def __init__(self, num_styles: int) -> None:
        super().__init__()
        self.f_g = _code_convs(num_styles, start=1.0)
        self.f_t = _code_convs(num_styles, start=0.0)

    def forward(self, discrepancy: Tensor, latents: Tensor) -> Tensor:
        """D [N,3,H,W] and w [N,S,512] to w* [N,S,512]."""
        gamma = resize_area(self.f_g(discrepancy), (16, LATENT_DIM // 16)).flatten(2)
        theta = resize_area(self.f_t(discrepancy), (16, LATENT_DIM // 16)).flatten(2)
        return gamma * latents + theta


def _code_convs(num_styles: int, start: float) -> nn.Sequential:
    last = nn.Conv2d(num_styles, num_styles, 3, padding=1)
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, start)  # type: ignore[arg-type]
    return nn.Sequential(nn.Conv2d(3, num_styles, 3, padding=1), nn.LeakyReLU(0.01), last)


class PublishedAffineLatents(nn.Module):
    """Eq. 3 and 4 as published: w* = gamma * w + w + theta, gamma and theta from one shared trunk.

    The map of codes is resized to 64x64 and read as rows of 512; 1-D convolutions mix the rows.
    """

    def __init__(self, num_styles: int) -> None:
        super().__init__()
        rows = CODE_MAP_CHANNELS * CODE_MAP_SIZE**2 // LATENT_DIM
        self.code_map = nn.Sequential(
            EqualizedConv2d(3, CODE_MAP_CHANNELS, 3, padding=1),
            ScaledLeakyReLU(),
            EqualizedConv2d(CODE_MAP_CHANNELS, CODE_MAP_CHANNELS, 3, padding=1),
        )
        self.rows = nn.Sequential(
            nn.Conv1d(rows, rows // 2, 1),
            nn.BatchNorm1d(rows // 2),
            nn.LeakyReLU(0.01),
            nn.Conv1d(rows // 2, num_styles, 1),
        )
        self.f_g = _row_convs(num_styles)
        self.f_t = _row_convs(num_styles)

    def forward(self, discrepancy: Tensor, latents: Tensor) -> Tensor:
        """D [N,3,H,W] and w [N,S,512] to w* [N,S,512]."""
        code_map = resize_bilinear(self.code_map(discrepancy), CODE_MAP_SIZE)
        rows = self.rows(code_map.reshape(len(code_map), -1, LATENT_DIM))
        gamma, theta = self.f_g(rows), self.f_t(rows)
        return gamma * latents + latents + theta  # type: ignore[no-any-return]


def _row_convs(num_styles: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(num_styles, num_styles, 3, padding=1),
        nn.BatchNorm1d(num_styles),
        nn.LeakyReLU(0.01),
        nn.Conv1d(num_styles, num_styles, 1, bias=False),
    )


class FeatureAttention(nn.Module):
    """Eq. 5: F* = sigmoid(f_c1(F + phi)) * phi + F, with phi = f_c2(D)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.f_c1 = _conv_pair(channels)

    def forward(self, phi: Tensor, features: Tensor) -> Tensor:
        """Maps phi and F [N,C,H,W] to F* [N,C,H,W]."""
        return torch.sigmoid(self.f_c1(features + phi)) * phi + features


class FeatureAffine(nn.Module):
    """Ablation "w/o Att": F* = gamma * F + theta, both read from phi; gamma starts around 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = _conv_pair(channels)
        self.shift = _conv_pair(channels)

    def forward(self, phi: Tensor, features: Tensor) -> Tensor:
        """Maps phi and F [N,C,H,W] to F* [N,C,H,W]."""
        return (1 + self.scale(phi)) * features + self.shift(phi)  # type: ignore[no-any-return]


def _conv_pair(channels: int) -> nn.Sequential:
    return nn.Sequential(
        ConvNorm(channels, channels), nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    )


def _feature_convs(preset: str, feature_shape: tuple[int, int, int]) -> nn.Sequential:
    """f_c2: D to phi. The paper has four 3x3 convolutions, the code five."""
    channels, side, _ = feature_shape
    # Strides of the last three convolutions; the second one always halves.
    strides = {2: (1, 1), 4: (2, 1), 8: (2, 2)}.get(IMAGE_SIZE // side)
    if strides is None:
        raise InputError(
            f"DICN was asked to compensate features of side {side}; it can do 128, 64 and 32."
        )
    stem = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32))
    stem.append(nn.PReLU(32))
    convs = nn.Sequential(stem, ConvNorm(32, 64, stride=2))
    if preset == "published":
        convs.append(nn.Conv2d(64, 64, 3, padding=1, bias=False))
    convs.append(ConvNorm(64, channels, stride=strides[0]))
    convs.append(nn.Conv2d(channels, channels, 3, strides[1], padding=1, bias=False))
    return convs


class DICN(nn.Module):
    """Discrepancy map D, features F and latents w to the compensated F* and w*.

    Args:
        num_styles: rows S of the latents.
        feature_shape: (C, H, W) of F: the generator's `feature_shape`. The paper compensates layer
            7 (64x64); layers 5 (32x32) and 9 (128x128) are its ablation.
        preset: "paper" or "published": f_c2 of four or five convolutions; `AffineLatents` or
            `PublishedAffineLatents`.
        attention: False replaces eq. 5 by an affine transformation (ablation).

    Raises:
        InputError: there is no such preset, or features of this side cannot be compensated.
    """

    def __init__(
        self,
        num_styles: int = 18,
        feature_shape: tuple[int, int, int] = (512, 64, 64),
        preset: str = "paper",
        *,
        attention: bool = True,
    ) -> None:
        super().__init__()
        if preset not in DICN_PRESETS:
            known = ", ".join(DICN_PRESETS)
            raise InputError(f"DICN has no preset '{preset}'; choose one of: {known}.")
        paper = preset == "paper"
        self.affine: nn.Module = (
            AffineLatents(num_styles) if paper else PublishedAffineLatents(num_styles)
        )
        self.f_c2 = _feature_convs(preset, feature_shape)
        channels = feature_shape[0]
        self.fusion: nn.Module = (
            FeatureAttention(channels) if attention else FeatureAffine(channels)
        )

    def forward(
        self, discrepancy: Tensor, features: Tensor, latents: Tensor
    ) -> tuple[Tensor, Tensor]:
        """D [N,3,256,256], F [N,C,H,W] and w [N,S,512] to F* [N,C,H,W] and w* [N,S,512]."""
        enhanced = self.fusion(self.f_c2(discrepancy), features)
        return enhanced, self.affine(discrepancy, latents)
