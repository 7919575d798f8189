"""SeFa: closed-form factorisation of the style weights (Shen, Zhou 2021, arXiv 2007.06600).

A style is A w + b. Among unit steps n of w, the eigenvectors of A^T A with the largest eigenvalues
change the styles of the chosen layers most. No sample and no training is needed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from sdic.editing.direction import Direction
from sdic.editing.ganspace import fix_signs
from sdic.errors import InputError
from sdic.generators.base import LATENT_DIM, Generator

# Where the style weights lie in each kind of state dict, and which row of w+ drives them.
_LAYOUTS = (
    (re.compile(r"conv1\.modulation\.weight"), lambda _: 0),
    (re.compile(r"blocks\.(\d+)\.(?:up|conv1\.modulation)\.weight"), lambda i: 3 * i + 1),
    (re.compile(r"blocks\.(\d+)\.conv2\.modulation\.weight"), lambda i: 3 * i + 2),
    (re.compile(r"conv1\.conv\.modulation\.weight"), lambda _: 0),
    (re.compile(r"convs\.(\d+)\.conv\.modulation\.weight"), lambda i: i + 1),
)


def style_weights(generator: Generator) -> dict[int, Tensor]:
    """Style weights of the convolutions, [channels,512] for each row of w+.

    Image heads are left out, as in the published code.

    Raises:
        InputError: the generator keeps its style weights under names that are not known here.
    """
    found: dict[int, list[Tensor]] = {}
    for key, weight in generator.state_dict().items():
        for pattern, row in _LAYOUTS:
            match = pattern.fullmatch(key.removeprefix("synthesis."))
            if match:
                number = int(match.group(1)) if match.groups() else 0
                found.setdefault(row(number), []).append(weight)
    if not found:
        raise InputError(
            f"The style weights of generator '{generator.name}' are not known to SeFa; expected "
            "MobileStyleGAN or StyleGAN2."
        )
    return {row: torch.cat(parts) for row, parts in sorted(found.items())}


def factorise(
    weights: Sequence[Tensor], count: int = 10, normalise: bool = True
) -> tuple[Tensor, Tensor]:
    """Unit steps of w that change the styles most.

    Args:
        weights: style weights [channels,512] of the chosen layers.
        count: steps kept.
        normalise: scale the weights of every channel to unit length first, as the published code
            does; that evens out layers of different gain. False is the equation of the paper.

    Returns:
        Vectors [count,512], orthonormal, sign fixed; eigenvalues [count], falling.

    Raises:
        InputError: there are no weights or the count is out of range.
    """
    if not weights or not 1 <= count <= LATENT_DIM:
        raise InputError(
            f"{count} directions of {len(weights)} layers were asked for; expected 1 to "
            f"{LATENT_DIM} directions of at least one layer."
        )
    matrix = torch.cat([weight.detach().double().cpu() for weight in weights])
    if normalise:
        matrix = torch.nn.functional.normalize(matrix, dim=1)
    values, vectors = torch.linalg.eigh(matrix.T @ matrix)
    return fix_signs(vectors.flip(1).T[:count]).float(), values.flip(0)[:count].float()


def sefa_directions(
    generator: Generator,
    rows: Sequence[int] | None = None,
    count: int = 10,
    normalise: bool = True,
) -> list[Direction]:
    """SeFa's directions for the layers of the given rows (None: all), which they then touch.

    Raises:
        InputError: no chosen row drives a convolution.
    """
    weights = style_weights(generator)
    chosen = sorted(weights if rows is None else set(rows) & set(weights))
    if not chosen:
        raise InputError(
            f"No convolution of '{generator.name}' is driven by rows {list(rows or [])}; expected "
            f"some of {', '.join(map(str, weights))}."
        )
    vectors, _ = factorise([weights[row] for row in chosen], count, normalise)
    label = "all" if rows is None else f"{chosen[0]}-{chosen[-1]}"
    return [
        Direction(
            name=f"sefa-{label}-{k}",
            vector=vector,
            generator=generator.name,
            rows=None if rows is None else tuple(chosen),
            strength_range=(-6.0, 6.0),
            source=f"SeFa, eigenvector {k} of the style weights of rows {label}",
        )
        for k, vector in enumerate(vectors)
    ]
