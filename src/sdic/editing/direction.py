"""A direction is a named edit of the latents; an edit is some directions with their strengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sdic.errors import InputError


@dataclass(frozen=True)
class Direction:
    """A named edit of w+.

    Attributes:
        name: what the edit changes, e.g. "smile".
        vector: [512] (the same for every row it touches) or [S,512] (one for each style row).
        generator: key of the generator whose W space it lives in.
        rows: style rows it touches; None is all of them.
        strength_range: strengths between which the edit was measured or seen to be useful.
        source: where it came from (method, samples, seed, package or paper).
        notes: whatever else is worth keeping beside it, e.g. measured side effects.
    """

    name: str
    vector: Tensor
    generator: str
    rows: tuple[int, ...] | None = None
    strength_range: tuple[float, float] = (-3.0, 3.0)
    source: str = ""
    notes: dict[str, str] = field(default_factory=dict)

    def apply(self, latents: Tensor, strength: float) -> Tensor:
        """Latents w+ [N,S,512] moved by strength along the direction; strength 0 is exact."""
        num_styles = latents.shape[1]
        vector = self.vector.to(latents)
        if vector.ndim == 2 and len(vector) not in (1, num_styles):
            raise InputError(
                f"Direction '{self.name}' has {len(vector)} rows, the latents have {num_styles}. "
                "Use a direction that was made for this generator."
            )
        self._check_rows(num_styles)
        if strength == 0:
            return latents
        step = (strength * vector).expand(num_styles, -1)
        if self.rows is None:
            return latents + step
        moved = latents.clone()
        rows = list(self.rows)
        moved[:, rows] += step[rows]
        return moved

    def _check_rows(self, num_styles: int) -> None:
        if self.rows and not 0 <= min(self.rows) <= max(self.rows) < num_styles:
            raise InputError(
                f"Direction '{self.name}' touches rows up to {max(self.rows)}, the latents have "
                f"{num_styles}. Use a direction that was made for this generator."
            )


@dataclass(frozen=True)
class AbsoluteDirection(Direction):
    """A direction that leads to a fixed coordinate, as the edit tuples of GANSpace do.

    The coordinate of latents is c = <w_0 - mean, vector>, read from row 0. The published rule adds
    (target - c) * vector to the rows. Here strength is the share of that way: 1 is the published
    edit, 0 leaves the latents as they are.

    Attributes:
        mean: [512], the origin of the coordinate.
        target: coordinate that strength 1 reaches, in units of W (standard deviations times the
            standard deviation of the component).
    """

    mean: Tensor = field(default_factory=lambda: torch.zeros(512))
    target: float = 0.0

    def apply(self, latents: Tensor, strength: float) -> Tensor:
        """Latents w+ [N,S,512] moved by a share of the way to the target; strength 0 is exact."""
        self._check_rows(latents.shape[1])
        if strength == 0:
            return latents
        vector = self.vector.to(latents)
        coordinate = (latents[:, 0] - self.mean.to(latents)) @ vector
        step = strength * (self.target - coordinate)[:, None, None] * vector
        rows = list(range(latents.shape[1])) if self.rows is None else list(self.rows)
        moved = latents.clone()
        moved[:, rows] += step
        return moved


@dataclass(frozen=True)
class Edit:
    """Directions with strengths, applied one after the other."""

    steps: tuple[tuple[Direction, float], ...]

    @staticmethod
    def of(direction: Direction, strength: float) -> Edit:
        """The edit of a single direction."""
        return Edit(((direction, strength),))

    @staticmethod
    def all(edits: Sequence[Edit]) -> Edit:
        """Several edits as one."""
        return Edit(tuple(step for edit in edits for step in edit.steps))

    def scaled(self, factors: Mapping[str, float]) -> Edit:
        """The same edit with the strengths of some directions, by name, times a factor."""
        return Edit(
            tuple((one, factors.get(one.name, 1.0) * strength) for one, strength in self.steps)
        )

    def apply(self, latents: Tensor) -> Tensor:
        """Latents w+ [N,S,512] after all steps."""
        for direction, strength in self.steps:
            latents = direction.apply(latents, strength)
        return latents
