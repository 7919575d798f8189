"""Between pixels and tensors, and the two ways of making images smaller or larger."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

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
        InputError: the tensor has another shape.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"Got images of shape {list(images.shape)}; expected [N,3,H,W].")
    levels = ((images.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    pixels: Pixels = levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return pixels


def resize_area(images: Tensor, size: int) -> Tensor:
    """Images [N,C,H,W] averaged over the area of each pixel of [N,C,size,size].

    Raises:
        InputError: size does not divide the sides, so that areas would overlap.
    """
    height, width = images.shape[-2:]
    if size < 1 or height % size or width % size:
        raise InputError(
            f"Cannot average {width}x{height} pixels to {size}x{size}: expected a size that "
            "divides both sides. Use resize_antialiased."
        )
    return functional.avg_pool2d(images, (height // size, width // size))


def resize_antialiased(images: Tensor, size: int) -> Tensor:
    """Images [N,C,H,W] to [N,C,size,size], bilinear, low-pass filtered when they shrink."""
    if images.shape[-2:] == (size, size):
        return images
    return functional.interpolate(
        images, size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )
