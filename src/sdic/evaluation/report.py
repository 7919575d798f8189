"""From results of single images to one report: means, shares that are kept, failures by name."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sdic.evaluation.editing import (
    EQUAL_CHANGES,
    REFERENCE,
    MeasuredEdit,
    by_direction,
    kept_share,
)
from sdic.evaluation.store import ImageResult
from sdic.metrics import at_equal_change

FORMAT = "sdic-benchmark-1"
TRADE_OFF = "id_dlib"
IDENTITY_PREFIX = "id_"  # of metrics that also judge edits
COSTS = ("seconds", "peak_memory_mb")

# The report as its JSON file has it.
Report: TypeAlias = dict[str, Any]
Values: TypeAlias = list[float | None]


@dataclass(frozen=True)
class MethodOutcome:
    """All images under one method.

    Attributes:
        weights: digest of the method's weights.
        results: for each image its result, or the reason why there is none.
    """

    weights: str
    results: list[ImageResult | str]


def assemble(
    protocol: Mapping[str, Any],
    names: Sequence[str],
    outcomes: Mapping[str, MethodOutcome],
    edits: Sequence[MeasuredEdit],
    metric_names: Sequence[str],
    attributes: Sequence[str],
    frechet: Mapping[str, float | None],
) -> Report:
    """The report: everything that is written to files, as plain values.

    `results`, `editing`, `kept_of_e4e`, `curves` and `equal_change` are by method; `per_image` is
    in the order of `images`, with null for an image that failed under the method.

    Args:
        protocol: how it was measured.
        names: of the images.
        outcomes: by method.
        edits: the edits.
        metric_names: metrics of the reconstruction; those with "id_" are of the edits too.
        attributes: names of the attributes that were read.
        frechet: distance by method.
    """
    identities = [name for name in metric_names if name.startswith(IDENTITY_PREFIX)]
    report: Report = {
        "format": FORMAT,
        "protocol": dict(protocol),
        "images": list(names),
        "methods": {name: {"weights": outcome.weights} for name, outcome in outcomes.items()},
        "results": {
            method: {
                name: summarise([_metric(result, name) for result in outcome.results])
                for name in (*metric_names, *COSTS)
            }
            for method, outcome in outcomes.items()
        },
        "sets": {method: {"frechet_lite0": value} for method, value in frechet.items()},
        "editing": {
            method: {
                edit.label: _edit(outcome.results, edit, identities, attributes) for edit in edits
            }
            for method, outcome in outcomes.items()
        },
        "failures": [
            {"method": method, "image": name, "reason": result}
            for method, outcome in outcomes.items()
            for name, result in zip(names, outcome.results, strict=True)
            if isinstance(result, str)
        ],
    }
    report["kept_of_e4e"] = _add_shares(report["editing"], edits)
    report["curves"] = {method: _curves(report, method, edits) for method in outcomes}
    report["equal_change"] = {
        method: _equal_changes(curves, protocol["metrics"])
        for method, curves in report["curves"].items()
    }
    return report


def summarise(values: Values) -> dict[str, Any]:
    """Mean, median, minimum and maximum of what is there, and the values themselves."""
    there = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(there) if there else None,
        "median": statistics.median(there) if there else None,
        "min": min(there, default=None),
        "max": max(there, default=None),
        "per_image": values,
    }


def _metric(result: ImageResult | str, name: str) -> float | None:
    return result.metrics[name] if isinstance(result, ImageResult) else None


def _edit(
    results: Sequence[ImageResult | str],
    edit: MeasuredEdit,
    identities: Sequence[str],
    attributes: Sequence[str],
) -> dict[str, Any]:
    """One edit under one method: identity after it, and what it changed."""
    found = [
        result.edits[edit.label] if isinstance(result, ImageResult) else None for result in results
    ]
    changes = {
        name: summarise([None if result is None else result.changes[name] for result in found])
        for name in attributes
    }
    entry: dict[str, Any] = {
        "attribute": edit.attribute,
        "strength": edit.strength,
        "change": changes.pop(edit.attribute, None) if edit.attribute else None,
        "side_effects": changes,
    }
    for name in identities:
        entry[name] = summarise(
            [None if result is None else result.metrics[name] for result in found]
        )
    entry[f"{TRADE_OFF}_per_change"] = _per_change(entry)
    return entry


def _per_change(entry: Mapping[str, Any]) -> float | None:
    """Identity distance for each unit of change; None where the edit did not go the asked way."""
    if entry["change"] is None or TRADE_OFF not in entry or entry["change"]["mean"] is None:
        return None
    change = entry["change"]["mean"] * (1 if entry["strength"] > 0 else -1)
    return float(entry[TRADE_OFF]["mean"] / change) if change > 0 else None


def _curves(
    report: Report, method: str, edits: Sequence[MeasuredEdit]
) -> dict[str, dict[str, Any]]:
    """What each direction of several strengths changes, and costs; the reconstruction is one point.

    By direction: `attribute`, and lists `strength`, `change` and for each metric of identity, over
    the strengths from the lowest on; the values are means over the images.
    """
    entries = report["editing"][method]
    curves = {}
    for direction, group in by_direction(edits).items():
        done = [edit for edit in group if entries[edit.label]["change"]["mean"] is not None]
        if len(done) < 2:
            continue
        names = [name for name in entries[done[0].label] if name in report["results"][method]]
        points = [
            {"strength": edit.strength, "change": entries[edit.label]["change"]["mean"]}
            | {name: entries[edit.label][name]["mean"] for name in names}
            for edit in done
        ]
        unedited = {name: report["results"][method][name]["mean"] for name in names}
        points.append({"strength": 0.0, "change": 0.0} | unedited)
        points.sort(key=lambda point: point["strength"])
        curves[direction] = {"attribute": done[0].attribute} | {
            key: [point[key] for point in points] for key in points[0]
        }
    return curves


def _equal_changes(
    curves: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Identity where a direction changes its attribute by a fixed amount, towards either side.

    Sides with fewer than two strengths are left out. `reason` says why there are no values.
    """
    rows = []
    for direction, curve in curves.items():
        size = EQUAL_CHANGES.get(curve["attribute"])
        for wanted in () if size is None else (size, -size):
            if sum(strength * wanted > 0 for strength in curve["strength"]) < 2:
                continue
            row = {"direction": direction, "attribute": curve["attribute"], "change": wanted}
            for name in (name for name in curve if name in metrics):
                rising = metrics[name]["better"] == "lower"
                found = at_equal_change(curve["change"], curve[name], wanted, rising)
                row |= {name: found.value, "reason": found.reason}
            rows.append(row)
    return rows


