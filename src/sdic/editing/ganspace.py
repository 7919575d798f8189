"""GANSpace: principal components of W (Harkonen et al. 2020, arXiv 2004.02546).

The mapping network alone is sampled, so hundreds of thousands of samples take seconds. The
covariance is summed in float64 and solved exactly, where the published code uses incremental PCA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sdic.editing.direction import AbsoluteDirection, Direction
from sdic.editing.foreign import read_tensors
from sdic.errors import InputError
from sdic.generators.base import LATENT_DIM, Generator

BATCH = 10_000
PUBLISHED_KEYS = {"mean", "comp", "std"}


@dataclass(frozen=True)
class PrincipalComponents:
    """Principal components of W, strongest first.

    Attributes:
        generator: key of the generator.
        mean: [512].
        vectors: [K,512], orthonormal; of each, the entry of largest magnitude is positive.
        std: [K], standard deviation of the samples along each vector.
        share: [K], share of the variance of W; nan where a file does not tell it.
        source: how they were made.
    """

    generator: str
    mean: Tensor
    vectors: Tensor
    std: Tensor
    share: Tensor
    source: str = ""

    def direction(
        self, component: int, name: str | None = None, rows: Sequence[int] | None = None
    ) -> Direction:
        """One component as a direction of unit length; its range is three standard deviations.

        Raises:
            InputError: there is no such component.
        """
        self._check(component)
        reach = round(3 * float(self.std[component]), 2)
        return Direction(
            name=name or f"ganspace-{component}",
            vector=self.vectors[component],
            generator=self.generator,
            rows=None if rows is None else tuple(rows),
            strength_range=(-reach, reach),
            source=f"component {component} of {self.source}",
        )

    def absolute(
        self, component: int, rows: Sequence[int], strength: float, name: str | None = None
    ) -> AbsoluteDirection:
        """The field's edit tuple (component, first row, last row, strength).

        The published rule moves rows first .. last - 1 to the coordinate `strength`, counted in
        standard deviations of the component; pass `range(first, last)` as rows. Strength 1 of the
        result is that edit, 0 none.

        Raises:
            InputError: there is no such component.
        """
        self._check(component)
        return AbsoluteDirection(
            name=name or f"ganspace-{component}-to-{strength:g}",
            vector=self.vectors[component],
            generator=self.generator,
            rows=tuple(rows),
            strength_range=(0.0, 1.0),
            source=f"component {component} of {self.source}, absolute coordinate {strength:g}",
            mean=self.mean,
            target=strength * float(self.std[component]),
        )

    def _check(self, component: int) -> None:
        if not 0 <= component < len(self.vectors):
            raise InputError(
                f"Component {component} was asked for; there are {len(self.vectors)}, counted "
                "from 0."
            )


@torch.no_grad()
def principal_components(
    generator: Generator, num_samples: int = 200_000, count: int = 80, seed: int = 0
) -> PrincipalComponents:
    """PCA of `mapping` over z, seeded.

    Args:
        generator: only its mapping network runs.
        num_samples: z drawn; at least `count`.
        count: components kept, at most 512.
        seed: of the z, drawn on the CPU.

    Raises:
        InputError: a number is out of range.
    """
    if not 1 <= count <= LATENT_DIM or num_samples < 2 * count:
        raise InputError(
            f"{count} components of {num_samples} samples were asked for; expected 1 to "
            f"{LATENT_DIM} components and at least twice as many samples."
        )
    random = torch.Generator("cpu").manual_seed(seed)
    total = torch.zeros(LATENT_DIM, dtype=torch.float64)
    products = torch.zeros(LATENT_DIM, LATENT_DIM, dtype=torch.float64)
    shift = generator.mean_latent.double().cpu()  # keeps the sums small, so the result exact
    for start in range(0, num_samples, BATCH):
        z = torch.randn(min(BATCH, num_samples - start), LATENT_DIM, generator=random)
        w = generator.mapping(z.to(generator.mean_latent)).double().cpu() - shift
        total += w.sum(0)
        products += w.T @ w
    mean = total / num_samples
    covariance = products / num_samples - torch.outer(mean, mean)
    variances, vectors = torch.linalg.eigh(covariance)
    variances, vectors = variances.flip(0).clamp_min(0), vectors.flip(1).T
    return PrincipalComponents(
        generator=generator.name,
        mean=(mean + shift).float(),
        vectors=fix_signs(vectors[:count]).float(),
        std=variances[:count].sqrt().float(),
        share=(variances[:count] / variances.sum()).float(),
        source=f"GANSpace, {num_samples} samples of W, seed {seed}",
    )


def fix_signs(vectors: Tensor) -> Tensor:
    """Turn vectors [K,512] so that the entry of largest magnitude of each is positive."""
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    return vectors * torch.where(largest < 0, -1.0, 1.0).to(vectors)


def read_components(path: Path, generator: str) -> PrincipalComponents:
    """The published file of components: mean [1,512], comp [K,1,512], std [K]; .pt, .npz.

    Raises:
        InputError: the file cannot be used.
        WeightsError: see `weights.checkpoints.read_plain`.
    """
    tensors = read_tensors(path)
    if PUBLISHED_KEYS - set(tensors):
        raise InputError(
            f"{path} holds {', '.join(sorted(tensors)) or 'one array'}; a file of GANSpace "
            "components has mean, comp and std."
        )
    std = tensors["std"].flatten()
    shapes_fit = tensors["mean"].numel() == LATENT_DIM
    if not shapes_fit or tensors["comp"].numel() != len(std) * LATENT_DIM:
        raise InputError(
            f"{path} has comp {list(tensors['comp'].shape)} and std {list(std.shape)}; expected "
            f"K x 1 x {LATENT_DIM} and K."
        )
    if not all(tensors[key].isfinite().all() for key in PUBLISHED_KEYS):
        raise InputError(f"{path} holds numbers that are not finite; make the file again.")
    return PrincipalComponents(
        generator=generator,
        mean=tensors["mean"].reshape(LATENT_DIM),
        vectors=tensors["comp"].reshape(-1, LATENT_DIM),
        std=std,
        share=torch.full_like(std, float("nan")),
        source=path.name,
    )
