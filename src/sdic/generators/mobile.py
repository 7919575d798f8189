"""MobileStyleGAN distilled from StyleGAN2-FFHQ, 1024x1024 (Belousov 2021, arXiv 2104.04767).

The network of the PyPI package `random-face`, written down in PyTorch: a mapping network, and a
synthesis network of depthwise-separable modulated convolutions that doubles the side of its map by
an inverse Haar transform. Demodulation is folded into the weights, so a style only scales channels.
It lives in StyleGAN2-FFHQ's own W space.

The classes take their sizes as arguments, so that tests can build a tiny one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.generators.base import LATENT_DIM, Generator
from sdic.generators.spaces import FFHQ, mobile_layers

# Channels that come out of each block; block i works at side 8 * 2**i.
BLOCK_CHANNELS = (512, 512, 512, 512, 256, 128, 64)
FEATURE_BLOCK = 3  # the block that makes 64x64: its output is F
MAPPING_LAYERS = 8
SLOPE = 0.2


def inverse_haar(x: Tensor) -> Tensor:
    """Inverse Haar transform [N,4C,H,W] -> [N,C,2H,2W].

    The first C channels are the low band; the rest is, for each channel, its vertical, horizontal
    and diagonal detail. Each output pixel is half a signed sum of the four bands.
    """
    n, channels, height, width = x.shape
    c = channels // 4
    low = x[:, :c]
    detail = x[:, c:].reshape(n, c, 3, height, width)
    vertical, horizontal, diagonal = detail.unbind(2)
    top, bottom = low + vertical, low - vertical
    left, right = horizontal + diagonal, horizontal - diagonal
    pixels = torch.stack((top + left, top - left, bottom + right, bottom - right), dim=2)
    return nnf.pixel_shuffle(0.5 * pixels.flatten(1, 2), 2)


def haar(x: Tensor) -> Tensor:
    """Haar transform [N,C,2H,2W] -> [N,4C,H,W], the exact inverse of `inverse_haar`."""
    n, c, height, width = x.shape
    pixels = nnf.pixel_unshuffle(x, 2).reshape(n, c, 4, height // 2, width // 2)
    a, b, d, e = pixels.unbind(2)
    low = 0.5 * (a + b + d + e)
    vertical = 0.5 * (a + b - d - e)
    horizontal = 0.5 * (a - b + d - e)
    diagonal = 0.5 * (a - b - d + e)
    detail = torch.stack((vertical, horizontal, diagonal), dim=2).flatten(1, 2)
    return torch.cat((low, detail), dim=1)


class Modulation(nn.Linear):
    """Style scales of one convolution: w [N,512] -> [N,C,1,1], times a fixed gain."""

    def __init__(self, channels: int, gain: float = 1.0) -> None:
        super().__init__(LATENT_DIM, channels)
        self.gain = gain

    def forward(self, w: Tensor) -> Tensor:
        return (super().forward(w) * self.gain)[:, :, None, None]


class ModulatedConv(nn.Module):
    """modulate -> 3x3 -> + fixed noise map -> + bias -> leaky ReLU.

    `depthwise` splits the 3x3 into a depthwise 3x3 and a 1x1.
    """

    def __init__(self, in_chs: int, out_chs: int, side: int, depthwise: bool = True) -> None:
        super().__init__()
        self.modulation = Modulation(in_chs, 1 / math.sqrt(9 * in_chs))
        self.depthwise = (
            nn.Conv2d(in_chs, in_chs, 3, padding=1, groups=in_chs, bias=False)
            if depthwise
            else None
        )
        kernel = 1 if depthwise else 3
        self.conv = nn.Conv2d(in_chs, out_chs, kernel, padding=kernel // 2, bias=False)
        self.noise = nn.Buffer(torch.zeros(1, 1, side, side))
        self.bias = nn.Parameter(torch.zeros(1, out_chs, 1, 1))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = x * self.modulation(w)
        if self.depthwise is not None:
            x = self.depthwise(x)
        x = self.conv(x) + self.bias + self.noise
        return nnf.leaky_relu(x, SLOPE)


class Block(nn.Module):
    """modulate -> inverse Haar (side x2, channels /4) -> two modulated convolutions."""

    def __init__(self, in_chs: int, out_chs: int, side: int) -> None:
        super().__init__()
        self.up = Modulation(in_chs)
        self.conv1 = ModulatedConv(in_chs // 4, out_chs, side)
        self.conv2 = ModulatedConv(out_chs, out_chs, side)

    def forward(self, x: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
        x = inverse_haar(x * self.up(w1))
        x = self.conv1(x, w1)
        return self.conv2(x, w2)  # type: ignore[no-any-return]

    def styles(self, w1: Tensor, w2: Tensor) -> list[Tensor]:
        """The scales [N,C,1,1] of the block's three modulations, in their order."""
        return [self.up(w1), self.conv1.modulation(w1), self.conv2.modulation(w2)]


