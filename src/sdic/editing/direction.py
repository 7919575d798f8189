"""A direction is a named edit of the latents; an edit is some directions with their strengths."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from sdic.errors import InputError

MOST_ROWS = 64  # of w+, more than any generator has


@dataclass(frozen=True, eq=False)
class Direction:
    """A named edit of w+, a value: two are equal if all that they hold is, on whatever device.

    Attributes:
        name: what the edit changes, e.g. "smile".
        vector: [512] (the same for every row it touches) or [S,512] (one for each style row).
        generator: key of the generator whose W space it lives in.
        rows: style rows it touches; None is all of them.
        strength_range: strengths between which the edit was measured or seen to be useful.
        source: where it came from (method, samples, seed, package or paper).
        notes: whatever else is worth keeping beside it, e.g. measured side effects.

    Raises:
        InputError: a number is not finite, or vector, rows or range cannot be those of an edit.
    """

    name: str
    vector: Tensor
    generator: str
    rows: tuple[int, ...] | None = None
    strength_range: tuple[float, float] = (-3.0, 3.0)
    source: str = ""
    notes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        low, high = self.strength_range
        if self.vector.ndim not in (1, 2) or not len(self.vector):
            self._refuse(f"its vector has shape {list(self.vector.shape)}")
        if not self.vector.isfinite().all() or not (math.isfinite(low) and math.isfinite(high)):
            self._refuse("its vector or range is not finite")
        if low > high:
            self._refuse(f"its range, {low:g} to {high:g}, runs downwards")
        rows = (0,) if self.rows is None else self.rows
        if not rows or min(rows) < 0 or max(rows) >= MOST_ROWS:
            self._refuse(f"it touches no rows, or others than 0 to {MOST_ROWS - 1}")

    def _refuse(self, reason: str) -> None:
        raise InputError(f"'{self.name}' cannot be a direction: {reason}; make it again.")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash((self.name, self.generator, self.rows, _plain(self.vector)))

    def _content(self) -> list[Hashable]:
        return [_plain(getattr(self, one.name)) for one in fields(self)]

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


@dataclass(frozen=True, eq=False)
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mean.isfinite().all() or not math.isfinite(self.target):
            self._refuse("its origin or target is not finite")
        if self.vector.ndim != 1 or self.mean.shape != self.vector.shape:
            self._refuse(f"its origin has shape {list(self.mean.shape)}")

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
    """Directions with strengths, applied one after the other.

    Raises:
        InputError: a strength is not finite.
    """

    steps: tuple[tuple[Direction, float], ...]

    def __post_init__(self) -> None:
        for direction, strength in self.steps:
            if not math.isfinite(strength):
                raise InputError(
                    f"The strength of '{direction.name}' is {strength}; give a number."
                )

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


def _plain(value: Any) -> Hashable:
    """A field as a value that can be compared and hashed; tensors by their numbers."""
    if isinstance(value, Tensor):
        # Adding 0 makes one of the two zeros, which are equal, too.
        numbers = (value.detach().cpu() + 0).contiguous()
        return (numbers.dtype, numbers.shape, numbers.view(torch.uint8).numpy().tobytes())
    return tuple(sorted(value.items())) if isinstance(value, dict) else value
