"""Layers of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) in plain PyTorch operators.

Parameter and buffer names are those of the published PyTorch checkpoints, so that such a file loads
key by key. Weights are stored unscaled (equalised learning rate); each layer rescales at run time.
All parameters are zero until weights are loaded.

A leaky ReLU is positively homogeneous, so its gain of sqrt 2 is folded into what comes before it,
and the large maps are touched as few times as possible.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.generators.base import LATENT_DIM

SLOPE = 0.2
GAIN = math.sqrt(2)
EPSILON = 1e-8
MAPPING_RATE = 0.01  # learning-rate multiplier of the mapping network


def binomial_kernel(gain: float) -> Tensor:
    """The 4x4 resampling filter [1,3,3,1] x [1,3,3,1], with the given sum."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(row, row)
    return kernel * (gain / kernel.sum())


class PixelNorm(nn.Module):
    """z [N,C] divided by its root mean square."""

    def forward(self, z: Tensor) -> Tensor:
        return z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + EPSILON)


class EqualLinear(nn.Module):
    """Linear layer [N,I] -> [N,O] with equalised learning rate: weight * rate / sqrt I."""

    def __init__(self, in_features: int, out_features: int, rate: float = 1.0) -> None:
        super().__init__()
        self.rate = rate
        self.weight = nn.Parameter(torch.zeros(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.rate / math.sqrt(self.weight.shape[1])
        return nnf.linear(x, self.weight * scale, self.bias * self.rate)


class MappingLayer(EqualLinear):
    """One layer of the mapping network: linear, leaky ReLU times sqrt 2."""

    def __init__(self) -> None:
        super().__init__(LATENT_DIM, LATENT_DIM, MAPPING_RATE)

    def forward(self, x: Tensor) -> Tensor:
        return nnf.leaky_relu(super().forward(x), SLOPE) * GAIN


class Constant(nn.Module):
    """The learned constant [1,C,4,4] that synthesis starts from."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.zeros(1, channels, 4, 4))


class Resample(nn.Module):
    """The filter of a resampling step, stored as a 4x4 buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Buffer(binomial_kernel(4.0))

    def blur(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Filter each channel: [N,C,H+1,W+1] -> [N,C,H,W], plus a bias [C]."""
        channels = x.shape[1]
        kernel = self.kernel.flip((0, 1)).expand(channels, 1, 4, 4)
        return nnf.conv2d(x, kernel, bias, padding=1, groups=channels)

    def upsample(self, x: Tensor) -> Tensor:
        """Double the side: [N,C,H,W] -> [N,C,2H,2W]."""
        channels = x.shape[1]
        kernel = self.kernel.expand(channels, 1, 4, 4)
        return nnf.conv_transpose2d(x, kernel, stride=2, padding=1, groups=channels)


class ModulatedConv(nn.Module):
    """3x3 convolution whose input channels are scaled by a style, then demodulated (section 2.2).

    With `upsample` it is a transposed convolution of stride 2, and the filter after it.
    """

    def __init__(self, in_chs: int, out_chs: int, upsample: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, out_chs, in_chs, 3, 3))
        self.modulation = EqualLinear(LATENT_DIM, in_chs)
        self.blur = Resample() if upsample else None

    def forward(self, x: Tensor, w: Tensor, bias: Tensor, gain: float) -> Tensor:
        """Convolve x [N,I,H,W] by the style of w [N,512], times `gain`, plus bias [O].

        Two exact ways: scaling the maps shares one kernel among samples and keeps gradients cheap;
        scaling the kernel saves two passes over large maps, where there is one sample to generate.
        """
        style = self.modulation(w)
        weight = self.weight[0]
        # rsqrt(sum(weight^2 style^2)) with the equalised weights' 1 / sqrt(9 I) cancelled out.
        energy = style.square() @ weight.square().sum(dim=(2, 3)).t()
        demodulation = gain * torch.rsqrt(energy + EPSILON * weight[0].numel())
        tensors = (x, style, weight)
        if x.shape[0] > 1 or (torch.is_grad_enabled() and any(t.requires_grad for t in tensors)):
            x = self._convolve(x * style[:, :, None, None], weight, None)
            return torch.addcmul(bias[:, None, None], x, demodulation[:, :, None, None])
        scales = demodulation[0, :, None] * style[0]
        return self._convolve(x, weight * scales[:, :, None, None], bias)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.blur is None:
            return nnf.conv2d(x, weight, bias, padding=1)
        x = nnf.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        return self.blur.blur(x, bias)


class NoiseStrength(nn.Module):
    """The learned strength of a layer's noise."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class Bias(nn.Module):
    """The learned bias [C] before an activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


class StyledConv(nn.Module):
    """One synthesis layer: modulated convolution, + noise, + bias, leaky ReLU times sqrt 2."""

    def __init__(self, in_chs: int, out_chs: int, upsample: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(in_chs, out_chs, upsample)
        self.noise = NoiseStrength()
        self.activate = Bias(out_chs)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        """Maps [N,I,H,W], latents [N,512] and noise [1 or N,1,H',W'] to maps [N,O,H',W']."""
        x = self.conv(x, w, self.activate.bias * GAIN, GAIN)
        x = x.add_(noise * (self.noise.weight * GAIN))
        return nnf.leaky_relu_(x, SLOPE)


class ModulatedProjection(nn.Module):
    """1x1 convolution to RGB, modulated and not demodulated."""

    def __init__(self, in_chs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 3, in_chs, 1, 1))
        self.modulation = EqualLinear(LATENT_DIM, in_chs)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        weight = self.weight[0, :, :, 0, 0] / math.sqrt(self.weight.shape[2])
        style: Tensor = self.modulation(w)
        weight = weight * style[:, None, :]
        # As a product of matrices it needs neither scaled maps nor one convolution per sample.
        n, _, height, width = x.shape
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2) @ weight.transpose(1, 2)
        return pixels.reshape(n, height, width, 3).permute(0, 3, 1, 2)


class ToRGB(nn.Module):
    """Image head of one side; adds its image to the upsampled sum of those before it."""

    def __init__(self, in_chs: int, upsample: bool = True) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.upsample = Resample() if upsample else None
        self.conv = ModulatedProjection(in_chs)

    def forward(self, x: Tensor, w: Tensor, skip: Tensor | None) -> Tensor:
        """Maps [N,C,H,W], latents [N,512] and image sum [N,3,H/2,W/2] to image sum [N,3,H,W]."""
        image: Tensor = self.conv(x, w) + self.bias
        if self.upsample is None or skip is None:
            return image
        return image + self.upsample.upsample(skip)
