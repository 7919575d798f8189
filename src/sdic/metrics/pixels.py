"""Metrics of image pairs that need no network: MSE, PSNR, SSIM, MS-SSIM.

All take two batches [N,3,H,W] in [-1,1], so the data range is 2, and give one value for each pair.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as nnf

from sdic.errors import InputError

DATA_RANGE = 2.0
MAX_PSNR = 100.0  # dB; that of an equal pair, so that means and curves stay finite
WINDOW = 11
SIGMA = 1.5
LUMINANCE_CONSTANT = (0.01 * DATA_RANGE) ** 2
CONTRAST_CONSTANT = (0.03 * DATA_RANGE) ** 2
# Exponents of the five scales, finest first (Wang et al. 2003).
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def check_pair(images: Tensor, others: Tensor) -> None:
    """Raise `InputError` unless both are floating point [N,3,H,W] of one shape."""
    if images.ndim != 4 or images.shape[1] != 3 or images.shape != others.shape:
        raise InputError(
            f"Two image batches of one shape Nx3xHxW were expected, not {tuple(images.shape)} and"
            f" {tuple(others.shape)}: resize one of them first."
        )
    if not (images.is_floating_point() and others.is_floating_point()):
        raise InputError(
            f"Images of floating point in [-1,1] were expected, not {images.dtype} and"
            f" {others.dtype}: convert them first."
        )


def mse(images: Tensor, others: Tensor) -> Tensor:
    """Mean squared error [N] of pairs [N,3,H,W] in [-1,1]; the field's L2. Lower is better."""
    check_pair(images, others)
    return (images - others).square().mean((1, 2, 3))


def psnr(images: Tensor, others: Tensor) -> Tensor:
    """Peak signal-to-noise ratio [N] in dB of pairs [N,3,H,W] in [-1,1]. Higher is better.

    10 log10(4 / MSE), for the range is 2; at most 100, which an equal pair has.
    """
    least = DATA_RANGE**2 * 10 ** (-MAX_PSNR / 10)
    return 10 * torch.log10(DATA_RANGE**2 / mse(images, others).clamp_min(least))


def ssim(images: Tensor, others: Tensor) -> Tensor:
    """Structural similarity [N] of pairs [N,3,H,W] in [-1,1] (Wang et al. 2004). 1 is equal.

    Gaussian window of 11 pixels and sigma 1.5, K1 .01, K2 .03, no padding, mean over the channels.

    Raises:
        InputError: a side is shorter than the window.
    """
    check_pair(images, others)
    _check_side(images, WINDOW, "SSIM")
    luminance, contrast = _similarity(images, others)
    return (luminance * contrast).mean((1, 2, 3))


def ms_ssim(images: Tensor, others: Tensor) -> Tensor:
    """Multi-scale structural similarity [N] of pairs [N,3,H,W] in [-1,1] (Wang et al. 2003).

    Five scales, each half the last by 2x2 means; a negative factor counts as 0. 1 is equal. At the
    last scale the border is reflected, as torchmetrics does, so that numbers agree with it.

    Raises:
        InputError: a side is shorter than 176 pixels, where the fifth scale is one window wide.
    """
    check_pair(images, others)
    _check_side(images, WINDOW * 2 ** (len(SCALE_WEIGHTS) - 1), "MS-SSIM")
    result = torch.ones_like(images[:, 0, 0, 0])
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale > 0:
            images, others = nnf.avg_pool2d(images, 2), nnf.avg_pool2d(others, 2)
        if scale < len(SCALE_WEIGHTS) - 1:
            factor = _similarity(images, others)[1].mean((1, 2, 3))
        else:
            border = (WINDOW // 2,) * 4
            padded = (nnf.pad(batch, border, mode="reflect") for batch in (images, others))
            luminance, contrast = _similarity(*padded)
            factor = (luminance * contrast).mean((1, 2, 3))
        result = result * factor.relu() ** weight
    return result


def _check_side(images: Tensor, side: int, metric: str) -> None:
    if min(images.shape[-2:]) < side:
        height, width = images.shape[-2:]
        raise InputError(
            f"{metric} needs images of at least {side}x{side} pixels, not {height}x{width}: give"
            " larger ones, or leave this metric out."
        )


def _similarity(images: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Maps [N,3,H-10,W-10] of the luminance term, and of contrast and structure in one."""
    # In double precision, because a variance is a small difference of large numbers.
    x, y = images.double(), others.double()
    blurred = _blur(torch.cat([x, y, x * x, y * y, x * y]))
    mean_x, mean_y, square_x, square_y, product = blurred.chunk(5)
    variances = square_x - mean_x**2 + square_y - mean_y**2
    covariance = product - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + LUMINANCE_CONSTANT) / (
        mean_x**2 + mean_y**2 + LUMINANCE_CONSTANT
    )
    contrast = (2 * covariance + CONTRAST_CONSTANT) / (variances + CONTRAST_CONSTANT)
    return luminance.to(images.dtype), contrast.to(images.dtype)


def _blur(x: Tensor) -> Tensor:
    """Gaussian mean of [N,C,H,W] wherever the window fits: [N,C,H-10,W-10]."""
    offsets = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    window = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    window = window / window.sum()
    channels = x.shape[1]
    vertical = window[None, None, :, None].expand(channels, 1, -1, -1)
    rows = nnf.conv2d(x, vertical, groups=channels)
    return nnf.conv2d(rows, vertical.transpose(2, 3), groups=channels)
