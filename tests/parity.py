"""Weights, inputs and numbers that two implementations of one network can be compared by.

Every tensor is a function of its published checkpoint key and its shape only, so no file of weights
has to change hands: seed = crc32 of the full key, a standard normal draw in float64, scaled by a
rule that the key picks. `golden()` has what the published face network computes with such weights
for the first of two such images (eval mode, fixed noise, float32):

    x.*        the input image          init.*     decoder(codes)        dip   discrepancy map
    codes, Wp  w+ before and after      G7.*, F.*  its features, and after compensation
    final.*    decoder(Wp) with F       act.*      mean, std and a central patch of inner maps

`*.ch` are the channels listed in `channels`; `*.crop` of a 1024 image are rows 480:544 and columns
448:512, `dip.crop` rows and columns 96:160; `*.area64` are area averages.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DATA = Path(__file__).parent / "data" / "parity"
CROP = (slice(None), slice(None), slice(480, 544), slice(448, 512))
DIP_CROP = (slice(None), slice(None), slice(96, 160), slice(96, 160))

# Weights with an equalised learning rate are stored unscaled, those of the mapping network times
# 100; patterns of full keys.
EQUALISED = {
    r"decoder\.style\.\d+\.weight": 100.0,
    r"decoder\..*\.modulation\.weight": 1.0,
    r"decoder\.(conv1|convs\.\d+|to_rgb1|to_rgbs\.\d+)\.conv\.weight": 1.0,
    r"encoder\.styles\.\d+\.linear\.weight": 1.0,
    r"SAF\.condition_shift3\.[02]\.weight": 1.0,
}


def normal(key: str, shape: tuple[int, ...]) -> Tensor:
    """A standard normal draw, float64, that depends on the key and the shape only."""
    random = torch.Generator("cpu").manual_seed(zlib.crc32(key.encode()))
    return torch.randn(shape, generator=random, dtype=torch.float64)


def _value(key: str, old: Tensor, keys: set[str]) -> Tensor:
    kind = key.rsplit(".", 1)[-1]
    shape = tuple(old.shape)
    if kind == "kernel":
        return old.clone()
    if kind == "num_batches_tracked":
        return torch.zeros_like(old)
    n = normal(key, shape)
    if kind == "running_var":
        return 1 + 0.1 * n.abs()
    if kind in ("running_mean", "bias") or key.endswith(".noise.weight"):
        return 0.1 * n
    if kind == "input" or re.search(r"noises\.noise_\d+$", key):
        return n
    if kind != "weight":
        raise KeyError(f"no rule fills {key} {shape}")
    if len(shape) == 1:
        is_norm = key.removesuffix("weight") + "running_mean" in keys
        return 1 + 0.1 * n if is_norm else torch.full(shape, 0.25)  # or the slope of a PReLU
    scales = [scale for pattern, scale in EQUALISED.items() if re.fullmatch(pattern, key)]
    return n * scales[0] if scales else n / math.sqrt(math.prod(shape[1:]))


def fill(state: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """The same state dict with every tensor drawn anew; prefix + key is the published key."""
    keys = {prefix + key for key in state}
    return {key: _value(prefix + key, old, keys).to(old.dtype) for key, old in state.items()}


@cache
def official_keys() -> dict[str, dict[str, dict[str, list[int]]]]:
    """Shapes by kind ("face", "cars"), part ("encoder", "SAF", "DIP", "decoder") and key."""
    return json.loads((DATA / "official_keys.json").read_text())  # type: ignore[no-any-return]


@cache
def golden() -> dict[str, Tensor]:
    """What the published face network computes; see the module's docstring."""
    with np.load(DATA / "golden_face.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def latent_avg(num_styles: int = 18) -> Tensor:
    """[S,512]: one row repeated, plus a little of its own for each row."""
    rows = normal("latent_avg.rows", (18, 512))[:num_styles]
    return (0.5 * normal("latent_avg", (512,)) + 0.05 * rows).float()


def direction(num_styles: int = 18) -> Tensor:
    """[1,S,512], rows of unit length."""
    rows = normal("edit_direction", (1, 18, 512))[:, :num_styles]
    return torch.nn.functional.normalize(rows, dim=-1).float()


def images(num: int = 1, side: int = 256, waves: int = 24) -> Tensor:
    """Smooth images [N,3,side,side] in [-1,1]: sums of plane cosines of 0.5 to 12 cycles."""
    position = (torch.arange(side, dtype=torch.float64) + 0.5) / side

    def channel(key: str) -> Tensor:
        speed, turn, shift, strength = normal(key, (4, waves))
        cycles = 0.5 * 24 ** _uniform(speed)
        angle, phase = 2 * math.pi * _uniform(turn), 2 * math.pi * _uniform(shift)
        down = (cycles * angle.sin())[:, None, None] * position[:, None]
        across = (cycles * angle.cos())[:, None, None] * position
        waves_ = torch.cos(2 * math.pi * (down + across) + phase[:, None, None])
        total = ((strength / cycles.sqrt())[:, None, None] * waves_).sum(0)
        return total / total.abs().max()

    pictures = [[channel(f"image.{i}.{c}") for c in range(3)] for i in range(num)]
    return torch.stack([torch.stack(picture) for picture in pictures]).float()


def _uniform(n: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(n / math.sqrt(2)))