def _add_shares(
    editing: Mapping[str, Mapping[str, dict[str, Any]]], edits: Sequence[MeasuredEdit]
) -> dict[str, dict[str, float | None]]:
    """Write the share of e4e's change into each edit; returns it by method and attribute."""
    if REFERENCE not in editing:
        return {}
    shares: dict[str, dict[str, float | None]] = {}
    for method, entries in editing.items():
        shares[method] = {}
        by_attribute: dict[str, list[MeasuredEdit]] = {}
        for edit in edits:
            if edit.attribute is not None:
                by_attribute.setdefault(edit.attribute, []).append(edit)
                entries[edit.label][f"kept_of_{REFERENCE}"] = _share(editing, method, [edit])
        for attribute, group in by_attribute.items():
            shares[method][attribute] = _share(editing, method, group)
    return shares


def _share(
    editing: Mapping[str, Mapping[str, dict[str, Any]]], method: str, edits: Sequence[MeasuredEdit]
) -> float | None:
    changes, reference = (
        [_per_image(editing[name][edit.label]) for edit in edits] for name in (method, REFERENCE)
    )
    if not all(changes) or not all(reference):
        return None
    return kept_share(changes, reference, [edit.strength for edit in edits])


def _per_image(entry: Mapping[str, Any]) -> Values:
    change = entry["change"]
    return change["per_image"] if change else []
