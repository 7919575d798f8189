"""What an edit costs at a given change of its attribute, so that methods can be compared.

One strength changes one method's faces by nine years and another's by fifteen; their identity
distances then say nothing. Measured at several strengths, both have a distance at thirteen years.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class AtChange:
    """A value at a wanted change, or the reason why there is none.

    Attributes:
        value: interpolated; None where the measured changes do not reach the wanted one.
        reason: why there is no value; empty where there is one.
    """

    value: float | None
    reason: str = ""


def at_equal_change(
    changes: Sequence[float], values: Sequence[float], wanted: float, increasing: bool = True
) -> AtChange:
    """The value at a wanted change, from points measured over strengths of one edit.

    The points on the wanted one's side of 0 are brought into order by isotonic regression (an edit
    that changes more costs no less; noise is averaged), then joined by straight lines.
    Nothing is extrapolated.

    Args:
        changes: of the attribute, in its unit; the unedited image belongs to them, with 0.
        values: what was measured at each, e.g. mean identity distance.
        wanted: the change at which methods are compared, with its sign.
        increasing: the value grows with the size of the change, as distances do; cosines fall.
    """
    sign = math.copysign(1.0, wanted)
    points = sorted(
        (sign * change, value)
        for change, value in zip(changes, values, strict=True)
        if sign * change >= 0
    )
    if len(points) < 2:
        return AtChange(None, f"fewer than two points towards {wanted:+g} were measured")
    low, high = points[0][0], points[-1][0]
    if not low <= abs(wanted) <= high:
        return AtChange(None, f"changes of {sign * low:.3g} to {sign * high:.3g} were measured")
    turn = 1 if increasing else -1
    ordered = _isotonic([turn * value for _, value in points])
    at = np.interp(abs(wanted), [size for size, _ in points], ordered)
    return AtChange(turn * float(at))


def _isotonic(values: Sequence[float]) -> list[float]:
    """The nearest values in rising order, by least squares (pool adjacent violators)."""
    blocks: list[tuple[float, int]] = []
    for value in values:
        mean, count = value, 1
        while blocks and blocks[-1][0] > mean:
            other, others = blocks.pop()
            mean, count = (mean * count + other * others) / (count + others), count + others
        blocks.append((mean, count))
    return [mean for mean, count in blocks for _ in range(count)]
