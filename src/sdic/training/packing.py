"""Weights and their averages in few bytes, for checkpoints that travel.

A weight keeps 24 of its 32 bits. An average stays close to its weight, so the difference is kept,
in 8 bits with a scale for each row. Both ways round the *running* state alike: what is restored is
what the run goes on with, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

WEIGHT, DIFFERENCE, SCALE = "packed24.", "difference8.", "scale8."
_LARGEST = torch.finfo(torch.float8_e4m3fn).max


def is_packable(value: Tensor) -> bool:
    """Whether packing pays: kernels and matrices in float32; vectors cost next to nothing."""
    return value.dtype == torch.float32 and value.ndim >= 2


def pack_weight(value: Tensor) -> Tensor:
    """The upper 24 bits of each number of [...] as bytes [...,3]; rounds the value in place."""
    bits = value.view(torch.int32)
    bits.copy_((bits + 0x80) & ~0xFF)
    parts = value.contiguous().view(torch.uint8).view(*value.shape, 4)
    return parts[..., 1:].contiguous()


def unpack_weight(packed: Tensor) -> Tensor:
    """The numbers [...] of bytes [...,3]."""
    low = torch.zeros_like(packed[..., :1])
    return torch.cat((low, packed), dim=-1).view(torch.float32).squeeze(-1)


def pack_difference(average: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """An average [O,...] as its difference from the weight: 8 bits each, and a scale [O,1,...].

    The average is rounded in place to what `unpack_difference` gives.
    """
    difference = average - weight
    scale = difference.abs().amax(dim=tuple(range(1, difference.ndim)), keepdim=True) / _LARGEST
    scale = torch.where(scale > 0, scale, 1.0)
    packed = (difference / scale).clamp(-_LARGEST, _LARGEST).to(torch.float8_e4m3fn)
    average.copy_(unpack_difference(packed, scale, weight))
    return packed.contiguous(), scale.contiguous()


def unpack_difference(packed: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
    """The average of `pack_difference`."""
    return weight + packed.float() * scale


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's tensors with every packed one as it was, under its own name."""
    plain = {}
    for key, value in tensors.items():
        if key.startswith(WEIGHT):
            plain[key.removeprefix(WEIGHT)] = unpack_weight(value)
        elif not key.startswith((DIFFERENCE, SCALE)):
            plain[key] = value
    for key, value in tensors.items():
        if key.startswith(DIFFERENCE):
            name = key.removeprefix(DIFFERENCE)
            weight = plain[f"networks.{name.removeprefix('ema.')}"]
            plain[name] = unpack_difference(value, tensors[f"{SCALE}{name}"], weight)
    return plain
