"""Between pixels and tensors, and the ways of making images smaller or larger."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as nnf

from sdic.errors import InputError
from sdic.images.photo import Pixels, check_rgb


def to_tensor(rgb: Pixels) -> Tensor:
    """Pixels [H,W,3] uint8 to an image [1,3,H,W] float32 in [-1,1]."""
    check_rgb(rgb)
    image = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None]
    return image.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Pixels:
    """Images [N,3,H,W] in [-1,1] to pixels [N,H,W,3] uint8, clamped and rounded to the nearest.

    `to_uint8(to_tensor(rgb))[0]` equals rgb.

    Raises:
        InputError: the tensor has another shape, or numbers that are not finite.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"Got images of shape {list(images.shape)}; expected [N,3,H,W].")
    if not images.isfinite().all():
        raise InputError(
            "The generated image has numbers that are not finite: what it was made of (inversion, "
            "checkpoint, edit) holds numbers that are far too large; make that again."
        )
    levels = ((images.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    pixels: Pixels = levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return pixels


def resize_area(images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Images [N,C,H,W] averaged over the area of each pixel of [N,C,size,size].

    Where a side is no multiple of the new one, neighbouring areas share a row or column.

    Args:
        images: what is made smaller.
        size: the new side, or (height, width).
    """
    return nnf.adaptive_avg_pool2d(images, size)


def resize_antialiased(images: Tensor, size: int) -> Tensor:
    """Images [N,C,H,W] to [N,C,size,size], bilinear, low-pass filtered when they shrink."""
    if images.shape[-2:] == (size, size):
        return images
    return nnf.interpolate(
        images, size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )


def resize_bilinear(images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Images or maps [N,C,H,W] to a side, or (height, width), bilinear without a filter."""
    return nnf.interpolate(images, size=size, mode="bilinear", align_corners=False)
