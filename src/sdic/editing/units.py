"""Strengths in human units: years, degrees, and shares of a direction's useful range.

A direction that was calibrated has two notes: `unit` ("years" or "degrees") and `per_strength`,
the mean change in that unit that strength 1 makes by a network that judges.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Protocol

from sdic.errors import InputError

UNIT, PER_STRENGTH = "unit", "per_strength"  # keys of the notes
SUFFIXES = {"y": "years", "deg": "degrees"}
SHARE = "%"
REACH = 10  # strengths beyond this many times the useful range are refused
FORMS = "a number (strength), 80% (share of the useful range), +15y (years) or -20deg (degrees)"
_AMOUNT = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([a-zA-Z%]*)\s*")


class Measured(Protocol):
    """What amounts need of a direction; a `Direction` has it, and so has its description."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def strength_range(self) -> tuple[float, float]:
        """The strengths between which it is useful."""

    @property
    def notes(self) -> Mapping[str, str]:
        """Its calibration, among others."""


def to_strength(direction: Measured, amount: str | float) -> float:
    """The strength that an amount of a direction stands for.

    Args:
        direction: what is to be applied.
        amount: a plain number is the strength itself. A text is a number with a unit: "y" (years)
            and "deg" (degrees) are divided by the direction's calibration, which is linear, so
            that amounts beyond its useful range are a guess. "100%" is the upper end of that
            range, "-100%" its lower end.

    Raises:
        InputError: the text is no amount, the direction has no calibration in this unit, or the
            strength is not finite or lies beyond all that was ever measured.
    """
    try:
        strength = _read(direction, amount) if isinstance(amount, str) else float(amount)
    except OverflowError:  # an integer that no float holds
        strength = math.inf
    if not math.isfinite(strength):
        raise InputError(f"The strength of '{direction.name}' is {strength}; give a number.")
    low, high = direction.strength_range
    if abs(strength) > REACH * max(-low, high):
        raise InputError(
            f"The strength {strength:.3g} of '{direction.name}' is far outside its useful range, "
            f"{low:g} to {high:g}; at most {REACH} times that is applied."
        )
    return strength


def _read(direction: Measured, amount: str) -> float:
    match = _AMOUNT.fullmatch(amount)
    if match is None or match[2] not in ("", SHARE, *SUFFIXES):
        raise InputError(f"'{amount}' is no amount of '{direction.name}'; expected {FORMS}.")
    value, suffix = float(match[1]), match[2]
    if suffix == SHARE:
        return _of_range(direction, value / 100)
    return value / calibration(direction, SUFFIXES[suffix]) if suffix else value


def calibration(direction: Measured, unit: str) -> float:
    """Change in a unit ("years", "degrees") that strength 1 of a direction makes.

    Raises:
        InputError: the direction was not calibrated, or in another unit.
    """
    known = direction.notes.get(UNIT)
    try:
        per_strength = float(direction.notes.get(PER_STRENGTH, "nan"))
    except ValueError:
        per_strength = math.nan
    if known != unit or not math.isfinite(per_strength) or per_strength == 0:
        found = f"its unit is {known}" if known else "it was not calibrated"
        raise InputError(
            f"The direction '{direction.name}' cannot be given in {unit}, since {found}; give a "
            "strength or a share of its useful range, e.g. 2 or 80%."
        )
    return per_strength


def _of_range(direction: Measured, share: float) -> float:
    low, high = direction.strength_range
    end = high if share >= 0 else -low
    if share and end <= 0:
        side = "above" if share > 0 else "below"
        raise InputError(
            f"The useful range of '{direction.name}' is {low:g} to {high:g}, nothing {side} 0; "
            "give a share of the other sign, or a strength."
        )
    return share * end
