"""What an edit costs and what it brings: identity after it, and the change of its attribute."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdic import recognition
from sdic.editing.direction import Direction, Edit
from sdic.errors import InputError
from sdic.evaluation.store import tensor_digest

# Attributes that judge directions of another name.
ATTRIBUTES = {"smile": "happiness"}
# Changes of attributes, in their units, at which what an edit costs is compared between methods.
EQUAL_CHANGES = {"age": 13.0, "happiness": 6.0, "yaw": 13.0}
REFERENCE = "e4e"  # the plain encoder, whose attribute change counts as 1
_LEAST_CHANGE = 1e-6  # below it a share of the reference's change says nothing


@dataclass(frozen=True)
class MeasuredEdit:
    """One edit to be measured.

    Attributes:
        label: "NAME=STRENGTH", its key in reports.
        direction: what is edited.
        strength: how far.
        attribute: the attribute that judges it, or None where no network can.
    """

    label: str
    direction: Direction
    strength: float
    attribute: str | None

    @classmethod
    def of(cls, direction: Direction, strength: float) -> MeasuredEdit:
        """The edit of a direction at a strength, with the attribute that judges it.

        Raises:
            InputError: the strength is 0 or not finite.
        """
        if not torch.isfinite(torch.tensor(strength)) or strength == 0:
            raise InputError(
                f"The strength of '{direction.name}' is {strength}; give a number other than 0."
            )
        name = ATTRIBUTES.get(direction.name, direction.name)
        attribute = name if name in recognition.list_attributes() else None
        return cls(f"{direction.name}={strength:+g}", direction, float(strength), attribute)

    @property
    def edit(self) -> Edit:
        """The edit itself."""
        return Edit.of(self.direction, self.strength)

    @property
    def file_label(self) -> str:
        """The label with nothing in it that a file name cannot hold."""
        return re.sub(r"[^\w.=+-]", "_", self.label)

    def describe(self) -> dict[str, Any]:
        """All that the edit depends on, for the protocol."""
        return {
            "direction": self.direction.name,
            "strength": self.strength,
            "attribute": self.attribute,
            "source": self.direction.source,
            "vector": tensor_digest(self.direction.vector),
            "rows": None if self.direction.rows is None else list(self.direction.rows),
        }


@dataclass(frozen=True)
class AttributeJudge:
    """An attribute and how it is read.

    Attributes:
        attribute: its name.
        unit: of the values; log-odds for a probability, since those never saturate.
        network: name of the network that reads.
        score: images [N,3,256,256] in [-1,1] to values [N].
    """

    attribute: str
    unit: str
    network: str
    score: Callable[[Tensor], Tensor]


def edits_of_range(directions: Iterable[Direction]) -> list[MeasuredEdit]:
    """Edits at both ends of the useful range of each direction; an end at 0 is left out."""
    return [
        MeasuredEdit.of(direction, strength)
        for direction in directions
        for strength in direction.strength_range
        if strength
    ]


def by_direction(edits: Iterable[MeasuredEdit]) -> dict[str, list[MeasuredEdit]]:
    """Edits whose attribute can be judged, by the name of the direction, from the lowest strength.

    The measured strengths of one direction make a curve: what it costs over what it changes.
    """
    groups: dict[str, list[MeasuredEdit]] = {}
    for edit in sorted(edits, key=lambda edit: edit.strength):
        if edit.attribute is not None:
            groups.setdefault(edit.direction.name, []).append(edit)
    return groups


def check_edits(edits: Sequence[MeasuredEdit]) -> None:
    """Raise InputError if two edits have one label."""
    labels = [edit.label for edit in edits]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"The edit {label} is asked for twice; ask once.")


def load_attribute_judges(edits: Iterable[MeasuredEdit]) -> tuple[AttributeJudge, ...]:
    """The judging networks of the attributes that the edits change, each attribute once.

    Raises:
        InputError: dlib is wanted and not installed.
        WeightsError: weights cannot be fetched.
    """
    names = dict.fromkeys(edit.attribute for edit in edits if edit.attribute is not None)
    scorers = recognition.create_scorers(names, role="judging")
    judges = []
    for name, scorer in scorers.items():
        unit = scorer.attribute.unit
        unit = "log-odds" if unit == "probability" else unit
        judges.append(AttributeJudge(name, unit, scorer.network, scorer.margin))
    return tuple(judges)


def kept_share(
    changes: Sequence[Sequence[float | None]],
    reference: Sequence[Sequence[float | None]],
    strengths: Sequence[float],
) -> float | None:
    """How much of the reference's attribute change a method keeps: 1 is all of it.

    The changes count in the direction that was asked for, so those at both ends of a range add up:
    sum of sign(s) c over sum of sign(s) c_ref, over all pairs that both have.

    Args:
        changes: for each of E edits of one attribute, the change of each image; None where failed.
        reference: the same of the reference method.
        strengths: of the E edits.

    Returns:
        The share, or None where the reference changes nothing.
    """
    total = reference_total = 0.0
    for values, others, strength in zip(changes, reference, strengths, strict=True):
        sign = 1 if strength > 0 else -1
        for value, other in zip(values, others, strict=True):
            if value is not None and other is not None:
                total += sign * value
                reference_total += sign * other
    return total / reference_total if abs(reference_total) > _LEAST_CHANGE else None
