"""Which W a generator's codes live in.

A direction is a vector of one W. Generators that share a mapping network share W: the embedded one
was distilled from StyleGAN2-FFHQ with its teacher's mapping, and a generator that was tuned behind
its mapping stays in its space. So a space is told by what the mapping makes of a few fixed z.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sdic.files import read_tensors

FFHQ = "ffhq"
_PROBES = Path(__file__).parent / "data" / "spaces.safetensors"
_SAME = 0.98  # cosine of codes from which on two mappings count as one; of others it is below .3


def probes(count: int = 4) -> Tensor:
    """The fixed z [N,512] that tell spaces apart."""
    return torch.randn(count, 512, generator=torch.Generator("cpu").manual_seed(2024))


def mobile_layers(blocks: int) -> tuple[int, ...]:
    """`Generator.row_layers` of a mobile generator.

    Row 0, then for each block a layer that upsamples, one more, and an image head, whose row is
    that of the next block's first layer; the last row is a head's, too.
    """
    rows = [(2 * i + 1, 2 * i + 2, 2 * i + 3) for i in range(blocks)]
    return (0, *(layer for block in rows for layer in block), 2 * blocks + 1)


# Space and row layers of families whose directions may serve other generators.
LAYOUTS = {"mobile": (FFHQ, mobile_layers(7)), "stylegan2": (FFHQ, tuple(range(18)))}


@torch.no_grad()
def space_of(mapping: Callable[[Tensor], Tensor]) -> str:
    """The key of a mapping's space: a known one, or one named by what it makes of `probes`."""
    codes = mapping(probes()).detach().float().cpu()
    centred = codes - codes.mean(dim=0)
    for name, known in read_tensors(_PROBES)[0].items():
        if torch.cosine_similarity(centred.flatten(), known.float().flatten(), dim=0) > _SAME:
            return name
    digest = hashlib.sha256((codes * 100).round().int().numpy().tobytes())
    return f"w-{digest.hexdigest()[:8]}"
