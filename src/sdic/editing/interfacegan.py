"""InterFaceGAN: directions as normals of separating planes (Shen et al. 2020, arXiv 2005.09635).

Samples are scored by a classifier, the confident ends are kept, and a linear SVM separates their
latents. The unit normal of its plane is the direction. What it drags along is taken out by
projection on the other normals (section 3.3 there).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sdic.editing.direction import Direction
from sdic.errors import InputError


@dataclass(frozen=True)
class Fit:
    """A fitted direction and how well its plane separates samples it never saw.

    Attributes:
        direction: unit normal [512], pointing to high scores; touches all rows.
        accuracy: share of held-out confident samples on their right side, in [0,1].
        correlation: between held-out score and position along the direction, over all samples
            that were not trained on (not the confident ones only).
        trained_on: confident samples the SVM saw.
        held_out: confident samples the accuracy was taken on.
    """

    direction: Direction
    accuracy: float
    correlation: float
    trained_on: int
    held_out: int


def fit_direction(
    name: str,
    latents: Tensor,
    scores: Tensor,
    *,
    generator: str,
    fraction: float = 0.02,
    train_share: float = 0.7,
    regularisation: float = 1.0,
    seed: int = 0,
    source: str = "",
) -> Fit:
    """Fit the plane that separates high from low scores.

    Args:
        name: name of the direction.
        latents: w [N,512].
        scores: [N], higher is more of the attribute. Only their order counts.
        generator: key of the generator.
        fraction: share of the samples kept at each end, up to 0.5.
        train_share: share of the kept samples that the SVM sees.
        regularisation: C of the SVM, on latents scaled to unit mean variance; smaller is a
            smoother plane.
        seed: of the split.
        source: what made latents and scores; the fit adds its own numbers.

    Raises:
        InputError: shapes differ, a setting is out of range, too few samples are left, all
            scores are equal, or scikit-learn is not installed.
    """
    _check(latents, scores, fraction, train_share)
    kept = max(1, int(fraction * len(scores)))
    train = int(train_share * kept)
    order = scores.double().argsort(stable=True)
    low, high = order[:kept], order[-kept:]
    if train < 2 or train == kept or scores[low[-1]] >= scores[high[0]]:
        raise InputError(
            f"Only {kept} samples are left at each end of '{name}', or their scores do not differ; "
            "take more samples or a larger fraction."
        )
    random = torch.Generator().manual_seed(seed)
    low = low[torch.randperm(kept, generator=random)]
    high = high[torch.randperm(kept, generator=random)]
    seen = torch.cat((low[:train], high[:train]))
    plane = _separate(latents[seen], train, regularisation)
    held = torch.cat((low[train:], high[train:]))
    side = plane.position(latents[held]) > 0
    accuracy = float((side == (torch.arange(len(held)) >= kept - train)).float().mean())
    rest = torch.ones(len(scores), dtype=torch.bool)
    rest[seen] = False
    correlation = _correlation(plane.position(latents[rest]), scores[rest])
    direction = Direction(
        name=name,
        vector=plane.normal,
        generator=generator,
        source=f"InterFaceGAN, {source}".rstrip(", "),
        notes={
            "accuracy": f"{accuracy:.3f} of {len(held)} held-out samples",
            "correlation": f"{correlation:.2f} with the held-out score",
        },
    )
    return Fit(direction, accuracy, correlation, 2 * train, len(held))


@dataclass(frozen=True)
class _Plane:
    """normal . w + offset = 0, with a unit normal."""

    normal: Tensor
    offset: float

    def position(self, latents: Tensor) -> Tensor:
        return latents.float() @ self.normal + self.offset


def _separate(latents: Tensor, low: int, regularisation: float) -> _Plane:
    """A linear SVM between the first `low` latents and the rest."""
    try:
        from sklearn.svm import SVC  # type: ignore[import-untyped]
    except ImportError as error:
        raise InputError(
            "Fitting a direction needs scikit-learn; install it with `pip install sdic[evaluate]`."
        ) from error
    values = latents.double()
    mean = values.mean(0)
    scale = values.std(0).square().mean().sqrt()
    inputs = ((values - mean) / scale).numpy()
    labels = (torch.arange(len(values)) >= low).numpy()
    machine = SVC(kernel="linear", C=regularisation / latents.shape[1]).fit(inputs, labels)
    weight = torch.from_numpy(machine.coef_[0].copy())
    length = weight.norm()
    offset = float(machine.intercept_[0]) / float(length) * float(scale)
    normal = weight / length
    return _Plane(normal.float(), offset - float(normal @ mean))


def _correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack((a.double(), b.double())))[0, 1])


def _check(latents: Tensor, scores: Tensor, fraction: float, train_share: float) -> None:
    if latents.ndim != 2 or scores.shape != latents.shape[:1]:
        raise InputError(
            f"Got latents {list(latents.shape)} and scores {list(scores.shape)}; expected N x 512 "
            "and one score for each."
        )
    if not scores.isfinite().all():
        raise InputError("Some scores are not finite; a scorer has to give a number each time.")
    if not 0 < fraction <= 0.5 or not 0 < train_share < 1:
        raise InputError(
            f"Fraction {fraction} and train share {train_share} were given; expected a fraction "
            "above 0 up to 0.5, and a share between 0 and 1."
        )


def condition(direction: Direction, on: Sequence[Direction]) -> Direction:
    """The direction with its part along others taken out, of unit length again.

    With several others, their whole span is taken out, so that the result is orthogonal to each.

    Raises:
        InputError: a vector is not [512], or nothing is left of the direction.
    """
    for vector in (direction, *on):
        if vector.vector.ndim != 1:
            raise InputError(
                f"Direction '{vector.name}' differs between rows; only directions that are one "
                "vector can be projected."
            )
    if not on:
        return direction
    start = direction.vector.double() / direction.vector.double().norm()
    basis, _ = torch.linalg.qr(torch.stack([other.vector.double() for other in on], dim=1))
    left = start - basis @ (basis.T @ start)
    if left.norm() < 1e-3:
        raise InputError(
            f"Nothing is left of '{direction.name}' once {', '.join(o.name for o in on)} are taken "
            "out of it; take out fewer."
        )
    notes = {**direction.notes, "conditioned on": ", ".join(other.name for other in on)}
    return replace(direction, vector=(left / left.norm()).float(), notes=notes)