class Mapping(nn.Module):
    """z [N,512] -> w [N,512]: pixel norm, then linear layers with leaky ReLU times sqrt 2."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(LATENT_DIM, LATENT_DIM) for _ in range(MAPPING_LAYERS)
        )

    def forward(self, z: Tensor) -> Tensor:
        x = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)
        for layer in self.layers:
            x = nnf.leaky_relu(layer(x), SLOPE) * math.sqrt(2)
        return x


class MobileStyleGAN(Generator):
    """The embedded default generator: faces, 1024x1024, 23 style rows, F 512x64x64.

    Rows: 0 is conv1's; block i has 3i+1 (up and conv1), 3i+2 (conv2) and 3i+3 (image head, which
    only the last block still has). The last row belonged to a pruned head and does nothing.
    """

    name = "mobile"
    space = FFHQ  # its mapping network is that of StyleGAN2-FFHQ

    def __init__(
        self, block_channels: Sequence[int] = BLOCK_CHANNELS, feature_block: int = FEATURE_BLOCK
    ) -> None:
        super().__init__()
        blocks = len(block_channels)
        self.num_styles = 2 + 3 * blocks
        self.row_layers = mobile_layers(blocks)
        self.resolution = 2 ** (blocks + 3)
        self.feature_block = feature_block
        side = 8 * 2**feature_block
        self.feature_shape = (block_channels[feature_block], side, side)

        in_chs = block_channels[0]
        self.mapping_network = Mapping()
        self.mean_latent = nn.Buffer(torch.zeros(LATENT_DIM))
        self.constant = nn.Parameter(torch.zeros(1, in_chs, 4, 4))
        self.conv1 = ModulatedConv(in_chs, in_chs, 4, depthwise=False)
        self.blocks = nn.ModuleList()
        for i, out_chs in enumerate(block_channels):
            self.blocks.append(Block(in_chs, out_chs, 8 * 2**i))
            in_chs = out_chs
        self.to_image_modulation = Modulation(in_chs, 1 / math.sqrt(in_chs))
        self.to_image = nn.Conv2d(in_chs, 12, 1)
        self.freeze()

    def mapping(self, z: Tensor) -> Tensor:
        return self.mapping_network(z)  # type: ignore[no-any-return]

    def to_features(self, w_plus: Tensor) -> Tensor:
        w_plus = w_plus.to(self.constant.dtype)
        x = self.constant.expand(w_plus.shape[0], -1, -1, -1)
        x = self.conv1(x, w_plus[:, 0])
        return self._run_blocks(x, w_plus, 0, self.feature_block + 1)

    def from_features(self, features: Tensor, w_plus: Tensor, size: int | None = None) -> Tensor:
        size = self.check_size(size)
        features, w_plus = features.to(self.constant.dtype), w_plus.to(self.constant.dtype)
        x = self._run_blocks(features, w_plus, self.feature_block + 1, len(self.blocks))
        scale = self.to_image_modulation(w_plus[:, 3 * len(self.blocks)])
        if size == self.resolution:
            return inverse_haar(self.to_image(x * scale))
        # The average of each 2x2 of an inverse Haar transform is half its low band, and averaging
        # commutes with scales of channels and with a 1x1 convolution: average the features first,
        # then apply 3 of 12 filters.
        x = nnf.avg_pool2d(x, self.resolution // (2 * size)) if size < self.resolution // 2 else x
        weight, bias = self.to_image.weight, self.to_image.bias
        return 0.5 * nnf.conv2d(x * scale, weight[:3], None if bias is None else bias[:3])

    def styles(self, w_plus: Tensor) -> Tensor:
        w_plus = w_plus.to(self.constant.dtype)
        scales = [self.conv1.modulation(w_plus[:, 0])]
        for i, block in enumerate(self.blocks):
            w1, w2 = w_plus[:, 3 * i + 1], w_plus[:, 3 * i + 2]
            scales += block.styles(w1, w2)  # type: ignore[operator]
        scales.append(self.to_image_modulation(w_plus[:, 3 * len(self.blocks)]))
        return torch.cat(scales, dim=1).flatten(1)

    def _run_blocks(self, x: Tensor, w_plus: Tensor, first: int, last: int) -> Tensor:
        for i in range(first, last):
            x = self.blocks[i](x, w_plus[:, 3 * i + 1], w_plus[:, 3 * i + 2])
        return x
