"""From FFHQ-aligned images to the crop, size and values that a recognition network was made for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdic.errors import InputError
from sdic.images import resize_antialiased

ALIGNED_SIZE = 256
DLIB_MEAN = (122.782, 117.001, 104.298)


@dataclass(frozen=True)
class Crop:
    """A square part of the aligned image, resized to the input of a network.

    Attributes:
        rows: first row, and the row after the last.
        columns: first column, and the column after the last.
        size: side of the result in pixels.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    size: int

    def __call__(self, images: Tensor) -> Tensor:
        """Cut and resize images [N,3,256,256] to [N,3,size,size], antialiased bilinear."""
        check_aligned(images)
        part = images[:, :, slice(*self.rows), slice(*self.columns)]
        return resize_antialiased(part, self.size)


def check_aligned(images: Tensor) -> None:
    """Raise `InputError` unless images are [N,3,256,256] of floating point."""
    side = ALIGNED_SIZE
    if images.ndim != 4 or tuple(images.shape[1:]) != (3, side, side):
        shape = "x".join(map(str, images.shape))
        raise InputError(
            f"A recognition network was given images of shape {shape}, but it wants"
            f" Nx3x{side}x{side} in FFHQ alignment: align the photo, or area-resize the image."
        )
    if not images.is_floating_point():
        raise InputError(
            f"A recognition network was given values of type {images.dtype}, but it wants floating"
            " point in [-1,1]: convert the image first."
        )


def to_bytes(images: Tensor) -> Tensor:
    """Values in [-1,1] to [0,255], neither rounded nor clamped, so that gradients flow."""
    return (images + 1) * 127.5


def subtract(values: Tensor, channels: tuple[float, float, float]) -> Tensor:
    """Subtract one number for each of the three channels of [N,3,H,W]."""
    return values - torch.tensor(channels, dtype=values.dtype, device=values.device)[:, None, None]
